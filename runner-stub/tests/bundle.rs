//! `bundle`: what it writes runs under another runtime as the service does here. The other runtime is our own OCI command
//! line, which knows nothing of applications; the integration tests take crun and runc.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, though not in a function marked so"
)]

mod support;

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use support::{App, ended};

/// What tells one container from another that is confined differently.
const LOOK: &str = "id -u; id -g; pwd; hostname; env | sort; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; cat /data/from-image /conf; \
                    touch /x 2>&1; touch /data/y && ls /data; cut -d' ' -f2-4 /proc/self/mounts | grep -v '^/ ' | sort; ulimit -n; cat /etc/hosts | wc -l";

#[test]
fn a_bundle_runs_elsewhere_as_the_service_does_here() {
    let service = json!({"command": ["sh", "-c", LOOK], "user": "guest", "working_dir": "/tmp", "hostname": "box",
        "environment": {"A": "b c"}, "read_only": true, "network_mode": "none", "tmpfs": ["/scratch:size=1m"],
        "ulimits": {"nofile": 123}, "cap_add": ["SYS_TIME"], "security_opt": ["no-new-privileges"],
        "volumes": ["kept:/data"], "configs": [{"source": "conf", "target": "/conf"}]});
    let app = App::with_files(
        json!({"services": {"it": service}, "volumes": {"kept": null}, "configs": {"conf": {"content": "a config\n"}}}),
        &std::collections::BTreeMap::new(),
    );
    if !app.has_many_ids() {
        // With one ID `user: guest` is shown by a keeper of ours, which another runtime has not.
        return;
    }
    let here = app.run(&["run", "--rm", "it"]);
    assert_eq!(here.code, Some(0), "{here:?}");
    let dir = app.path("bundle");
    let written = app.run(&["bundle", "it", "-o", dir.to_str().unwrap()]);
    assert_eq!(written.code, Some(0), "{written:?}");
    assert!(
        !app.path("data/projects/test/containers")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|entry| entry.path().is_dir())
    );

    let config: Value = serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap();
    assert!(!config.to_string().contains("x-dpack") && !config.to_string().contains("dev.dpack"), "{config}");
    let runtime = |verb: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpack-runner"));
        command.arg("oci").arg("--root").arg(app.path("states")).args(verb);
        command
    };
    let out = app.path("out");
    let mut create = runtime(&["create", "--bundle", dir.to_str().unwrap(), "it"]);
    let created = create
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(app.path("err")).unwrap())
        .status()
        .unwrap();
    assert!(created.success(), "{}", fs::read_to_string(app.path("err")).unwrap());
    let started = ended(runtime(&["start", "it"]).output().unwrap());
    assert_eq!(started.code, Some(0), "{started:?}");
    support::eventually("it has ended", || {
        let state = ended(runtime(&["state", "it"]).output().unwrap());
        state.out.contains("stopped")
    });
    assert_eq!(fs::read_to_string(&out).unwrap(), here.out);
    assert_eq!(ended(runtime(&["delete", "it"]).output().unwrap()).code, Some(0));

    let again = app.run(&["bundle", "it", "-o", dir.to_str().unwrap()]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.err.contains("is not empty\nhint: "), "{again:?}");
}

#[test]
fn a_service_that_is_not_whole_by_itself_is_refused() {
    let app = App::new(json!({"one": {}, "two": {"network_mode": "service:one"}}));
    let refused = app.run(&["bundle", "two", "-o", app.path("b").to_str().unwrap()]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("service `two`: it shares its network namespace"), "{refused:?}");
    let unknown = app.run(&["bundle", "three", "-o", app.path("c").to_str().unwrap()]);
    assert!(unknown.err.contains("three"), "{unknown:?}");
}
