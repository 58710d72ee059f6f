//! An application on a kernel from which everything was taken that Linux 4.19 does not have (`examples/old_kernel.rs`). With
//! `DPACK_TEST_OLD_KERNEL` set the other suites run so, too.

mod support;

use serde_json::json;
use support::{App, eventually};

#[test]
fn an_application_runs_without_the_calls_that_came_after_linux_4_19() {
    let script = "trap 'exit 3' TERM; echo started; while :; do sleep 0.1; done";
    let app = App::new(json!({
        "web": {"command": ["sh", "-c", script], "volumes": ["kept:/kept"], "tmpfs": ["/tmp:size=1m"]},
        "sealed": {"command": ["sh", "-c", script], "read_only": true, "network_mode": "none", "init": true},
    }))
    .on_an_old_kernel();
    let up = app.run(&["up", "-d"]);
    assert_eq!(up.code, Some(0), "{up:?}");
    assert!(up.err.contains("each container gets a copy of its image"), "{up:?}");
    eventually("both have started", || app.ok(&["logs"]).lines().count() == 2);

    let doctor = app.run(&["doctor", "--format", "json"]).out;
    let doctor: serde_json::Value = serde_json::from_str(&doctor).expect("a report");
    assert_eq!(doctor["runs"], true, "{doctor}");
    assert!(doctor.to_string().contains("each container gets a copy of its image"), "{doctor}");
    for call in ["openat2", "pidfd_open", "open_tree", "mount_setattr", "close_range"] {
        let check =
            doctor["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == call));
        assert_eq!(check.map(|check| &check["verdict"]), Some(&json!("warning")), "{call}: {doctor}");
    }

    // What mounts are for: nothing of /proc that is masked can be read, read-only is read-only, a root too.
    let inside = |service: &str, script: &str| app.run(&["exec", "-T", service, "sh", "-c", script]);
    for service in ["web", "sealed"] {
        assert_eq!(inside(service, "cat /proc/interrupts /proc/timer_list").out, "");
        assert!(inside(service, "echo 1 > /proc/sys/kernel/panic").err.contains("ead-only"));
        let roots = inside(service, "grep -c . /proc/self/mountinfo; cat /proc/mounts").out;
        assert!(
            !roots.contains(app.path("").to_str().expect("a name")),
            "no path of the device shows: {roots}"
        );
        assert_eq!(inside(service, "cat /proc/1/comm").code, Some(0));
    }
    assert!(inside("sealed", "echo > /x").err.contains("ead-only"));
    assert_eq!(inside("web", "echo own > /bin/new && rm /etc/passwd && cat /bin/new").out, "own\n");
    assert_eq!(inside("sealed", "ls /bin/new /etc/passwd").out, "/etc/passwd\n", "each has its own copy");
    assert_eq!(inside("web", "echo kept > /kept/file; echo x > /tmp/x; df /tmp | tail -1").code, Some(0));

    let file = app.path("copied");
    app.ok(&["cp", "web:/kept/file", file.to_str().expect("a name")]);
    assert_eq!(std::fs::read_to_string(file).expect("a copy"), "kept\n");
    assert_eq!(app.run(&["run", "--rm", "web", "sh", "-c", "cat /kept/file; exit 7"]).out, "kept\n");

    app.ok(&["stop", "web"]);
    assert_eq!(app.ps()["test-web-1"]["ExitCode"], 3, "the signal arrived");
    // A stopped container that is read-only takes nothing in: its files may be the layers'.
    app.ok(&["stop", "sealed"]);
    let refused = app.run(&["cp", app.path("copied").to_str().expect("a name"), "sealed:/etc/passwd"]);
    assert!(refused.code != Some(0) && refused.err.contains("ead-only"), "{refused:?}");
    app.ok(&["start"]);
    assert_eq!(inside("web", "cat /bin/new; ls /etc/passwd").out, "own\n", "what was written is still there");
    app.ok(&["down", "-v"]);
    assert!(app.ps().is_empty());
}

#[test]
fn the_storage_driver_is_found_by_trying_and_can_be_asked_for() {
    let driver = |app: &App| std::fs::read_to_string(app.path("data/layers/driver")).expect("a driver");
    let service = || App::new(json!({"web": {"command": ["cat", "/etc/passwd"]}}));
    let app = service();
    app.ok(&["run", "--rm", "web"]);
    assert!(app.path("data/layers/full").exists() || app.path("data/layers/single").exists());
    assert!(driver(&app).contains(" overlay "), "{}", driver(&app));
    let app = service().on_an_old_kernel();
    app.ok(&["run", "--rm", "web"]);
    assert!(
        driver(&app).contains(" copy overlayfs cannot be mounted in a user namespace"),
        "{}",
        driver(&app)
    );

    let app = service();
    let asked = |name: &str| {
        let variables = [("DPACK_STORAGE_DRIVER".to_owned(), name.to_owned())].into_iter().collect();
        app.run_with(&["run", "--rm", "web"], &variables)
    };
    let copied = asked("copy");
    assert!(copied.code == Some(0) && copied.out.starts_with("root:"), "{copied:?}");
    let layers = |suffix: &str| {
        let folders = ["full", "single"].map(|kind| app.path(&format!("data/layers/{kind}{suffix}")));
        let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        entries.filter(|entry| entry.file_name().len() == 64).count()
    };
    assert!(layers("-copy") > 0 && layers("") == 0);
    app.ok(&["up", "-d"]);
    app.ok(&["down"]);
    assert_eq!(layers("-copy"), 0, "what the other driver had has gone");
    assert!(layers("") > 0);
    assert_eq!(asked("vfs").err, "error: `vfs` is no storage driver: there are `overlay` and `copy`\n");
}

#[test]
fn an_image_of_several_layers_is_mounted_with_either_driver() {
    let app = App::new(json!({}));
    let script =
        "cat /img/data/from-image /img/conf; ls /img/bin/busybox; echo x > /img/conf || echo read-only";
    let mount = json!({"type": "image", "source": "layered", "target": "/img"});
    let travelling = [("data/from-image", "second layer\n"), ("conf", "c\n")];
    app.replace_travelling(
        json!({"web": {"command": ["sh", "-c", script], "volumes": [mount]}}),
        &travelling,
    );
    for driver in ["overlay", "copy"] {
        let variables = [("DPACK_STORAGE_DRIVER".to_owned(), driver.to_owned())].into();
        let ran = app.run_with(&["run", "--rm", "web"], &variables);
        assert_eq!(ran.out, "second layer\nc\n/img/bin/busybox\nread-only\n", "{driver}: {}", ran.err);
        app.ok(&["down", "-v"]);
    }
}
