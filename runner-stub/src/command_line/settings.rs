//! Flags, environment and files, resolved once: everything the commands need to know about where they run.
//!
//! | variable | meaning |
//! |---|---|
//! | `DPACK_DATA_DIR` | data folder; `--data-dir` wins |
//! | `DPACK_STORAGE_DRIVER` | `overlay` or `copy`; without it, what works |
//! | `XDG_DATA_HOME`, `HOME` | where the data folder is otherwise |
//! | `XDG_RUNTIME_DIR` | where the sockets are |
//! | `COMPOSE_PROJECT_NAME` | project name; `-p` wins |
//! | `NO_COLOR` | no colour |
//! | `TERM` | `dumb`: no colour, no redrawing |
//!
//! Every variable of the environment takes part in the interpolation of the Compose model.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_bundle::users::{self, UserDatabase};
use dpack_compose::project::{FileSource, MountSource, Project, VolumePlace};
use dpack_compose::{Environment, Model, Resolved};
use dpack_payload::digest::DiffId;
use dpack_store::Driver;
use serde_json::{Value as Json, json};

use super::args::Global;
use crate::failure::{Failure, Kind};
use crate::paths::{Paths, ProjectPaths, Surroundings};
use crate::payload::{Executable, ProjectFiles};
use crate::project::Record;
use crate::protocol::Desired;

/// What the commands work with.
pub(crate) struct Settings {
    /// The executable and what is in it.
    pub(crate) executable: Executable,
    /// Where it lies: relative bind sources start from its folder.
    pub(crate) executable_path: PathBuf,
    /// Data and runtime folder.
    pub(crate) paths: Paths,
    /// Project name.
    pub(crate) name: String,
    /// The project's folders.
    pub(crate) project: ProjectPaths,
    /// The user.
    pub(crate) uid: u32,
    /// The storage driver that was asked for.
    pub(crate) driver: Option<Driver>,
    env_files: Vec<PathBuf>,
    profiles: Vec<String>,
    /// The user's home.
    pub(crate) home: Option<PathBuf>,
}

/// What passwd(5) says, for a service that is started without `HOME` (systemd's for root).
fn home_of(uid: u32) -> Option<PathBuf> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let user = users::resolve(&uid.to_string(), UserDatabase { passwd: &passwd, group: "" }).ok()?;
    (user.home != "/").then(|| user.home.into())
}

impl Settings {
    /// Resolves them. Reads this executable's index and touches nothing else.
    pub(crate) fn resolve(global: &Global) -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let executable = Executable::own()?;
        let uid = nix::unistd::geteuid().as_raw();
        let home = variable("HOME").map(PathBuf::from).or_else(|| home_of(uid));
        let paths = Paths::resolve(&Surroundings {
            data_dir: global.data_dir.clone().or_else(|| variable("DPACK_DATA_DIR").map(PathBuf::from)),
            xdg_data_home: variable("XDG_DATA_HOME").map(PathBuf::from),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR").map(PathBuf::from),
            home: home.clone(),
            uid,
            keeps_runtime_folder: dpack_sandbox::cgroup::keeps_runtime_folder(uid),
        })?;
        let driver = variable("DPACK_STORAGE_DRIVER").map(|name| name.to_string_lossy().parse::<Driver>());
        let driver = driver.transpose().map_err(|error| Failure::usage(error.to_string()))?;
        let asked = global.project_name.clone().or_else(|| std::env::var("COMPOSE_PROJECT_NAME").ok());
        let name = match asked.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => executable.application().name.clone(),
        };
        // Also what makes the name safe as a folder's.
        if !dpack_compose::is_project_name(&name) {
            return Err(Failure::usage(format!("`{name}` is not a project name"))
                .hint("lower-case letters, digits, `-` and `_`, starting with a letter or digit")
                .into());
        }
        let executable_path =
            std::env::current_exe().context("failed to find the path of this executable")?;
        let project = paths.find_project(&name);
        Ok(Self {
            executable,
            executable_path,
            paths,
            name,
            project,
            uid,
            driver,
            profiles: global.profile.clone(),
            env_files: global.env_file.clone(),
            home,
        })
    }

    /// Whether the user may be able to change the device's network.
    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Folder of the executable.
    pub(crate) fn folder(&self) -> &Path {
        self.executable_path.parent().unwrap_or(Path::new("/"))
    }

    /// Variables by precedence: the process's, then `--env-file` or `.env` beside the executable; the model adds those
    /// that travel with it.
    pub(crate) fn environment(&self) -> Result<Environment> {
        let process = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut environment = Environment::new(process);
        environment.set("COMPOSE_PROJECT_NAME", self.name.clone());
        let beside = self.folder().join(".env");
        let usual = beside.is_file().then_some(beside);
        let files: Vec<&PathBuf> =
            if self.env_files.is_empty() { usual.iter().collect() } else { self.env_files.iter().collect() };
        for file in files {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::usage(format!("failed to read the variables in `{}`: {error}", file.display()))
            })?;
            environment
                .add_file(&file.display().to_string(), &text)
                .map_err(|error| Failure::usage(format!("{}:{error}", file.display())))?;
        }
        Ok(environment)
    }

    /// The model with every variable filled in.
    pub(crate) fn resolved(&self) -> Result<Resolved> {
        self.resolved_with(&[], None)
    }

    fn resolved_with(&self, services: &[String], extra: Option<Json>) -> Result<Resolved> {
        let mut compose = self.executable.application().compose.clone();
        if let (Some(content), Some(layers)) = (extra, compose["layers"].as_array_mut()) {
            layers.push(json!({"file": "command line", "content": content}));
        }
        let model = Model::from_json(&compose).map_err(|errors| compose_failure(&errors))?;
        let options = dpack_compose::Options {
            profiles: &self.profiles,
            services,
            device: Some(&|path| self.device_file(path)),
            ..dpack_compose::Options::default()
        };
        Ok(dpack_compose::interpolate_with(&model, &self.environment()?, &options)
            .map_err(|errors| compose_failure(&errors))?)
    }

    /// An `env_file` that is the device's own.
    fn device_file(&self, path: &str) -> Result<Option<String>, String> {
        let path = match path.strip_prefix("~/") {
            Some(rest) => self.home.as_ref().ok_or("HOME is not set")?.join(rest),
            None => PathBuf::from(path),
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("failed to read ({error})")),
        }
    }

    /// What `up` asks for: the project, with bind sources where they are on this device. `services` were asked for by name.
    pub(crate) fn desired(&self, services: &[String]) -> Result<Desired> {
        self.desired_with(services, None)
    }

    /// The same with one more Compose file, which the command line stands for.
    pub(crate) fn desired_with(&self, services: &[String], extra: Option<Json>) -> Result<Desired> {
        let mut project = self.resolved_with(services, extra)?.project;
        let travelling = self.executable.project_files();
        let travelling = travelling.as_ref();
        for (name, service) in project.services.iter_mut().chain(&mut project.disabled) {
            for mount in &mut service.volumes {
                if let MountSource::Bind { source, .. } = &mut mount.source {
                    *source = self.device_path(source, travelling, || format!("service `{name}` mounts"))?;
                }
            }
        }
        for (name, volume) in &mut project.volumes {
            if let Some(VolumePlace::Bind(path)) = &mut volume.place {
                *path = self.device_path(path, None, || format!("volume `{name}` is"))?;
            }
        }
        let objects = project.configs.iter_mut().chain(&mut project.secrets);
        for (name, object) in objects {
            if let FileSource::File(path) = &mut object.source {
                *path = self.device_path(path, travelling, || format!("`{name}` is"))?;
            }
        }
        Ok(Desired { project, executable: self.executable_path.clone() })
    }

    /// What the last `up` asked for, else what one would ask for now.
    pub(crate) fn known(&self) -> Result<Project> {
        match Record::load(&self.project)? {
            Some(record) => Ok(record.desired.project),
            None => Ok(self.desired(&[])?.project),
        }
    }

    /// A path of a Compose file where it is on this device; `who` begins what is said when it cannot be.
    fn device_path(
        &self,
        written: &str,
        travelling: Option<&ProjectFiles>,
        who: impl Fn() -> String,
    ) -> Result<String, Failure> {
        let path = match written.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                let home = self.home.as_ref().ok_or_else(|| {
                    Failure::environment(format!("{} `{written}`, and HOME is not set", who()))
                })?;
                home.join(rest.trim_start_matches('/'))
            }
            _ => {
                let beside = self.folder().join(written);
                // What lies beside the executable is meant rather than what travels in it.
                let travels = if beside.exists() { None } else { travelled(written, travelling) };
                travels.map_or(beside, |(layer, path)| self.project.files(&layer).join(path))
            }
        };
        normal(&path).into_os_string().into_string().map_err(|path| {
            Failure::environment(format!("{} `{}`, which is not UTF-8", who(), path.display()))
        })
    }
}

/// A path of the project folder that travels in the executable, and the layer it is in.
fn travelled(written: &str, travelling: Option<&ProjectFiles>) -> Option<(DiffId, PathBuf)> {
    let travelling = travelling?;
    let path = Path::new(written);
    // Normal at the root is normal below it, unless it leads out.
    let mut depth = 0_i32;
    for component in path.components() {
        depth += match component {
            std::path::Component::Normal(_) => 1,
            std::path::Component::CurDir => 0,
            _ => -1,
        };
        if depth < 0 {
            return None;
        }
    }
    let path = normal(path);
    let inside = travelling.paths.iter().any(|travels| path.starts_with(travels));
    inside.then_some((travelling.layer, path))
}

/// The path without `.` and `..`, by name alone as Docker Compose does it.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

/// Mistakes in the model, one a line; the first line is the message.
fn compose_failure(errors: &dpack_compose::Errors) -> Failure {
    let hint = errors.iter().find_map(|diagnostic| diagnostic.hint.clone());
    Failure { kind: Kind::Input, message: errors.to_string(), hint, exit_status: None }
}

/// What the terminal can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Standard output takes colour.
    pub(crate) colour: bool,
    /// Standard error can be drawn over.
    pub(crate) redraw: bool,
}

impl Terminal {
    /// Looks at standard output, standard error, `NO_COLOR` and `TERM`.
    pub(crate) fn detect() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: !dumb && !no_colour && std::io::stdout().is_terminal(),
            redraw: !dumb && std::io::stderr().is_terminal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_is_found_below_its_path() {
        let layer = DiffId::of(b"");
        let files =
            |paths: &[&str]| ProjectFiles { layer, paths: paths.iter().map(|p| (*p).to_owned()).collect() };
        let found = |written: &str, files: &ProjectFiles| {
            travelled(written, Some(files)).map(|(_, path)| path.to_string_lossy().into_owned())
        };
        let some = files(&["conf", "app.env"]);
        assert_eq!(found("./conf", &some).as_deref(), Some("conf"));
        assert_eq!(found("./conf/a/../b", &some).as_deref(), Some("conf/b"));
        assert_eq!(found("./confuse", &some), None);
        assert_eq!(found("../conf", &some), None);
        assert_eq!(found("/conf", &some), None);
        assert_eq!(found(".", &some), None);
        assert_eq!(found("./x", &files(&[""])).as_deref(), Some("x"));
        assert_eq!(found(".", &files(&[""])).as_deref(), Some(""));
        assert_eq!(travelled("./conf", None), None);
    }

    #[test]
    fn paths_are_made_normal_by_name() {
        for (path, expected) in [("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/../a", "/a"), ("/a/b/", "/a/b")] {
            assert_eq!(normal(Path::new(path)), Path::new(expected));
        }
    }
}
