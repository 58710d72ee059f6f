//! The program itself: what it prints where, and how it ends.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Auth, Compression, Fault, Image, Registry};

/// A user's home with a project in it.
struct Home(tempfile::TempDir);

impl Home {
    fn new(compose: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("compose.yml"), compose).unwrap();
        support::write_stubs(&home.path().join("stubs"));
        Self(home)
    }

    fn with_image(registry: &Registry) -> Self {
        let image = Image::new("linux/amd64").layer(Compression::Gzip, &[("a", &[7; 5000])]);
        registry.push("team/app", "1", &image);
        Self::new(&format!("name: one\nservices:\n  app:\n    image: {}\n", registry.name("team/app:1")))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpack"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("DPACK_STUB_DIR", self.path("stubs"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        Finished::from(self.command(arguments).output().unwrap())
    }
}

#[derive(Debug)]
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

const BUILD: [&str; 3] = ["build", "--platform", "linux/amd64"];

#[test]
fn data_goes_to_standard_output_and_the_rest_to_standard_error() {
    let registry = Registry::serve();
    let home = Home::with_image(&registry);
    let first = home.run(&BUILD);
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), "dist/one-amd64\n"), "{first:?}");
    assert!(first.stderr.contains("EXECUTABLE") && first.stderr.contains("team/app:1"), "{}", first.stderr);
    assert!(!first.stderr.contains('\x1b'), "no escape sequences without a terminal");

    let second = home.run(&[&BUILD[..], &["-q", "--format", "json"]].concat());
    assert_eq!(second.stderr, "");
    let report: Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(report["executables"][0]["path"], "dist/one-amd64");
    assert_eq!(report["executables"][0]["images"][0]["pulled_size"], 0);

    let inspected = home.run(&["inspect", "dist/one-amd64", "--format", "json"]);
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["project"], "one");
    assert_eq!(inspected["platforms"][0], "linux/amd64");
    assert_eq!(inspected["digest"], report["executables"][0]["digest"]);
    assert!(home.run(&["inspect", "dist/one-amd64"]).stdout.contains("team/app:1"));

    let extracted = home.run(&["extract", "dist/one-amd64", "--image", "app", "-o", "oci:out:v1"]);
    assert_eq!(extracted.code, Some(0), "{extracted:?}");
    assert!(home.path("out/index.json").is_file());

    let listed = home.run(&["cache", "ls", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert!(listed["entries"].as_array().unwrap().len() > 3);
    assert!(home.run(&["cache", "prune", "--all"]).stdout.ends_with("0 B left\n"));
}

#[test]
fn mistakes_have_a_line_a_hint_and_an_exit_code() {
    let registry = Registry::serve();
    let home = Home::with_image(&registry);
    fs::write(home.path("bad.yml"), "services:\n  app:\n    image: a\n    portz: []\n").unwrap();
    let none = registry.name("none");
    fs::write(home.path("none.yml"), format!("services: {{a: {{image: '{none}'}}}}\n")).unwrap();
    for (arguments, code, texts) in [
        (vec![], 2, vec!["Usage"]),
        (vec!["build", "--nonsense"], 2, vec!["--nonsense"]),
        (
            vec!["build", "--platform", "linux/riscv64"],
            2,
            vec!["error: dpack cannot build", "hint: choose from"],
        ),
        (vec!["build", "--platform", "amd46"], 2, vec!["error: --platform: `amd46`"]),
        (vec!["build", "--compression-level", "23"], 2, vec!["`23`"]),
        (vec!["build", "--from", "x"], 2, vec!["error: --from `x`", "hint: "]),
        (vec!["build", "--from", "x=oci:y"], 2, vec!["`x`, which no service uses"]),
        (vec!["build", "--authfile", "none.json"], 3, vec!["none.json"]),
        (vec!["build", "bad.yml"], 4, vec!["error: bad.yml:4:5: ", "portz"]),
        (vec!["build", "none.yml"], 4, vec!["error: no image `", "hint: check the name"]),
        (
            vec!["build", "--platform", "linux/arm64"],
            4,
            vec!["has no linux/arm64; it has linux/amd64", "hint: "],
        ),
        (vec!["inspect", "compose.yml"], 4, vec!["error: `compose.yml` is not", "hint: "]),
        (vec!["inspect", "gone"], 4, vec!["`gone`"]),
        (vec!["cache", "prune", "--keep", "much"], 2, vec!["`much` is not a size", "hint: "]),
    ] {
        let finished = home.run(&arguments);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{arguments:?}");
        for text in texts {
            assert!(finished.stderr.contains(text), "{arguments:?}: `{text}` in {}", finished.stderr);
        }
    }
    assert!(!home.path("dist").exists(), "nothing was written");
}

#[test]
fn a_service_that_cannot_run_stays_behind_with_its_profile() {
    let registry = Registry::serve();
    let home = Home::with_image(&registry);
    let image = registry.name("team/app:1");
    let sockets = "[/var/run/docker.sock:/var/run/docker.sock]";
    let text = format!(
        "name: one\nservices:\n  app: {{image: '{image}', volumes: {sockets}}}\n  top: {{image: '{image}', profiles: [host], pid: host}}\n"
    );
    fs::write(home.path("compose.yml"), text).unwrap();
    let all = home.run(&BUILD);
    assert_eq!(all.code, Some(4), "{all:?}");
    assert!(
        all.stderr.contains("services.top.pid: ") && all.stderr.contains("--profile ''"),
        "{}",
        all.stderr
    );
    let none = home.run(&[&BUILD[..], &["--profile", ""]].concat());
    assert_eq!(none.code, Some(0), "{none:?}");
    assert!(none.stderr.contains("services.app.volumes: a Docker Engine is asked for"), "{}", none.stderr);
}

#[test]
fn config_prints_the_model() {
    let home = Home::new("name: one\nservices:\n  app:\n    image: app:${TAG:-1}\n");
    assert!(home.run(&["config"]).stdout.contains("image: app:1"));
    let json: Value = serde_json::from_str(&home.run(&["config", "--format", "json"]).stdout).unwrap();
    assert_eq!(json["services"]["app"]["image"], "app:1");
    assert_eq!(home.run(&["config", "-q"]).stdout, "");
    fs::write(home.path("two.env"), "TAG=2\n").unwrap();
    assert!(home.run(&["config", "--env-file", "two.env"]).stdout.contains("image: app:2"));
}

#[test]
fn a_credential_helper_is_asked() {
    let registry = Registry::serve().with_auth(Auth::Basic("u", "p"));
    let home = Home::with_image(&registry);
    let without = home.run(&BUILD);
    assert_eq!(without.code, Some(3), "{without:?}");
    assert!(
        without.stderr.contains("without credentials") && without.stderr.contains("hint: run `docker login")
    );

    fs::create_dir(home.path("bin")).unwrap();
    let script = "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = \"$EXPECTED\" ] && \
                  echo '{\"ServerURL\":\"\",\"Username\":\"u\",\"Secret\":\"p\"}'\n";
    write_executable(&home.path("bin/docker-credential-test"), script);
    fs::create_dir(home.path(".docker")).unwrap();
    let config = format!(r#"{{"credHelpers": {{"{}": "test"}}}}"#, registry.host());
    fs::write(home.path(".docker/config.json"), config).unwrap();
    let finished = Finished::from(home.command(&BUILD).env("EXPECTED", registry.host()).output().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn no_proxy_stands_between_us_and_this_machine() {
    let registry = Registry::serve();
    let home = Home::with_image(&registry);
    let mut command = home.command(&BUILD);
    // Nothing listens there.
    command.env("http_proxy", "http://127.0.0.1:9").env("https_proxy", "http://127.0.0.1:9");
    let finished = Finished::from(command.output().unwrap());
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn sigterm_ends_a_build_and_leaves_nothing() {
    let registry = Registry::serve();
    let home = Home::with_image(&registry);
    registry.fail("/blobs/", Fault::Status(503, Some(100)));
    registry.fail("/blobs/", Fault::Status(503, Some(100)));
    let child = home.command(&BUILD).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !registry.requests().iter().any(|request| request.contains("/blobs/")) {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let finished = Finished::from(child.wait_with_output().unwrap());
    assert_eq!(finished.code, Some(130), "{finished:?}");
    assert!(finished.stderr.ends_with("error: interrupted\n"), "{}", finished.stderr);
    assert!(!home.path("dist").exists());
    assert_eq!(fs::read_dir(home.path(".cache/dpack/tmp")).unwrap().count(), 0);
}
