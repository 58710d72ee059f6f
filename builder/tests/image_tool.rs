//! `build:` with a real buildah, and what is said where there is none or it fails.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A project folder that is the home of a user whose images lie in it, too.
struct Home(tempfile::TempDir);

impl Home {
    fn new(files: &[(&str, &str)]) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        support::write_stubs(&home.path("stubs"));
        fs::create_dir(home.path("bin")).unwrap();
        for (name, text) in files {
            let path = home.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program of this name in the folder that is searched first.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs `dpack`; programs are found in `bin` and in these folders.
    fn dpack(&self, search: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpack"));
        command.args(arguments).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.env("PATH", format!("{}:{search}", self.path("bin").display()));
        command.env("DPACK_STUB_DIR", self.path("stubs")).env("TOKEN", "from the variable");
        // Neither a runtime nor overlayfs is needed this way.
        command.env("BUILDAH_ISOLATION", "chroot").env("STORAGE_DRIVER", "vfs");
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = {:?}\nrunroot = {:?}\n",
            self.path("g"),
            self.path("r")
        );
        fs::write(self.path("storage.conf"), storage).unwrap();
        command.env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"));
        command.output().unwrap()
    }

    /// Config and files of an image of an executable.
    fn image(&self, executable: &str, name: &str) -> (Value, BTreeMap<String, String>) {
        let layout = self.path(&format!("{executable}-{name}"));
        let to = format!("oci:{}", layout.display());
        let executable = format!("dist/{executable}");
        let output =
            self.dpack("", &["extract", &executable, "--image", name, "-o", &to, "--compression", "none"]);
        assert!(output.status.success(), "{output:?}");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
            fs::read(layout.join("blobs/sha256").join(digest)).unwrap()
        };
        let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
        let index = json(&fs::read(layout.join("index.json")).unwrap());
        let manifest = json(&blob(&index["manifests"][0]));
        let mut files = BTreeMap::new();
        for layer in manifest["layers"].as_array().unwrap() {
            let bytes = blob(layer);
            let mut tar = tar::Archive::new(bytes.as_slice());
            for entry in tar.entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut text = Vec::new();
                entry.read_to_end(&mut text).unwrap();
                files.insert(name, String::from_utf8_lossy(&text).into_owned());
            }
        }
        (json(&blob(&manifest["config"])), files)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Debian's static busybox is the whole userland.
const DOCKERFILE: &str = "
FROM scratch AS base
COPY busybox /bin/sh
FROM base AS tool
ARG WHO=nobody
COPY --from=extra note /note
RUN --mount=type=secret,id=token --mount=type=secret,id=file \
    echo \"$WHO $(/bin/sh -c 'read a < /run/secrets/token; read b < /run/secrets/file; echo $a, $b')\" > /said
HEALTHCHECK --interval=7s CMD [\"/bin/sh\", \"-c\", \"exit 0\"]
STOPSIGNAL SIGINT
CMD [\"/bin/sh\", \"-c\", \"echo hi\"]
FROM base AS last
RUN this is not built
";

#[test]
fn what_buildah_builds_is_in_the_executables() {
    let Some(busybox) =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
    else {
        panic!("busybox is needed: apt-get install busybox-static");
    };
    assert!(
        Path::new("/usr/bin/buildah").exists(),
        "buildah is needed: apt-get install --no-install-recommends buildah"
    );
    let compose = "
name: shop
secrets: {token: {environment: TOKEN}, passed: {file: ./secret}}
services:
  web:
    build:
      context: ./web
      dockerfile: docker/File
      target: tool
      args: {WHO: '${WHO:-me}'}
      labels: {made: here}
      additional_contexts: {extra: ./extra}
      secrets: [token, {source: passed, target: file}]
  other:
    image: example/other:1
    build: {dockerfile_inline: \"FROM scratch\\nCOPY extra/note /n\\nENV A=b\\n\"}
";
    let home = Home::new(&[
        ("compose.yml", compose),
        ("web/docker/File", DOCKERFILE),
        ("extra/note", "a note"),
        ("secret", "from the file\n"),
    ]);
    fs::copy(busybox, home.path("web/busybox")).unwrap();
    let built = home.dpack("/usr/bin:/bin", &["build", "--builder", "buildah", "--platform", "linux/amd64"]);
    assert!(built.status.success(), "{}", stderr(&built));
    let said = stderr(&built);
    assert!(
        said.contains("building compose.yml:7:7: services.web.build for linux/amd64 with buildah"),
        "{said}"
    );

    let (config, files) = home.image("shop-amd64", "shop-web");
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["Labels"]["made"], "here");
    assert_eq!(config["config"]["StopSignal"], "SIGINT");
    assert_eq!(config["config"]["Healthcheck"]["Interval"], 7_000_000_000_u64, "{config}");
    assert_eq!(files["note"], "a note");
    assert_eq!(files["said"], "me from the variable, from the file\n");
    let (config, files) = home.image("shop-amd64", "other");
    assert_eq!(files["n"], "a note");
    assert_eq!(config["config"]["Env"].as_array().unwrap().last().unwrap(), "A=b");

    // Nothing of `build` reaches a device, the names of its secrets included.
    let executable = fs::read(home.path("dist/shop-amd64")).unwrap();
    for hidden in ["from the variable", "docker/File", "WHO:-me"] {
        assert!(!executable.windows(hidden.len()).any(|part| part == hidden.as_bytes()), "{hidden}");
    }
}

#[test]
fn each_platform_is_built_for_itself() {
    let home = Home::new(&[
        ("compose.yml", "name: one\nservices: {app: {build: .}}\n"),
        ("Dockerfile", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /which\n"),
        ("amd64", "for amd64"),
        ("arm64", "for arm64"),
        ("arm", "for arm"),
    ]);
    let platforms = "linux/amd64,linux/arm64,linux/arm/v7";
    let built = home.dpack("/usr/bin:/bin", &["build", "--builder", "buildah", "--platform", platforms]);
    assert!(built.status.success(), "{}", stderr(&built));
    for (suffix, which) in [("amd64", "for amd64"), ("arm64", "for arm64"), ("armv7", "for arm")] {
        let (_, files) = home.image(&format!("one-{suffix}"), "app");
        assert_eq!(files["which"], which);
    }
}

#[test]
fn without_a_tool_it_is_said_which_would_do() {
    let home = Home::new(&[("compose.yml", "name: one\nservices:\n  app:\n    build: .\n")]);
    // A Docker client without its plugin is none.
    home.program("docker", "exit 1");
    let output = home.dpack("", &["build", "--platform", "linux/amd64"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        stderr(&output),
        "error: compose.yml:4:12: services.app.build: there is no program to build it with: docker buildx, buildah, \
         podman not found\nhint: install docker buildx, buildah or podman, or bring the image along with: \
         --from NAME=oci-archive:FILE\n"
    );
    let output = home.dpack("/usr/bin:/bin", &["build", "--builder", "podman", "--platform", "linux/amd64"]);
    if !Path::new("/usr/bin/podman").exists() {
        assert!(stderr(&output).contains("it with: podman not found"), "{}", stderr(&output));
    }
}

#[test]
fn what_the_tool_says_is_shown_and_its_failure_is_ours() {
    let home =
        Home::new(&[("compose.yml", "name: one\nservices:\n  app:\n    build: {no_cache_filter: [a]}\n")]);
    home.program(
        "docker",
        "[ \"$2\" = version ] && exit 0; echo \"called with $*\"; echo and said >&2; exit 7",
    );
    let arguments = ["build", "--platform", "linux/arm64"];
    let output = home.dpack("/bin", &arguments);
    assert_eq!(output.status.code(), Some(4));
    let said = stderr(&output);
    assert!(said.contains("--no-cache-filter a --"), "{said}");
    let end = "error: compose.yml:4:12: services.app.build: docker buildx failed for linux/arm64 (exit status: 7):\ncalled";
    assert!(said.contains(end) && said.ends_with("and said\n"), "{said}");

    home.program("buildah", "exit 0");
    let output = home.dpack("/bin", &["build", "--builder", "buildah", "--platform", "linux/arm64"]);
    assert_eq!(
        stderr(&output),
        "error: compose.yml:4:12: services.app.build.no_cache_filter: buildah has no such option\nhint: another tool is \
         chosen with: --builder NAME\n"
    );
    assert_eq!(output.status.code(), Some(4));
}
