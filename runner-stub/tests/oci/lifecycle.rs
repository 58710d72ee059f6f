//! What engines rely on beside the specification: pid files, console sockets, passed descriptors, `exec`, `ps`, `kill --all`.

use std::fs;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use super::support::Runtime;

const WAITS: &str = "trap 'exit 7' TERM; while :; do sleep 0.05; done";

#[test]
fn the_pid_file_names_the_process_and_it_can_be_joined() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle(WAITS);
    let file = runtime.path("pid");
    bundle.create_with(&["--pid-file", file.to_str().unwrap()]).success().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), bundle.state().unwrap()["pid"].to_string());
    bundle.start().success().unwrap();

    let exec = |arguments: &[&str]| {
        let output = runtime.command(&[&["exec"], arguments].concat()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let said = exec(&[
        "--env",
        "A=b",
        "--cwd",
        "/data",
        &bundle.id,
        "sh",
        "-c",
        "pwd; echo $A; readlink /proc/self/ns/pid; exit 9",
    ]);
    assert_eq!(
        (said.0, said.1.lines().take(2).collect::<Vec<_>>()),
        (Some(9), vec!["/data", "b"]),
        "{said:?}"
    );
    let process = json!({"args": ["sh", "-c", "echo $B; grep CapEff /proc/self/status; cat /proc/self/oom_score_adj"], "env": ["PATH=/bin", "B=c"],
        "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true, "oomScoreAdj": 500});
    let document = runtime.path("process.json");
    fs::write(&document, process.to_string()).unwrap();
    let (status, out, err) = exec(&["--process", document.to_str().unwrap(), &bundle.id]);
    assert_eq!((status, out.as_str()), (Some(0), "c\nCapEff:\t0000000000000000\n500\n"), "{err}");
    let (status, _, err) = exec(&[&bundle.id, "nope"]);
    assert_eq!(
        (status, err.as_str()),
        (Some(127), "error: exec: \"nope\": executable file not found in $PATH\n")
    );

    let pids = runtime.oci(&["ps", "--format", "json", &bundle.id]).success().unwrap();
    let pids: Vec<Value> = serde_json::from_str(&pids).unwrap();
    assert!(pids.contains(&bundle.state().unwrap()["pid"]), "{pids:?}");
    bundle.kill("TERM").success().unwrap();
    bundle.wait_for("stopped").unwrap();
    assert!(runtime.oci(&["exec", &bundle.id, "true"]).failure().unwrap().contains("stopped"));
}

#[test]
fn kill_all_ends_every_process_and_delete_force_takes_everything_away() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle("trap '' TERM; sleep 1000 & echo started; wait");
    bundle.create().success().unwrap();
    bundle.start().success().unwrap();
    let count = || {
        let pids = runtime.oci(&["ps", "--format", "json", &bundle.id]).success().unwrap();
        serde_json::from_str::<Vec<i32>>(&pids).unwrap()
    };
    super::support::eventually("two processes", || count().len() == 2);
    let pids = count();
    runtime.oci(&["kill", "--all", &bundle.id, "KILL"]).success().unwrap();
    bundle.wait_for("stopped").unwrap();
    super::support::eventually("all have ended", || pids.iter().all(|pid| super::support::has_ended(*pid)));
    bundle.delete().success().unwrap();
    assert_eq!(fs::read_dir(runtime.path("state")).unwrap().count(), 0);

    let forced = runtime.bundle(WAITS);
    forced.create().success().unwrap();
    let pid = forced.state().unwrap()["pid"].as_i64().unwrap();
    runtime.oci(&["delete", "--force", &forced.id]).success().unwrap();
    assert!(super::support::has_ended(i32::try_from(pid).unwrap()));
    assert_eq!(forced.status(), "none");
    runtime.oci(&["delete", "--force", &forced.id]).success().unwrap();
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle("tty; stty size; test -c /dev/console && echo console");
    let bundle = bundle
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 21, "width": 47}));
    let socket = runtime.path("console");
    let listener = UnixListener::bind(&socket).unwrap();
    assert!(bundle.create().failure().unwrap().contains("console-socket"));
    bundle.create_with(&["--console-socket", socket.to_str().unwrap()]).success().unwrap();
    let (connection, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    rustix::net::recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::empty())
        .unwrap();
    let master: OwnedFd = ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .expect("the terminal comes along");
    bundle.start().success().unwrap();
    let mut text = Vec::new();
    // The last reader of a pseudo-terminal gets EIO when nobody writes any more.
    let _ = fs::File::from(master).read_to_end(&mut text);
    assert_eq!(String::from_utf8(text).unwrap(), "/dev/pts/0\r\n21 47\r\nconsole\r\n");
}

#[test]
fn descriptors_are_passed_on_only_when_asked_for() {
    let runtime = Runtime::new();
    for (count, expected) in [("0", ""), ("1", "3\n"), ("2", "3\n4\n")] {
        let bundle = runtime.bundle("for n in 3 4 5; do test -e /proc/$$/fd/$n && echo $n; done");
        bundle
            .create_through(r#"exec "$@" 3</dev/null 4</dev/null 5</dev/null"#, &["--preserve-fds", count])
            .success()
            .unwrap();
        bundle.start().success().unwrap();
        bundle.wait_for("stopped").unwrap();
        assert_eq!(bundle.output(), expected);
    }
    let error = runtime.bundle("true").create_with(&["--preserve-fds", "9"]).failure().unwrap();
    assert!(error.contains("is not open"), "{error}");
}

#[test]
fn a_pause_stops_it_where_there_is_a_group() {
    let runtime = Runtime::new();
    let bundle = runtime.bundle(WAITS);
    bundle.create().success().unwrap();
    bundle.start().success().unwrap();
    let paused = runtime.oci(&["pause", &bundle.id]);
    if paused.ok {
        assert_eq!(bundle.status(), "paused");
        runtime.oci(&["resume", &bundle.id]).success().unwrap();
    } else {
        assert!(paused.err.contains("no control group of its own"), "{}", paused.err);
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn errors_are_logged_in_the_form_that_engines_read() {
    let runtime = Runtime::new();
    let log = runtime.path("log");
    let ended = runtime.oci(&["--log", log.to_str().unwrap(), "--log-format", "json", "start", "nobody"]);
    assert!(!ended.ok);
    let line: Value = serde_json::from_str(fs::read_to_string(log).unwrap().trim()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("nobody"), "{line}");
}
