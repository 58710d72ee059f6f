//! What the tools are called with. A pure function: what a tool cannot be told is an error and never left out.
//!
//! | | result |
//! |---|---|
//! | docker buildx | `--output type=oci`: BuildKit keeps what an image has beyond the OCI specification, `HEALTHCHECK` for one |
//! | buildah, podman | `--format docker` and `push docker-archive:`; an OCI archive of theirs would lose the `HEALTHCHECK` |

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dpack_compose::project::Build;
use dpack_payload::platform::Platform;

use super::Tool;
use crate::pull::{Format, LocalSource};

/// Everything that decides what is called.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) build: &'a Build,
    pub(super) platform: &'a Platform,
    /// Folder that relative contexts start from.
    pub(super) project_dir: &'a Path,
    /// User's home folder, for `~`.
    pub(super) home: Option<&'a Path>,
    /// Folder for the result and the tool's notes.
    pub(super) scratch: &'a Path,
    /// The Dockerfile, where the build has it inline.
    pub(super) inline: Option<&'a Path>,
    /// Files with secrets, or variables they are in, by ID.
    pub(super) secrets: &'a BTreeMap<String, Secret>,
}

/// Where a tool finds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    File(PathBuf),
    Variable(String),
}

/// What a tool has no way to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    /// Key of `build`.
    pub(super) key: &'static str,
    /// Why.
    pub(super) reason: String,
}

/// Arguments of the build.
pub(super) fn build(tool: Tool, input: &Input<'_>) -> Result<Vec<OsString>, Unsupported> {
    let Input { build, scratch, .. } = input;
    let mut call = Call::default();
    match tool {
        Tool::Docker => {
            call.words(["buildx", "build", "--progress", "plain", "--provenance=false", "--sbom=false"]);
            let mut output = OsString::from("type=oci,dest=");
            output.push(scratch.join(ARCHIVE));
            call.option("--output", output);
        }
        Tool::Buildah | Tool::Podman => {
            call.words(["build", "--format", "docker", "--layers"]);
            call.option("--iidfile", scratch.join(IMAGE_ID));
        }
    }
    call.option("--platform", input.platform.to_string());
    let context = place(&build.context, input);
    if let Some(file) = input.inline {
        call.option("--file", file);
    } else if let Some(file) = &build.dockerfile {
        let remote = !matches!(context, Place::Path(_)) || file.contains("://");
        call.option("--file", if remote { file.into() } else { context.path().join(file).into_os_string() });
    }
    call.maybe("--target", build.target.as_deref());
    call.maybe("--network", build.network.as_deref());
    call.pairs("--build-arg", &build.args);
    call.pairs("--label", &build.labels);
    for (name, addresses) in &build.extra_hosts {
        addresses.iter().for_each(|address| call.option("--add-host", format!("{name}:{address}")));
    }
    for (name, value) in &build.additional_contexts {
        let mut pair = OsString::from(format!("{name}="));
        pair.push(place(value, input).path());
        call.option("--build-context", pair);
    }
    for (id, secret) in input.secrets {
        let mut value = OsString::from(format!("id={id},"));
        match secret {
            Secret::File(path) => {
                value.push("src=");
                value.push(path);
            }
            Secret::Variable(name) => value.push(format!("env={name}")),
        }
        call.option("--secret", value);
    }
    build.ssh.iter().for_each(|agent| call.option("--ssh", agent));
    if build.no_cache {
        call.words(["--no-cache"]);
    }
    if build.pull {
        call.words(["--pull"]);
    }
    if let Some(size) = build.shm_size {
        call.option("--shm-size", size.to_string());
    }
    for (name, limit) in &build.ulimits {
        call.option("--ulimit", format!("{name}={}:{}", limit.soft, limit.hard));
    }
    for (key, flag, places) in
        [("cache_from", "--cache-from", &build.cache_from), ("cache_to", "--cache-to", &build.cache_to)]
    {
        for place in places {
            call.option(flag, cache(tool, key, place)?);
        }
    }
    only_docker(tool, "no_cache_filter", &build.no_cache_filter)?;
    build.no_cache_filter.iter().for_each(|stage| call.option("--no-cache-filter", stage));
    only_docker(tool, "entitlements", &build.entitlements)?;
    build.entitlements.iter().for_each(|what| call.option("--allow", what));
    call.0.push("--".into());
    call.0.push(context.path().into());
    Ok(call.0)
}

/// Arguments that make an archive of what was built, for tools whose build does not.
pub(super) fn export(tool: Tool, id: &str, scratch: &Path) -> Option<Vec<OsString>> {
    if tool == Tool::Docker {
        return None;
    }
    let mut archive = OsString::from("docker-archive:");
    archive.push(scratch.join(ARCHIVE));
    Some(vec!["push".into(), "--quiet".into(), id.into(), archive])
}

/// Where the result lies.
pub(super) fn archive(tool: Tool, scratch: &Path) -> LocalSource {
    let format = if tool == Tool::Docker { Format::OciArchive } else { Format::DockerArchive };
    LocalSource { format, path: scratch.join(ARCHIVE), reference: None }
}

const ARCHIVE: &str = "image.tar";
/// The ID of what buildah or podman built.
pub(super) const IMAGE_ID: &str = "id";

/// buildah and podman know repositories only, docker buildx has several types of places.
fn cache(tool: Tool, key: &'static str, place: &str) -> Result<String, Unsupported> {
    if tool == Tool::Docker || !place.contains('=') {
        return Ok(place.to_owned());
    }
    let of = |name: &str| place.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    match (of("type"), of("ref")) {
        (Some("registry"), Some(reference)) => Ok(reference.to_owned()),
        _ => {
            Err(Unsupported { key, reason: format!("{tool} keeps it in registries only, not in `{place}`") })
        }
    }
}

fn only_docker(tool: Tool, key: &'static str, values: &[String]) -> Result<(), Unsupported> {
    match tool {
        Tool::Buildah | Tool::Podman if !values.is_empty() => {
            Err(Unsupported { key, reason: format!("{tool} has no such option") })
        }
        _ => Ok(()),
    }
}

/// A context.
enum Place {
    Path(PathBuf),
    Address(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Place::Path(path) | Place::Address(path) => path,
        }
    }
}

fn place(text: &str, input: &Input<'_>) -> Place {
    if Build::is_remote(text) {
        return Place::Address(text.into());
    }
    Place::Path(super::on_this_machine(text, input.project_dir, input.home))
}

#[derive(Default)]
struct Call(Vec<OsString>);

impl Call {
    fn words<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(OsString::from));
    }

    fn option(&mut self, flag: &str, value: impl Into<OsString>) {
        self.0.extend([flag.into(), value.into()]);
    }

    fn maybe(&mut self, flag: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.option(flag, value);
        }
    }

    fn pairs(&mut self, flag: &str, pairs: &BTreeMap<String, String>) {
        pairs.iter().for_each(|(name, value)| self.option(flag, format!("{name}={value}")));
    }
}

#[cfg(test)]
mod tests {
    use dpack_compose::project::Ulimit;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn called(tool: Tool, build_: &Build) -> Result<String, Unsupported> {
        let secrets = BTreeMap::from([
            ("file".to_owned(), Secret::File("/p/token".into())),
            ("env".to_owned(), Secret::Variable("TOKEN".to_owned())),
        ]);
        let input = Input {
            build: build_,
            platform: &"linux/arm/v7".parse().unwrap(),
            project_dir: Path::new("/p"),
            home: Some(Path::new("/home/me")),
            scratch: Path::new("/s"),
            inline: build_.dockerfile_inline.as_ref().map(|_| Path::new("/s/Dockerfile")),
            secrets: if build_.secrets.is_empty() { &BTreeMap::new() } else { &secrets },
        };
        let words = build(tool, &input)?;
        Ok(words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    fn everything() -> Build {
        Build {
            context: "./web".to_owned(),
            dockerfile: Some("docker/File".to_owned()),
            additional_contexts: map(&[("base", "docker-image://alpine"), ("lib", "~/lib")]),
            target: Some("final".to_owned()),
            args: map(&[("A", "1"), ("B", "x y")]),
            labels: map(&[("l", "v")]),
            network: Some("host".to_owned()),
            extra_hosts: BTreeMap::from([("h".to_owned(), vec!["1.2.3.4".to_owned(), "::1".to_owned()])]),
            secrets: map(&[("file", "token"), ("env", "other")]),
            ssh: vec!["default".to_owned()],
            no_cache: true,
            pull: true,
            cache_from: vec!["type=registry,ref=r/c".to_owned(), "r/d".to_owned()],
            shm_size: Some(1024),
            ulimits: BTreeMap::from([("nofile".to_owned(), Ulimit { soft: 1, hard: 2 })]),
            ..Build::default()
        }
    }

    const COMMON: &str = "--platform linux/arm/v7 --file /p/web/docker/File --target final --network host \
        --build-arg A=1 --build-arg B=x y --label l=v --add-host h:1.2.3.4 --add-host h:::1 \
        --build-context base=docker-image://alpine --build-context lib=/home/me/lib --secret id=env,env=TOKEN \
        --secret id=file,src=/p/token --ssh default --no-cache --pull --shm-size 1024 --ulimit nofile=1:2";

    #[test]
    fn each_key_has_its_flag() {
        assert_eq!(
            called(Tool::Docker, &everything()).unwrap(),
            format!(
                "buildx build --progress plain --provenance=false --sbom=false --output type=oci,dest=/s/image.tar \
                 {COMMON} --cache-from type=registry,ref=r/c --cache-from r/d -- /p/web"
            )
        );
        for tool in [Tool::Buildah, Tool::Podman] {
            assert_eq!(
                called(tool, &everything()).unwrap(),
                format!(
                    "build --format docker --layers --iidfile /s/id {COMMON} --cache-from r/c --cache-from r/d -- /p/web"
                )
            );
        }
    }

    #[test]
    fn dockerfiles_are_inline_or_lie_in_the_context() {
        let file = |context: &str, dockerfile: Option<&str>, inline: Option<&str>| {
            let build = Build {
                context: context.to_owned(),
                dockerfile: dockerfile.map(str::to_owned),
                dockerfile_inline: inline.map(str::to_owned),
                ..Build::default()
            };
            let call = called(Tool::Buildah, &build).unwrap();
            call.split_once("linux/arm/v7 ").unwrap().1.to_owned()
        };
        assert_eq!(file(".", Some("Dockerfile"), None), "--file /p/Dockerfile -- /p");
        assert_eq!(file("/x", Some("/abs/File"), None), "--file /abs/File -- /x");
        assert_eq!(file(".", None, Some("FROM scratch")), "--file /s/Dockerfile -- /p");
        let git = "https://example.com/a.git#main";
        assert_eq!(file(git, Some("Dockerfile"), None), format!("--file Dockerfile -- {git}"));
    }

    #[test]
    fn what_a_tool_cannot_be_told_is_an_error() {
        let filter = Build { no_cache_filter: vec!["a".to_owned()], ..Build::default() };
        let allowed = Build { entitlements: vec!["network.host".to_owned()], ..Build::default() };
        let local = Build { cache_to: vec!["type=local,dest=x".to_owned()], ..Build::default() };
        for (build, key) in [(&filter, "no_cache_filter"), (&allowed, "entitlements"), (&local, "cache_to")] {
            assert_eq!(called(Tool::Podman, build).unwrap_err().key, key);
            assert!(called(Tool::Docker, build).is_ok());
        }
    }
}
