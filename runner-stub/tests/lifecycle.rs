//! The commands, end to end: real user namespaces, real containers, as whoever runs the tests.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::process::Stdio;

use serde_json::json;
use support::{App, dies, ended, eventually};

/// Says its name, then waits; ends at once when asked to.
fn waits(says: &str) -> serde_json::Value {
    json!({"command": ["sh", "-c", format!("trap 'exit 3' TERM; echo {says}; while :; do sleep 0.1; done")], "network_mode": "none"})
}

#[test]
fn up_ps_logs_exec_stop_start_down() {
    let app = App::new(json!({"web": waits("hello"), "db": waits("database")}));
    app.ok(&["up", "-d"]);
    assert_eq!(app.ps().len(), 2);
    assert_eq!(app.state("test-web-1"), "running");
    eventually("both have said something", || app.ok(&["logs"]).lines().count() == 2);
    let logs = app.ok(&["logs", "web"]);
    assert_eq!(logs, "web-1  | hello\n");
    assert_eq!(app.ok(&["logs", "--no-log-prefix", "db"]), "database\n");

    assert_eq!(
        app.ok(&["exec", "web", "cat", "/data/from-image"]),
        "x",
        "the image's content is in the new volume"
    );
    assert_eq!(app.run(&["exec", "web", "sh", "-c", "exit 9"]).code, Some(9));
    assert_eq!(app.ok(&["exec", "-e", "A=b", "-w", "/tmp", "web", "sh", "-c", "echo $A $PWD"]), "b /tmp\n");

    app.ok(&["stop", "web"]);
    assert_eq!(app.ps()["test-web-1"]["ExitCode"], 3, "it was asked by SIGTERM, not killed");
    assert_eq!(app.state("test-db-1"), "running");
    let failed = app.run(&["exec", "web", "true"]);
    assert_eq!(
        failed.err,
        "error: service `web` is not running but exited\nhint: start it with: start web\n"
    );

    app.ok(&["start"]);
    assert_eq!(app.state("test-web-1"), "running");
    app.ok(&["down"]);
    assert!(app.ps().is_empty());
    eventually("the supervisor leaves", || app.supervisor().is_none());
    assert!(!app.path("data/projects/test/containers").exists());
}

#[test]
fn up_twice_changes_nothing_and_a_changed_service_is_made_anew() {
    let app = App::new(json!({"same": waits("a"), "changed": waits("${WORD:-b}")}));
    app.ok(&["up", "-d"]);
    let first = app.ps();
    let again = app.run(&["up", "-d"]);
    assert!(again.err.contains("Container test-same-1  Running"), "{}", again.err);
    assert_eq!(app.ps()["test-changed-1"]["ID"], first["test-changed-1"]["ID"]);
    let other = ended(app.command(&["up", "-d"]).env("WORD", "c").output().unwrap());
    assert!(other.err.contains("Container test-changed-1  Recreated"), "{}", other.err);
    let second = app.ps();
    assert_eq!(second["test-same-1"]["ID"], first["test-same-1"]["ID"]);
    assert_ne!(second["test-changed-1"]["ID"], first["test-changed-1"]["ID"]);
    eventually("the new one speaks", || app.ok(&["logs", "changed"]) == "changed-1  | c\n");
}

#[test]
fn containers_outlive_a_killed_supervisor_and_the_next_one_goes_on() {
    let mut service = waits("hello");
    service["restart"] = json!("always");
    let app = App::new(json!({"web": service}));
    app.ok(&["up", "-d"]);
    app.kill_supervisor();
    assert_eq!(app.state("test-web-1"), "running");
    assert_eq!(app.ok(&["exec", "web", "echo", "in"]), "in\n");
    assert!(app.supervisor().is_none(), "neither ps nor exec needs one");
    let id = app.ps()["test-web-1"]["ID"].clone();

    app.ok(&["up", "-d"]);
    assert_eq!(app.ps()["test-web-1"]["ID"], id, "adopted, not made anew");
    app.run(&["exec", "web", "kill", "1"]);
    eventually("its restart policy goes on", || app.ok(&["logs"]).lines().count() == 2);

    app.kill_supervisor();
    app.run(&["exec", "web", "kill", "1"]);
    eventually("nobody restarts it", || app.state("test-web-1") == "exited");
    app.ok(&["start"]);
    assert_eq!(app.state("test-web-1"), "running");
    app.kill_supervisor();
    app.ok(&["stop"]);
    assert_eq!(app.ps()["test-web-1"]["ExitCode"], 3);
}

#[test]
fn up_after_a_stop_whose_supervisor_was_killed_starts_what_was_being_stopped() {
    let slow = "trap 'echo asked; sleep 1; exit 0' TERM; while :; do sleep 0.1; done";
    let app = App::new(json!({"web": {"command": ["sh", "-c", slow], "network_mode": "none"}}));
    app.ok(&["up", "-d"]);
    let mut stop = app.command(&["stop"]).stderr(Stdio::null()).spawn().unwrap();
    eventually("it was asked", || app.ok(&["logs"]).contains("asked"));
    app.kill_supervisor();
    assert!(!stop.wait().unwrap().success());
    app.ok(&["up", "-d"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(app.state("test-web-1"), "running");
}

#[test]
fn a_newer_executable_takes_a_running_project_over() {
    let app = App::new(json!({"same": waits("a"), "changed": waits("b")}));
    app.ok(&["up", "-d"]);
    let (first, supervisor) = (app.ps(), app.supervisor());
    app.replace(json!({"same": waits("a"), "changed": waits("c")}));
    app.ok(&["up", "-d"]);
    assert_eq!(app.ps()["test-same-1"]["ID"], first["test-same-1"]["ID"]);
    assert_ne!(app.ps()["test-changed-1"]["ID"], first["test-changed-1"]["ID"]);
    assert_ne!(app.supervisor(), supervisor);
    app.replace(json!({"same": waits("a")}));
    let orphan = app.run(&["up", "-d"]);
    assert!(orphan.err.contains("no longer has: test-changed-1"), "{}", orphan.err);
    assert!(app.ps().contains_key("test-changed-1"), "it is told of, not removed");
    app.ok(&["up", "-d", "--remove-orphans"]);
    assert!(!app.ps().contains_key("test-changed-1"));
}

#[test]
fn restart_on_failure_gives_up_after_its_count() {
    let app = App::new(json!({"job": {
        "command": ["sh", "-c", "echo try; exit 5"], "restart": "on-failure:2", "network_mode": "none"}}));
    app.ok(&["up", "-d"]);
    eventually("it has given up", || app.state("test-job-1") == "exited" && app.supervisor().is_none());
    assert_eq!(app.ok(&["logs", "--no-log-prefix"]), "try\ntry\ntry\n");
    assert_eq!(app.ps()["test-job-1"]["ExitCode"], 5);
}

#[test]
fn up_in_the_foreground_shows_what_is_new_and_ends_with_its_containers() {
    let app = App::new(
        json!({"job": {"command": ["sh", "-c", "echo out; echo err >&2; exit 4"], "network_mode": "none"}}),
    );
    for _ in 0..2 {
        let up = app.run(&["up"]);
        assert_eq!((up.code, up.out.as_str()), (Some(0), "job-1  | out\n"));
        assert!(
            up.err.ends_with("Attaching to job-1\njob-1  | err\njob-1 exited with code 4\n"),
            "{}",
            up.err
        );
    }
}

#[test]
fn an_interrupted_up_stops_its_containers() {
    let app = App::new(json!({"web": waits("hello")}));
    let mut up = app.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it runs", || app.state("test-web-1") == "running" && app.ok(&["logs"]).contains("hello"));
    let pid = rustix::process::Pid::from_child(&up);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let up = ended({
        up.wait().unwrap();
        up.wait_with_output().unwrap()
    });
    assert_eq!(up.code, Some(130), "{up:?}");
    assert!(up.err.contains("Gracefully stopping... (press Ctrl+C again to force)\n"), "{}", up.err);
    assert_eq!(app.ps()["test-web-1"]["ExitCode"], 3);
}

#[test]
fn run_passes_the_exit_status_and_leaves_nothing() {
    let app = App::new(json!({"tool": {"command": ["true"], "network_mode": "none"}}));
    assert_eq!(app.run(&["run", "--rm", "tool", "sh", "-c", "exit 7"]).code, Some(7));
    let uid = if app.has_many_ids() { 1000 } else { 0 };
    let ran = app.ok(&["run", "--rm", "-u", "guest", "-e", "A=b", "tool", "sh", "-c", "id -u; echo $A"]);
    assert_eq!(
        ran,
        format!(
            "{uid}
b
"
        )
    );
    let missing = app.run(&["run", "--rm", "tool", "nosuch"]);
    assert_eq!(missing.code, Some(127), "{missing:?}");
    assert!(missing.err.contains("nosuch"), "{missing:?}");
    assert!(app.supervisor().is_none(), "the short way needs no supervisor");
    assert!(app.ps().is_empty());
    let id = app.ok(&["run", "-d", "tool", "sh", "-c", "echo from the background"]);
    let of = |id: &str| app.ps().into_values().find(|row| row["ID"] == id.trim()[..12]).unwrap();
    eventually("it has run", || of(&id)["State"] == "exited");
    assert_eq!(of(&id)["ExitCode"], 0);
    // A sync at its end would be for nothing, and writes out all that anybody has written to the disk.
    let kept = |flags: &[&str]| {
        let command: &[&str] = &["tool", "grep", " / / ", "/proc/self/mountinfo"];
        let mounts = app.ok(&[&["run", "-T"], flags, command].concat());
        !mounts.contains("volatile")
    };
    let has_overlay = std::fs::read_to_string(app.path("data/layers/driver")).unwrap().contains(" overlay ");
    assert_eq!((kept(&["--rm"]), kept(&["--name", "kept"])), (!has_overlay, true));
}

/// Each may find the user namespace of one that ends before it is joined.
#[test]
fn many_that_run_at_once_come_and_go() {
    let app = App::new(json!({"it": {"network_mode": "none"}}));
    app.ok(&["run", "--rm", "-T", "it", "true"]);
    let start = || app.command(&["run", "--rm", "-T", "it", "true"]).stderr(Stdio::piped()).spawn().unwrap();
    let all: Vec<_> = (0..50).map(|_| start()).collect();
    for one in all {
        let ended = ended(one.wait_with_output().unwrap());
        assert_eq!((ended.code, &*ended.err), (Some(0), ""));
    }
    assert!(app.ps().is_empty());
}

#[test]
fn run_reaches_what_its_service_depends_on() {
    let server = json!({"command": ["httpd", "-f", "-p", "80", "-h", "/data"]});
    let app = App::new(json!({"server": server, "tool": {"command": ["true"], "depends_on": ["server"]}}));
    let fetched = app.run(&[
        "run",
        "--rm",
        "tool",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://server/from-image && exit; sleep 0.2; done",
    ]);
    assert_eq!((fetched.code, fetched.out.as_str()), (Some(0), "x"), "{fetched:?}");
    assert_eq!(app.state("test-server-1"), "running");
}

#[test]
fn data_in_a_named_volume_survives_down_but_not_down_v() {
    let mut service = waits("x");
    service["volumes"] = json!(["kept:/kept"]);
    let app = App::new(json!({"web": service}));
    app.ok(&["up", "-d"]);
    app.ok(&["exec", "web", "touch", "/kept/file"]);
    app.ok(&["down"]);
    app.ok(&["up", "-d"]);
    assert_eq!(app.ok(&["exec", "web", "ls", "/kept"]), "file\n");
    app.ok(&["down", "-v"]);
    eventually("nothing is left", || !app.path("data/projects/test").exists());
    app.ok(&["up", "-d"]);
    assert_eq!(app.ok(&["exec", "web", "ls", "/kept"]), "");
}

#[test]
fn two_ups_at_once_make_one_application() {
    let app = App::new(json!({"a": waits("a"), "b": waits("b")}));
    let ups: Vec<_> =
        (0..4).map(|_| app.command(&["up", "-d"]).stderr(Stdio::piped()).spawn().unwrap()).collect();
    for up in ups {
        let up = ended(up.wait_with_output().unwrap());
        assert_eq!(up.code, Some(0), "{}", up.err);
    }
    assert_eq!(app.ps().len(), 2);
    assert_eq!(app.state("test-a-1"), "running");
}

#[test]
fn what_cannot_be_started_is_said_before_anything_starts() {
    let mut bound = waits("x");
    bound["volumes"] = json!(["/dev/null/engine.sock:/s"]);
    let app = App::new(json!({"web": waits("x"), "bound": bound}));
    let expected = "error: service `bound` mounts `/dev/null/engine.sock`, which does not exist and cannot be made: \
                    Not a directory (os error 20)\nhint: a program of the device has to listen there; there is none in \
                    this file\n";
    assert_eq!(app.run(&["up", "-d"]).err, expected);
    assert!(app.ps().is_empty());

    bound["volumes"] = json!([{"type": "bind", "source": "./missing", "target": "/m"}]);
    app.replace(json!({"web": waits("x"), "bound": bound}));
    let up = app.run(&["up", "-d"]);
    assert_eq!(up.code, Some(3));
    let missing = app.path("missing");
    let expected = format!(
        "error: service `bound` mounts `{0}`, which does not exist\nhint: mkdir -p {0}\n",
        missing.display()
    );
    assert_eq!(up.err, expected);
    assert!(app.ps().is_empty());
    let up = app.run(&["up", "-d", "wbe"]);
    assert_eq!(
        (up.code, up.err.as_str()),
        (Some(2), "error: no such service: `wbe`\nhint: did you mean `web`?\n")
    );
    std::fs::create_dir(&missing).unwrap();
    app.ok(&["up", "-d"]);
    assert_eq!(app.ps().len(), 2);
}

#[test]
fn a_port_that_is_taken_is_said_before_anything_starts() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = json!({"command": ["httpd", "-f", "-p", "80", "-h", "/data"], "ports": [format!("127.0.0.1:{port}:80")]});
    let app = App::new(json!({"server": server, "other": waits("x")}));
    let up = app.run(&["up", "-d"]);
    assert_eq!(up.code, Some(3), "{up:?}");
    assert!(
        up.err.contains(&format!("port {port}/tcp of container `test-server-1` is in use on 127.0.0.1")),
        "{}",
        up.err
    );
    assert!(app.ps().is_empty());
    drop(listener);
    app.ok(&["up", "-d"]);
    assert_eq!(app.ps()["test-server-1"]["Publishers"][0]["PublishedPort"], port);
    eventually("it answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn the_executable_tells_about_itself() {
    let app = App::new(json!({"web": waits("x")}));
    let inspect: serde_json::Value = serde_json::from_str(&app.ok(&["inspect", "--format", "json"])).unwrap();
    assert_eq!(inspect["images"][0]["services"], json!(["web"]));
    assert!(app.ok(&["images"]).contains("busybox"));
    let unknown = app.run(&["images", "wbe"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert_eq!(unknown.err, "error: no such service: `wbe`\nhint: did you mean `web`?\n");
    assert!(app.ok(&["config"]).contains("network_mode: none"));
    let doctor: serde_json::Value = serde_json::from_str(&app.ok(&["doctor", "--format", "json"])).unwrap();
    assert_eq!(doctor["runs"], true, "{doctor:#}");
    let version = app.ok(&["version"]);
    assert!(version.starts_with("dpack runner "), "{version}");
    for flag in ["-v", "-V", "--version"] {
        assert_eq!(app.ok(&[flag]), version, "{flag}");
    }
}

/// `cron` and `ssh`, or two sessions: with another runtime folder, the supervisor and the network are found all the same.
#[test]
fn a_project_is_found_from_a_session_with_another_runtime_folder() {
    let app = App::new(json!({"web": waits("x")}));
    app.ok(&["up", "-d"]);
    let other = app.path("other");
    std::fs::create_dir(&other).unwrap();
    let supervisor = app.supervisor();
    for arguments in [&["restart", "-t", "0"][..], &["exec", "web", "true"], &["down", "-t", "0"]] {
        let ended = ended(app.command(arguments).env("XDG_RUNTIME_DIR", &other).output().unwrap());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        if arguments[0] != "down" {
            assert_eq!(app.supervisor(), supervisor, "{arguments:?}");
        }
    }
    assert!(app.ps().is_empty());
}

/// As `app config > file` on a device without space: a closed pipe is no error, lost output is.
#[test]
fn output_that_is_lost_is_an_error() {
    let app = App::new(json!({"web": waits("x")}));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let lost = ended(app.command(&["config"]).stdout(full).output().unwrap());
    assert_eq!(lost.code, Some(3), "{lost:?}");
    assert!(lost.err.starts_with("error: failed to write to standard output: No space left"), "{}", lost.err);
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let closed = ended(app.command(&["config"]).stdout(closed).output().unwrap());
    assert_eq!((closed.code, closed.err.as_str()), (Some(141), ""));
}

#[test]
fn a_damaged_frame_is_found_and_never_trusted() {
    let app = App::new(json!({"web": waits("x")}));
    let executable = app.path("app");
    let mut bytes = std::fs::read(&executable).unwrap();
    let program = std::fs::metadata(env!("CARGO_BIN_EXE_dpack-runner")).unwrap().len();
    bytes[usize::try_from(program).unwrap() + 1000] ^= 1;
    std::fs::remove_file(&executable).unwrap();
    std::fs::write(&executable, bytes).unwrap();
    std::fs::set_permissions(&executable, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let verify = app.run(&["verify"]);
    assert_eq!(verify.code, Some(4), "{verify:?}");
    assert!(verify.out.contains("is damaged: its SHA-256 is not the one in the index\n"), "{}", verify.out);
    let up = app.run(&["up", "-d"]);
    assert_eq!(up.code, Some(4), "{up:?}");
    assert!(up.err.ends_with("is not the one in the index\nhint: copy the file again\n"), "{}", up.err);
    assert!(app.ps().is_empty());
}

#[test]
fn create_rm_port_wait_and_events() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server =
        json!({"command": ["sleep", "100"], "ports": [format!("127.0.0.1:{port}:80")], "init": true});
    let app = App::new(json!({
        "web": server,
        "job": {"command": ["sh", "-c", "exit 4"], "network_mode": "none"},
    }));
    app.ok(&["create"]);
    assert_eq!((app.state("test-web-1"), app.state("test-job-1")), ("created".into(), "created".into()));
    assert_eq!(app.ok(&["ps", "-q"]), "", "what never ran is shown with -a only");
    app.ok(&["start"]);
    assert_eq!(app.ok(&["port", "web", "80"]), format!("127.0.0.1:{port}\n"));
    let not = app.run(&["port", "web", "81"]);
    assert_eq!(not.err, "error: no port 81/tcp of container test-web-1 is published\n");
    let waited = app.run(&["wait", "job"]);
    let id = app.ok(&["ps", "-a", "-q", "job"]).trim().to_owned();
    assert_eq!(
        (waited.code, waited.out),
        (Some(4), format!("container \"{id}\" exited with status code 4\n"))
    );
    assert_eq!(app.ok(&["ps", "--services"]), "web\n");
    assert_eq!(app.ok(&["ps", "-a", "--services", "--status", "exited"]), "job\n");
    app.ok(&["kill", "-s", "TERM", "web"]);
    eventually("it has ended", || app.state("test-web-1") == "exited");
    app.ok(&["rm", "-f"]);
    assert!(app.ps().is_empty());
    assert_eq!(app.run(&["rm", "-f"]).err, "No stopped containers\n");

    let lines = app.ok(&["events", "--json", "--since", "1h", "--until", "0s", "job"]);
    let events: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = events.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "start", "die", "destroy"]);
    assert_eq!((&events[2]["attributes"]["exitCode"], &events[2]["service"]), (&json!("4"), &json!("job")));
}

#[test]
fn up_in_the_foreground_ends_with_the_first_container_or_the_chosen_one() {
    let app = App::new(json!({
        "job": {"command": ["sh", "-c", "sleep 0.3; echo done; exit 5"], "network_mode": "none"},
        "web": waits("hello"),
    }));
    let ended = app.run(&["up", "--abort-on-container-exit", "--no-attach", "web"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(5), "job-1  | done\n"), "{}", ended.err);
    assert_eq!(app.ps()["test-web-1"]["ExitCode"], 3, "stopped, not killed");
    let ended = app.run(&["up", "--exit-code-from", "web"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
}

#[test]
fn orphans_are_noticed_and_removed_on_request() {
    let app = App::new(json!({"old": waits("o"), "web": waits("w")}));
    app.ok(&["up", "-d"]);
    app.replace(json!({"web": waits("w")}));
    let up = app.run(&["up", "-d"]);
    assert!(up.err.contains("no longer has: test-old-1; `--remove-orphans` removes them"), "{}", up.err);
    assert_eq!(app.state("test-old-1"), "running");
    assert_eq!(app.ok(&["ps", "--services"]), "old\nweb\n");
    assert_eq!(app.ok(&["ps", "--services", "--orphans=false"]), "web\n");
    let id = app.ps()["test-web-1"]["ID"].clone();
    app.ok(&["up", "-d", "--remove-orphans", "--force-recreate"]);
    assert_eq!(app.ps().len(), 1);
    assert_ne!(app.ps()["test-web-1"]["ID"], id);
}

#[test]
fn what_has_ended_is_started_again_though_its_shim_is_not_done() {
    let app = App::new(json!({"web": waits("w")}));
    app.ok(&["up", "-d"]);
    eventually("it has spoken", || app.ok(&["logs", "--no-log-prefix"]) == "w\n");
    let text = std::fs::read(app.path("data/projects/test/containers/test-web-1/running.json")).unwrap();
    let running: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let pid = |who: &str| i32::try_from(running[who]["pid"].as_i64().unwrap()).unwrap();
    let signal = |who: &str, signal| {
        let pid = pid(who);
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
    };
    signal("shim", rustix::process::Signal::STOP);
    signal("init", rustix::process::Signal::KILL);
    dies(pid("init"));
    let mut up = app.command(&["up", "-d"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal("shim", rustix::process::Signal::CONT);
    assert!(up.wait().unwrap().success());
    assert_eq!(app.state("test-web-1"), "running");
    eventually("it has said so twice", || app.ok(&["logs", "--no-log-prefix"]) == "w\nw\n");
}

#[test]
fn a_service_named_is_active_whatever_its_profile() {
    let mut debug = waits("d");
    debug["profiles"] = json!(["debug"]);
    let app = App::new(json!({"web": waits("w"), "debug": debug}));
    app.ok(&["up", "-d"]);
    assert_eq!(app.state("test-debug-1"), "");
    assert_eq!(app.ok(&["run", "--rm", "debug", "echo", "once"]), "once\n");
    app.ok(&["up", "-d", "debug"]);
    assert_eq!(app.state("test-debug-1"), "running");
}

#[test]
fn replicas_are_made_and_removed() {
    let app = App::new(json!({"web": waits("w")}));
    app.ok(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(app.ps().into_keys().collect::<Vec<_>>(), ["test-web-1", "test-web-2", "test-web-3"]);
    assert_eq!(
        app.ok(&["exec", "--index", "3", "web", "hostname"]).trim(),
        &app.ps()["test-web-3"]["ID"].as_str().unwrap()[..12]
    );
    app.ok(&["up", "-d"]);
    assert_eq!(app.ps().into_keys().collect::<Vec<_>>(), ["test-web-1"]);
}

#[test]
fn run_takes_volumes_and_ports() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let app = App::new(
        json!({"web": {"command": ["cat", "/there/file"], "network_mode": "none"}, "net": {"command": ["sleep", "30"]}}),
    );
    std::fs::create_dir(app.path("here")).unwrap();
    std::fs::write(app.path("here/file"), "bound $x").unwrap();
    let bind = format!("{}:/there:ro", app.path("here").display());
    assert_eq!(app.ok(&["run", "--rm", "-v", &bind, "web"]), "bound $x");
    let id = app.ok(&["run", "-d", "--rm", "-p", &format!("{port}:80"), "net"]);
    let ran = app.ps().into_values().find(|row| row["ID"] == id.trim()[..12]).unwrap();
    assert_eq!(ran["Publishers"][0]["PublishedPort"], port);
    app.ok(&["down", "-t", "0"]);
}

#[test]
fn cp_goes_both_ways_and_no_link_of_the_container_leads_outside() {
    let app = App::new(json!({"web": waits("w")}));
    app.ok(&["up", "-d"]);
    let out = app.path("out");
    std::fs::create_dir(&out).unwrap();
    let out = out.to_str().unwrap();
    let read = |path: &str| std::fs::read_to_string(format!("{out}/{path}")).unwrap();
    app.ok(&["cp", "web:/etc/passwd", out]);
    assert!(read("passwd").starts_with("root:x:0:0"));
    std::fs::write(format!("{out}/in"), "from outside").unwrap();
    app.ok(&["cp", &format!("{out}/in"), "web:/tmp/renamed"]);
    assert_eq!(
        app.ok(&["exec", "-T", "web", "sh", "-c", "cat /tmp/renamed; stat -c ' %u' /tmp/renamed"]),
        "from outside 0\n"
    );
    app.ok(&["exec", "-T", "web", "sh", "-c", "mkdir -p /tmp/tree/sub; echo x > /tmp/tree/sub/f; kill -0 1"]);
    app.ok(&["cp", "web:/tmp/tree", out]);
    app.ok(&["cp", "web:/tmp/tree/.", &format!("{out}/flat")]);
    assert_eq!((read("tree/sub/f").as_str(), read("flat/sub/f").as_str()), ("x\n", "x\n"));

    // CVE-2018-15664 and its kind: links of the container are the container's.
    let secret = app.path("secret");
    std::fs::write(&secret, "the device's").unwrap();
    let host = app.path("");
    let (secret, host) = (secret.display(), host.display());
    let script = format!(
        "cd /tmp; busybox ln -s {secret} leak; busybox ln -s ../../../../../../.. up; mkdir trap; busybox ln -s {host} trap/in"
    );
    app.ok(&["exec", "-T", "web", "sh", "-c", &script]);
    let leak = app.run(&["cp", "-L", "web:/tmp/leak", &format!("{out}/leaked")]);
    assert!(leak.code != Some(0) && !std::path::Path::new(&format!("{out}/leaked")).exists(), "{leak:?}");
    app.ok(&["cp", "web:/tmp/up/etc/passwd", &format!("{out}/by-link")]);
    assert_eq!(read("by-link"), read("passwd"), "the container's, not the device's");
    let inwards = app.run(&["cp", &format!("{out}/in"), "web:/tmp/trap/in/planted"]);
    assert!(inwards.code != Some(0) && !app.path("planted").exists(), "{inwards:?}");
    // A link that was copied out is not followed when a folder of its name comes next.
    app.ok(&["cp", "web:/tmp/trap", out]);
    app.ok(&[
        "exec",
        "-T",
        "web",
        "sh",
        "-c",
        "rm /tmp/trap/in; mkdir /tmp/trap/in; echo evil > /tmp/trap/in/secret",
    ]);
    app.ok(&["cp", "web:/tmp/trap", out]);
    assert_eq!(std::fs::read_to_string(app.path("secret")).unwrap(), "the device's");
    assert_eq!(read("trap/in/secret"), "evil\n");

    app.ok(&["stop"]);
    app.ok(&["cp", "web:/tmp/tree/sub/f", &format!("{out}/of-stopped")]);
    app.ok(&["cp", &format!("{out}/in"), "web:/data/of-stopped"]);
    assert_eq!(read("of-stopped"), "x\n");
    app.ok(&["start"]);
    assert_eq!(app.ok(&["exec", "-T", "web", "cat", "/data/of-stopped"]), "from outside", "volumes too");
    let missing = app.run(&["cp", "web:/none", out]);
    assert_eq!(
        (missing.code, missing.err.contains("failed to find `/none`")),
        (Some(3), true),
        "{missing:?}"
    );
}

#[test]
fn attach_passes_on_what_is_typed_and_the_exit_status() {
    use std::io::Write as _;
    let script = "while read line; do echo got $$line; test $$line = end && exit 6; done";
    let app = App::new(
        json!({"web": {"command": ["sh", "-c", script], "stdin_open": true, "network_mode": "none"}}),
    );
    app.ok(&["up", "-d"]);
    let mut attach = app.command(&["attach", "web"]);
    attach.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut attached = attach.spawn().unwrap();
    // What is written before it looks would not be shown.
    std::thread::sleep(std::time::Duration::from_millis(500));
    attached.stdin.take().unwrap().write_all(b"one\nend\n").unwrap();
    let ended = ended(attached.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.out.as_str()), (Some(6), "got one\ngot end\n"), "{}", ended.err);
}

/// What travels is mounted without being on the device, what a container changes in it stays, another version of the files has
/// a folder of its own, and what lies beside the executable comes first.
#[test]
fn files_of_the_project_travel() {
    let service = |says: &str| {
        let mut service = waits(says);
        service["volumes"] = json!(["./conf/a:/a", "./conf:/conf", "./made:/made"]);
        json!({"web": service})
    };
    let app = App::new(json!({}));
    app.replace_travelling(service("one"), &[("conf/a", "first"), ("conf/sub/b", "below")]);
    app.ok(&["up", "-d"]);
    assert_eq!(app.ok(&["exec", "web", "cat", "/a", "/conf/sub/b"]), "firstbelow");
    app.ok(&["exec", "web", "touch", "/conf/kept"]);
    assert!(app.path("made").is_dir(), "what does not travel is the device's");
    assert!(!app.path("conf").exists(), "nothing is written beside the executable");

    app.replace_travelling(service("two"), &[("conf/a", "first"), ("conf/sub/b", "below")]);
    app.ok(&["up", "-d"]);
    assert_eq!(app.ok(&["exec", "web", "ls", "/conf"]), "a\nkept\nsub\n");

    app.replace_travelling(service("two"), &[("conf/a", "second"), ("conf/sub/b", "below")]);
    app.ok(&["up", "-d"]);
    assert_eq!(app.ok(&["exec", "web", "cat", "/a"]), "second");
    assert_eq!(app.ok(&["exec", "web", "ls", "/conf"]), "a\nsub\n");

    std::fs::create_dir(app.path("conf")).unwrap();
    std::fs::write(app.path("conf/a"), "mine").unwrap();
    app.ok(&["up", "-d"]);
    assert_eq!(app.ok(&["exec", "web", "cat", "/a"]), "mine");
    assert_eq!(app.ok(&["run", "--rm", "web", "cat", "/a"]), "mine");
    std::fs::remove_dir_all(app.path("conf")).unwrap();
    assert_eq!(app.ok(&["run", "--rm", "web", "cat", "/a"]), "second");

    app.ok(&["down", "--volumes"]);
    assert!(!app.path("data/projects/test/files").exists());
    assert_eq!(
        app.ok(&["run", "--rm", "web", "cat", "/a"]),
        "second",
        "a one-off container lays them out, too"
    );
}

#[test]
fn a_limited_log_keeps_what_is_new_and_none_keeps_nothing() {
    let says = "i=0; while [ $$i -lt 500 ]; do echo line $$i; i=$$((i+1)); sleep 0; done";
    let logging = |logging: serde_json::Value| json!({"command": ["sh", "-c", says], "network_mode": "none", "logging": logging});
    let app = App::new(json!({
        "some": logging(json!({"driver": "json-file", "options": {"max-size": "4k", "max-file": "3"}})),
        "nothing": logging(json!({"driver": "none"})),
        "all": logging(json!({"driver": "local"})),
    }));
    app.ok(&["up", "-d"]);
    for container in ["test-some-1", "test-nothing-1", "test-all-1"] {
        eventually("it ends", || app.state(container) == "exited");
    }
    let folder = app.path("data/projects/test/containers/test-some-1");
    let logs = std::fs::read_dir(&folder).unwrap().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name.starts_with("log.").then(|| (name, entry.metadata().unwrap().len()))
    });
    let logs: std::collections::BTreeMap<String, u64> = logs.collect();
    assert_eq!(logs.keys().collect::<Vec<_>>(), ["log.1.json", "log.2.json", "log.json"]);
    // A file is ended after the write that fills it, and a shim writes what it reads at once: a pipe holds 64 KiB.
    assert!(logs.values().all(|size| *size < 4_000 + 512 * 1024), "{logs:?}");
    let some = app.ok(&["logs", "--no-log-prefix", "some"]);
    assert!(some.ends_with("line 498\nline 499\n") && !some.contains("line 0\n"), "{some}");
    assert_eq!(app.ok(&["logs", "--no-log-prefix", "nothing"]), "");
    assert_eq!(app.ok(&["logs", "--no-log-prefix", "all"]).lines().count(), 500);
}

#[test]
fn a_seccomp_profile_of_the_project_is_what_confines_its_service() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    let files = [("profiles/no-mkdir.json".to_owned(), profile.to_owned())].into();
    let service = |option: &str| {
        let script = "busybox mkdir /made && echo made; grep Seccomp: /proc/self/status";
        json!({"image": "x", "network_mode": "none", "command": ["sh", "-c", script], "security_opt": [option]})
    };
    let content = json!({"services": {
        "own": service("seccomp=./profiles/no-mkdir.json"),
        "colon": service("seccomp:profiles/no-mkdir.json"),
        "default": service("no-new-privileges:true"),
        "none": service("seccomp=unconfined"),
    }});
    let app = App::with_files(content, &files);
    for service in ["own", "colon"] {
        let ended = app.run(&["run", "--rm", service]);
        assert!(ended.err.contains("No space left on device"), "the profile's own answer: {ended:?}");
        assert_eq!(ended.out, "Seccomp:\t2\n");
    }
    assert_eq!(app.ok(&["run", "--rm", "default"]), "made\nSeccomp:\t2\n");
    assert_eq!(app.ok(&["run", "--rm", "none"]), "made\nSeccomp:\t0\n");
}

#[test]
fn an_id_that_this_user_does_not_have_is_said_with_how_many_are_needed() {
    let app = App::new(json!({"web": {"command": ["id"], "user": "4200000:33"}}));
    let ended = app.run(&["run", "--rm", "web"]);
    if app.path("data/layers/single").exists() {
        return;
    }
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.err.contains("service `web` runs as user 4200000 and group 33"), "{ended:?}");
    assert!(ended.err.contains("\nhint: 4200000 subordinate IDs are needed"), "{ended:?}");
    assert_eq!(ended.err.matches("hint:").count(), 1, "{ended:?}");
}

#[test]
fn pre_start_comes_first_once_and_its_failure_stops_what_follows() {
    let services = |last: &str| {
        json!({
            "web": {
                "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
                "volumes": ["kept:/kept"], "environment": {"WHO": "web"}, "scale": 2, "user": "guest",
                "pre_start": [
                    {"command": "sh -c 'echo first of $$WHO by $$(id -u) >> /kept/log; echo x > /data/mine; chmod 777 /kept; chmod 666 /kept/log'",
                     "user": "root"},
                    {"command": ["sh", "-c", "echo each >> /kept/log"], "per_replica": true},
                    {"image": "busybox", "command": ["sh", "-c", last], "environment": {"WHO": "step"}},
                ],
            },
            "late": {"command": ["true"], "depends_on": ["web"], "network_mode": "none"},
        })
    };
    let app = App::new(services("echo last of $$WHO by $$(id -u) >> /kept/log"));
    app.ok(&["up", "-d"]);
    let log = || app.ok(&["exec", "-T", "web", "cat", "/kept/log"]);
    let once = "first of web by 0\neach\nlast of step by 0\n";
    assert_eq!(log(), format!("{once}each\n"));
    let mine = |index: &str| app.run(&["exec", "-T", "--index", index, "web", "cat", "/data/mine"]).out;
    assert_eq!(mine("1") + &mine("2"), "x\n", "the first one's anonymous volume is the step's, too");
    assert!(!app.ps().keys().any(|name| name.contains("pre_start")), "{:?}", app.ps().keys());

    app.ok(&["up", "-d"]);
    app.ok(&["restart", "-t", "1"]);
    assert_eq!(log(), format!("{once}each\n"), "nothing was made anew");
    app.ok(&["up", "-d", "--force-recreate", "-t", "1"]);
    assert_eq!(log(), format!("{once}each\n{once}each\n"));

    app.ok(&["down", "-v", "-t", "1"]);
    app.replace(services("echo no good; exit 7"));
    let failed = app.run(&["up", "-d"]);
    assert!(
        failed.err.contains("service `web`: pre_start[2] exited with status 7\nno good"),
        "{}",
        failed.err
    );
    assert_eq!(failed.code, Some(4));
    assert_eq!([app.state("test-web-1"), app.state("test-late-1")], ["created", "created"]);
    let start = app.run(&["start", "web"]);
    assert!(start.err.contains("its `pre_start` has not been carried out"), "{}", start.err);
    app.replace(services("exit 0"));
    app.ok(&["up", "-d"]);
    assert_eq!(app.state("test-web-2"), "running");
}

#[test]
fn a_volume_may_lie_elsewhere_on_the_device() {
    let waits = json!({"command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"],
        "network_mode": "none", "volumes": ["there:/there", "fast:/data"]});
    let content = json!({
        "services": {"web": waits},
        "volumes": {
            "there": {"driver_opts": {"type": "none", "o": "bind", "device": "./there"}},
            "fast": {"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=4m"}},
        },
    });
    let app = App::with_files(content, &std::collections::BTreeMap::new());
    let missing = app.run(&["up", "-d"]);
    let folder = app.path("there");
    assert_eq!(missing.code, Some(3));
    let said =
        format!("error: volume `there` lies in `{}`, which is no folder\nhint: mkdir -p", folder.display());
    assert!(missing.err.contains(&said), "{}", missing.err);
    std::fs::create_dir(&folder).unwrap();
    app.ok(&["up", "-d"]);
    app.ok(&["exec", "-T", "web", "sh", "-c", "echo kept > /there/file; cp /bin/busybox /data/echo"]);
    assert_eq!(
        app.ok(&["exec", "-T", "web", "/data/echo", "hi"]),
        "hi\n",
        "a volume's programs can be executed"
    );
    assert_eq!(app.ok(&["exec", "-T", "web", "cat", "/data/from-image"]), "x", "it began as any new volume");
    app.ok(&["down", "-v"]);
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "kept\n");
}

#[test]
fn steps_hashes_variables_and_templates_are_printed() {
    let app = App::new(json!({
        "web": {"command": ["sh", "-c", "sleep 60"], "environment": {"WORD": "${WORD:?say a word}"}, "network_mode": "none"},
        "db": {"command": ["sh", "-c", "sleep 60"], "environment": {"WORD": "${OTHER:+$WORD}"}, "network_mode": "none"},
    }));
    let with = |word: &str, arguments: &[&str]| {
        let ended = app.run_with(arguments, &[("WORD".to_owned(), word.to_owned())].into());
        assert_eq!(ended.code, Some(0), "{arguments:?}\n{}", ended.err);
        ended.out
    };
    assert_eq!(with("a", &["up", "--dry-run"]), "create test-db-1\ncreate test-web-1\n");
    assert!(app.ps().is_empty());
    with("a", &["create", "web"]);
    assert_eq!(with("b", &["up", "--dry-run", "web"]), "recreate test-web-1\n");

    let hashes = |word: &str, of: &str| -> Vec<(String, String)> {
        let text = with(word, &["config", "--hash", of]);
        let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
        pairs.map(|(name, hash)| (name.to_owned(), hash.to_owned())).collect()
    };
    let (before, after) = (hashes("a", "*"), hashes("b", "*"));
    assert_eq!(before.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!(before[0], after[0], "it is the same");
    assert_ne!(before[1], after[1], "its environment is another one");
    assert_eq!(hashes("a", "web"), before[1..]);

    let variables = with("a", &["config", "--variables"]);
    let lines: Vec<Vec<&str>> = variables.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1..], [vec!["OTHER", "false", "$WORD"], vec!["WORD", "true"]], "{variables}");
    assert_eq!(with("a", &["config", "--format", "yaml", "-o", "out.yml"]), "");
    let written = std::fs::read_to_string(app.path("out.yml")).unwrap();
    assert_eq!(written, with("a", &["config"]));

    let template = ["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}"];
    assert_eq!(with("a", &[&template[..], &["--all"]].concat()), "test-web-1 --\n", "it does not run");
    assert_eq!(with("a", &template), "");
    for (typed, expected) in [
        (&["ps", "-a", "--format", "{{.Size}}"][..], "error: `{{.Size}}` is no field that there is here"),
        (
            &["ps", "--format", "{{range .}}{{end}}"],
            "error: invalid value '{{range .}}{{end}}' for '--format <FORMAT>': of Go's",
        ),
        (&["ps", "--filter", "label=x"], "error: `label=x` is no filter"),
        (&["pull"], "error: there is no `pull` here: images travel in this file"),
    ] {
        let ended = app.run(typed);
        assert_eq!(ended.code, Some(2), "{typed:?}");
        assert!(ended.err.starts_with(expected), "{typed:?}: {}", ended.err);
    }
}

#[test]
fn attach_passes_signals_on_unless_it_is_told_not_to() {
    let app = App::new(json!({"web": waits("w")}));
    app.ok(&["up", "-d"]);
    let term = |arguments: &[&str]| {
        let mut attached = app.command(arguments).stdout(Stdio::null()).spawn().unwrap();
        // Blocked or not, it has to be there when the signal comes.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let pid = rustix::process::Pid::from_raw(attached.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        attached.wait().unwrap()
    };
    assert_eq!(term(&["attach", "--sig-proxy=false", "web"]).code(), None, "the signal ends it");
    assert_eq!(app.state("test-web-1"), "running");
    assert_eq!(term(&["attach", "web"]).code(), Some(3), "the container ends, and with its status");
    assert_eq!(app.state("test-web-1"), "exited");
}
