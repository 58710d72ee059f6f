//! From flags and environment to options, once. Nothing else in this program reads the environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `DPACK_CACHE_DIR` | folder of the cache; default `$XDG_CACHE_HOME/dpack`, then `~/.cache/dpack` |
//! | `DPACK_CACHE_SIZE` | size the cache is kept below, such as `20GiB`; default 10 GiB |
//! | `DPACK_STUB_DIR` | folder with runners to use instead of the embedded ones |
//! | `COMPOSE_FILE`, `COMPOSE_PATH_SEPARATOR` | Compose files, when none is given (read by the library, also in `.env`) |
//! | `COMPOSE_ENV_FILES`, `COMPOSE_PROFILES` | variable files and active profiles (read by the library) |
//! | `COMPOSE_PROJECT_NAME` | name of the project, when none is given |
//! | `REGISTRY_AUTH_FILE` | the one credential file to use |
//! | `DOCKER_CONFIG`, `XDG_RUNTIME_DIR`, `XDG_CONFIG_HOME`, `HOME` | where credential files are looked for |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | the system's certificate authorities (read by the TLS library) |
//! | `PATH` | where docker, buildah and podman are looked for; they get the whole environment |
//! | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies (read by the HTTP library) |
//! | `NO_COLOR` | no colours |
//!
//! The whole environment is also what the Compose files' variables are filled in with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack::build;
use dpack::compose;
use dpack::credentials::Credentials;
use dpack::image_tool::{self, Tool};
use dpack::project_files;
use dpack::pull::{self, LocalSource};
use dpack_compose::LoadOptions;
use dpack_payload::platform::Platform;
use dpack_payload::write::Level;
use dpack_targets::TARGETS;
use dpack_targets::stubs::stub_from;

use crate::args::{self, BuildArguments, ComposeArguments};
use crate::failure::Usage;

const DEFAULT_CACHE_SIZE: u64 = 10 << 30;
/// Registries give more than this to nobody.
const DOWNLOADS: usize = 6;

/// The environment, as it was when the program started.
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    working_dir: PathBuf,
}

impl Environment {
    /// Reads it.
    pub(crate) fn read() -> Result<Self> {
        let working_dir = std::env::current_dir().context("failed to find the working folder")?;
        Ok(Self { variables: std::env::vars_os().collect(), working_dir })
    }

    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|value| value.to_str()).map(str::to_owned)
    }

    /// True unless the user wants no colours.
    pub(crate) fn colours(&self) -> bool {
        self.get("NO_COLOR").is_none()
    }

    /// Folder of the cache.
    pub(crate) fn cache_dir(&self) -> Result<PathBuf> {
        if let Some(folder) = self.path("DPACK_CACHE_DIR") {
            return Ok(self.working_dir.join(folder));
        }
        // A relative path is invalid there (XDG Base Directory Specification).
        let xdg = self.path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let base = xdg.or_else(|| self.home().map(|home| home.join(".cache")));
        let usage = || Usage::new("there is no folder for the cache", "set HOME or DPACK_CACHE_DIR");
        Ok(base.ok_or_else(usage)?.join("dpack"))
    }

    /// Size that the cache is kept below.
    pub(crate) fn cache_limit(&self) -> Result<u64> {
        match self.text("DPACK_CACHE_SIZE") {
            Some(text) => parse_size(&text).ok_or_else(|| {
                Usage::new(format!("DPACK_CACHE_SIZE: `{text}` is not a size"), SIZE_HINT).into()
            }),
            None => Ok(DEFAULT_CACHE_SIZE),
        }
    }

    /// Credential files in the order of search: what is set explicitly first, then podman's, then Docker's.
    fn auth_files(&self) -> Vec<PathBuf> {
        let config = self
            .path("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| self.home().map(|home| home.join(".config")));
        let files = [
            self.path("DOCKER_CONFIG").map(|folder| folder.join("config.json")),
            self.path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            config.map(|folder| folder.join("containers/auth.json")),
            self.home().map(|home| home.join(".docker/config.json")),
        ];
        files.into_iter().flatten().collect()
    }

    fn stub_dir(&self) -> Option<PathBuf> {
        self.path(dpack_targets::stubs::STUB_DIR_VARIABLE)
    }
}

/// What `dpack build` and `dpack config` load.
pub(crate) fn compose(arguments: &ComposeArguments, environment: &Environment) -> compose::Options {
    let files: Vec<PathBuf> = arguments.file.iter().cloned().chain(arguments.compose_file.clone()).collect();
    let project_name = arguments.project_name.clone().or_else(|| environment.text("COMPOSE_PROJECT_NAME"));
    let env_files = if arguments.env_file.is_empty() { None } else { Some(arguments.env_file.clone()) };
    // What is not text cannot stand in a Compose file.
    let text = |value: &OsString| value.to_str().map(str::to_owned);
    let variables: Vec<(String, String)> =
        environment.variables.iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    let load = LoadOptions {
        environment: dpack_compose::Environment::new(variables.iter().cloned()),
        working_dir: environment.working_dir.clone(),
        files,
        project_dir: arguments.project_directory.clone(),
        env_files,
        project_name,
        profiles: arguments.profile.clone(),
    };
    compose::Options { load, variables, profiles: arguments.profile.clone(), show_only: false }
}

/// What `dpack build` does.
pub(crate) fn build(arguments: &BuildArguments, environment: &Environment) -> Result<build::Options> {
    let stub_dir = environment.stub_dir();
    let mut sources = BTreeMap::new();
    for text in &arguments.from {
        let (name, source) = parse_from(text)?;
        if sources.insert(name.clone(), source).is_some() {
            return Err(Usage::new(format!("--from names `{name}` twice"), "name each image once").into());
        }
    }
    let level = match &arguments.compression_level {
        Some(text) => text.parse().map_err(|error| Usage::plain(format!("--compression-level: {error}")))?,
        None => Level::default(),
    };
    let required = arguments.authfile.clone().or_else(|| environment.path("REGISTRY_AUTH_FILE"));
    let credentials = Credentials::load(required.as_deref(), &environment.auth_files())?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(build::Options {
        platforms: platforms(&arguments.platform, stub_dir.as_deref())?,
        output: arguments.output.clone(),
        sources,
        level,
        registries: pull::Options {
            insecure: arguments.insecure_registry.iter().cloned().collect(),
            authorities: arguments.ca.clone(),
            ..pull::Options::default()
        },
        credentials,
        cache: environment.cache_dir()?,
        cache_limit: environment.cache_limit()?,
        jobs: arguments.jobs.map_or(processors, usize::from),
        downloads: DOWNLOADS,
        stub_dir,
        image_tool: image_tool::Options {
            tool: arguments.builder.map(|tool| match tool {
                args::ImageTool::Docker => Tool::Docker,
                args::ImageTool::Buildah => Tool::Buildah,
                args::ImageTool::Podman => Tool::Podman,
            }),
            search_path: environment.get("PATH").cloned(),
            home: environment.home(),
        },
    })
}

/// Which files of the project folder travel.
pub(crate) fn project_files(arguments: &BuildArguments) -> Result<project_files::Options> {
    let limit = match &arguments.max_project_files {
        Some(text) => parse_size(text)
            .ok_or_else(|| Usage::new(format!("--max-project-files: `{text}` is not a size"), SIZE_HINT))?,
        None => project_files::DEFAULT_LIMIT,
    };
    Ok(project_files::Options { limit, secrets: arguments.embed_secret.iter().cloned().collect() })
}

/// Parses a platform from the command line.
pub(crate) fn platform(text: &str) -> Result<Platform> {
    text.parse().map_err(|error| Usage::plain(format!("--platform: {error}")).into())
}

/// The platforms asked for, or those there is a runner for.
fn platforms(asked: &[String], stub_dir: Option<&Path>) -> Result<Vec<Platform>> {
    if !asked.is_empty() {
        return asked.iter().map(|text| platform(text.trim())).collect();
    }
    let all: Vec<Platform> = TARGETS.iter().filter_map(|target| target.platform.parse().ok()).collect();
    let found: Vec<Platform> =
        all.iter().filter(|platform| stub_from(platform, stub_dir).is_ok()).cloned().collect();
    // With no runner at all the build itself says why.
    Ok(if found.is_empty() { all } else { found })
}

fn parse_from(text: &str) -> Result<(String, LocalSource)> {
    let usage = |reason: String| {
        let hint = "write it as NAME=oci:DIR[:REF], with NAME as in the Compose file";
        anyhow::Error::from(Usage::new(format!("--from {reason}"), hint))
    };
    let (name, source) = text.split_once('=').ok_or_else(|| usage(format!("`{text}` has no `=`")))?;
    let source = LocalSource::parse(source).map_err(usage)?;
    Ok((name.to_owned(), source))
}

/// How sizes are written.
pub(crate) const SIZE_HINT: &str = "write a number of bytes, or one with KB, MB, GB, KiB, MiB, GiB";

/// Parses `500MB`, `10GiB`, `4096`; a single letter means the binary unit, as in Docker.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value: f64 = number.parse().ok().filter(|value: &f64| value.is_finite())?;
    let bytes = value * factor as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Environment { variables, working_dir: "/project".into() }
    }

    #[test]
    fn the_cache_has_one_place() {
        for (variables, expected) in [
            (vec![("HOME", "/h")], "/h/.cache/dpack"),
            (vec![("HOME", "/h"), ("XDG_CACHE_HOME", "/x")], "/x/dpack"),
            (vec![("HOME", "/h"), ("XDG_CACHE_HOME", "x")], "/h/.cache/dpack"),
            (vec![("HOME", "/h"), ("DPACK_CACHE_DIR", "c")], "/project/c"),
        ] {
            assert_eq!(environment(&variables).cache_dir().unwrap(), Path::new(expected));
        }
        assert!(environment(&[]).cache_dir().is_err());
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("5GB", Some(5_000_000_000)),
            ("10 GiB", Some(10 << 30)),
            ("1.5k", Some(1536)),
            ("20g", Some(20 << 30)),
            ("", None),
            ("-1", None),
            ("5 XB", None),
            ("99999999999999GB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn credential_files_are_searched_in_order() {
        let variables = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/1"), ("DOCKER_CONFIG", "/d")];
        let files = environment(&variables).auth_files();
        let expected = [
            "/d/config.json",
            "/run/user/1/containers/auth.json",
            "/h/.config/containers/auth.json",
            "/h/.docker/config.json",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
    }

    #[test]
    fn compose_files_come_from_the_command_line_or_the_environment() {
        let arguments = |files: &[&str]| ComposeArguments {
            compose_file: None,
            file: files.iter().map(PathBuf::from).collect(),
            project_name: None,
            project_directory: None,
            env_file: Vec::new(),
            profile: Vec::new(),
        };
        let environment = environment(&[("COMPOSE_FILE", "a.yml:b.yml"), ("COMPOSE_PROJECT_NAME", "shop")]);
        let load = compose(&arguments(&[]), &environment).load;
        // The library reads the variable.
        assert!(load.files.is_empty());
        assert_eq!(load.environment.get("COMPOSE_FILE").map(|v| v.value.as_str()), Some("a.yml:b.yml"));
        assert_eq!(load.project_name.as_deref(), Some("shop"));
        assert_eq!(compose(&arguments(&["c.yml"]), &environment).load.files, ["c.yml"].map(PathBuf::from));
    }
}
