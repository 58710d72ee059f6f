//! What our own processes have given up, as the kernel tells it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, though not in a function marked so"
)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::{Value, json};
use support::{App, eventually};

/// A field of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

fn capabilities(pid: i32, set: &str) -> u64 {
    u64::from_str_radix(&status(pid, set), 16).unwrap_or(u64::MAX)
}

/// The process of a role that has the application's folder among its arguments.
fn role(app: &App, role: &str) -> i32 {
    let folder = app.path("");
    let ours = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with(&format!("{role}\0")) && line.contains(folder.to_str().unwrap())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let found = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(ours);
    found.unwrap_or_else(|| panic!("no {role} runs"))
}

/// A child of a process, by the name it was started under.
fn child(parent: i32, name: &str) -> i32 {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let named = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(name.as_bytes()))
    };
    let mut pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.find(named).unwrap_or_else(|| panic!("no {name} among {children}"))
}

const CHOWN: u64 = 1 << 0;
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const FOWNER: u64 = 1 << 3;
const FSETID: u64 = 1 << 4;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_ADMIN: u64 = 1 << 21;
const MKNOD: u64 = 1 << 27;
const SETFCAP: u64 = 1 << 31;

#[test]
fn each_process_keeps_what_it_needs() {
    let app = App::new(json!({"it": {"command": "sleep 1000", "ports": ["127.0.0.1::80"]}}));
    app.ok(&["up", "-d"]);
    let shim = role(&app, "dpack-shim");
    eventually("the shim is confined", || status(shim, "Seccomp") == "2");
    assert_eq!((capabilities(shim, "CapEff"), capabilities(shim, "CapPrm")), (KILL, KILL));
    assert_eq!((capabilities(shim, "CapBnd"), status(shim, "NoNewPrivs").as_str()), (0, "1"));

    let network = role(&app, "dpack-network");
    let needed = NET_ADMIN | NET_RAW | NET_BIND_SERVICE | SYS_ADMIN;
    assert_eq!((capabilities(network, "CapEff"), capabilities(network, "CapPrm")), (needed, needed));
    assert_eq!((capabilities(network, "CapBnd"), status(network, "NoNewPrivs").as_str()), (0, "1"));
    assert_eq!(status(network, "Seccomp"), "2");

    let supervisor = app.supervisor().unwrap();
    let files = CHOWN | DAC_OVERRIDE | DAC_READ_SEARCH | FOWNER | FSETID | MKNOD | SETFCAP;
    let needed = files | KILL;
    assert_eq!((capabilities(supervisor, "CapEff"), capabilities(supervisor, "CapPrm")), (needed, needed));
    assert_eq!((capabilities(supervisor, "CapBnd"), status(supervisor, "NoNewPrivs").as_str()), (0, "1"));
    assert_eq!(status(supervisor, "Seccomp"), "2");

    // It found out before whether overlayfs works.
    if std::env::var_os("DPACK_TEST_OLD_KERNEL").is_none() {
        let driver = fs::read_to_string(app.path("data/layers/driver")).unwrap();
        assert!(driver.contains(" overlay "), "{driver}");
    }
    // Containers get what the bounding set has: theirs must not be less than asked for.
    let container: Value = serde_json::from_slice(
        &fs::read(app.path("data/projects/test/containers/test-it-1/running.json")).unwrap(),
    )
    .unwrap();
    let init = i32::try_from(container["init"]["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(status(init, "CapBnd"), "00000000a80425fb");

    // Confined as they are, they do their work to the end.
    app.ok(&["kill", "-s", "KILL", "it"]);
    eventually("it has ended", || app.state("test-it-1") == "exited");
    assert_eq!(app.ps()["test-it-1"]["ExitCode"], 137);
}

#[test]
fn a_shim_that_is_killed_leaves_no_control_group() {
    let app = App::new(json!({"it": {"command": "sleep 1000"}}));
    app.ok(&["up", "-d"]);
    let shim = role(&app, "dpack-shim");
    let folder = app.path("data/projects/test/containers/test-it-1");
    let running: Value = serde_json::from_slice(&fs::read(folder.join("running.json")).unwrap()).unwrap();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", running["init"]["pid"])).unwrap();
    let own: Vec<&str> = groups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter(|path| path.contains("dpack-container-"))
        .collect();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let folders: Vec<PathBuf> = hierarchies
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .flat_map(|root| own.iter().map(move |path| root.join(path.trim_start_matches('/'))))
        .filter(|dir| dir.is_dir())
        .collect();
    // Where this user has no place for groups there is nothing to leave.
    assert_eq!(folders.is_empty(), own.is_empty());
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    eventually("it has ended", || app.state("test-it-1") == "exited");
    eventually("its groups are gone", || folders.iter().all(|dir| !dir.exists()));
}

#[test]
fn without_its_launcher_a_supervisor_makes_way_for_the_next() {
    let app = App::new(json!({"it": {"command": "sleep 1000"}}));
    app.ok(&["up", "-d"]);
    let supervisor = app.supervisor().unwrap();
    let launcher = child(supervisor, "dpack-launcher");
    let process = rustix::process::Pid::from_raw(launcher).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually("the supervisor has left", || app.supervisor().is_none());
    assert!(app.supervisor_log().contains("launcher was killed"), "{}", app.supervisor_log());
    app.ok(&["restart", "-t", "0", "it"]);
    assert_eq!(app.state("test-it-1"), "running");
    let second = child(app.supervisor().unwrap(), "dpack-launcher");
    app.kill_supervisor();
    eventually("the launcher has ended", || status(second, "State").is_empty());
}

/// The supervisor's socket.
fn socket(app: &App) -> PathBuf {
    let projects = fs::read_dir(app.path("run/dpack")).unwrap().flatten();
    let mut sockets = projects.map(|folder| folder.path().join("supervisor.sock"));
    sockets.find(|path| path.exists()).expect("a supervisor listens")
}

/// What the last answer to a line is called; empty where the connection just ends.
fn answer(app: &App, line: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(app)).unwrap();
    // Who has heard enough closes the connection.
    let _ = stream.write_all(line).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut last = String::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let answer: Value = serde_json::from_str(&line).unwrap();
        last = answer.as_object().map(|answer| answer.keys().next().unwrap().clone()).unwrap_or_default();
    }
    last
}

#[test]
fn what_is_no_request_is_refused_and_harms_nobody() {
    let app = App::new(json!({"it": {"command": "sleep 1000"}}));
    app.ok(&["up", "-d"]);
    let supervisor = app.supervisor();
    let record: Value =
        serde_json::from_slice(&fs::read(app.path("data/projects/test/project.json")).unwrap()).unwrap();
    let line = |request: &str| {
        format!("{{\"version\":1,\"build\":{},\"request\":{request}}}\n", record["build"]).into_bytes()
    };
    let valid = r#"{"start":{"services":["it"]}}"#;
    assert_eq!(answer(&app, &line(valid)), "done");

    let deep = |bracket: &str| bracket.repeat(200_000);
    let nested = [deep("["), deep("{\"a\":"), format!("{}{}", deep("["), deep("]"))];
    let wrong = ["null", "[]", "\"start\"", r#"{"start":{}}"#, r#"{"start":{"services":["it"]},"stop":{}}"#];
    for request in nested.iter().map(String::as_str).chain(wrong) {
        assert_eq!(answer(&app, &line(request)), "failed", "{}", &request[..request.len().min(100)]);
    }
    for noise in [&b"\n"[..], b"{}\n", b"\xff\xfe\n", b"{\"version\":1", &[0; 1000]] {
        assert_eq!(answer(&app, noise), "failed");
    }
    assert_eq!(answer(&app, b""), "");
    // Every byte of a request, changed, left out and said twice: none of it is another request that stops something.
    let whole = line(valid);
    let start = whole.len() - valid.len() - 2;
    for at in start..start + valid.len() {
        let (before, after) = (&whole[..at], &whole[at + 1..]);
        for middle in [&[][..], &[whole[at], whole[at]], &[whole[at] ^ 1], &[whole[at] | 0x80]] {
            let answer = answer(&app, &[before, middle, after].concat());
            assert!(["done", "failed"].contains(&answer.as_str()), "{at} {middle:?} {answer}");
        }
    }
    assert_eq!((app.supervisor(), app.state("test-it-1")), (supervisor, "running".to_owned()));
}
