//! Real containers, started by an ordinary user, in both kinds of ID map.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are not tests to clippy")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Command, Stdio};

use serde_json::json;
use support::{Host, MAPS, errors, eventually, text};

#[test]
fn a_container_sees_only_itself() {
    let host = Host::new();
    for map in MAPS {
        let script = "echo pid=$$; echo host=$(hostname); echo root=$(echo /*); ls /proc/self/fd | wc -l; \
                      cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo x 2>&1 >/proc/sys/kernel/domainname; \
                      mount -t tmpfs x /tmp 2>&1; echo x >/dev/null && echo null; \
                      grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status; grep -c /tmp /proc/self/mountinfo; pwd";
        let output = host.container(map, "sees", &["sh", "-c", script]).output();
        let lines: Vec<&str> = output.lines().collect();
        let expected = [
            "pid=1",
            "host=box",
            "root=/bin /dev /etc /proc /sys /tmp",
            // 0, 1, 2 and the folder itself.
            "4",
            "0",
            "0",
            "sh: can't create /proc/sys/kernel/domainname: Read-only file system",
            "mount: permission denied (are you root?)",
            "null",
        ];
        assert_eq!(lines[..9], expected, "{map}");
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert!(lines.contains(&format!("{set}:\t00000000a80425fb").as_str()), "{map}: {set}: {output}");
        }
        for set in ["CapInh", "CapAmb"] {
            assert!(lines.contains(&format!("{set}:\t0000000000000000").as_str()), "{map}: {set}: {output}");
        }
        assert_eq!(lines[lines.len() - 2..], ["0", "/"], "{map}: a path of the host shows in mountinfo");
    }
}

#[test]
fn exit_statuses_pass_through() {
    let host = Host::new();
    let run = |name: &str, args: &[&str]| host.container("full", name, args).run();
    assert_eq!(run("seven", &["sh", "-c", "exit 7"]).status.code(), Some(7));
    let missing = run("missing", &["nope"]);
    assert_eq!(missing.status.code(), Some(127));
    assert_eq!(errors(&missing), "error: exec: \"nope\": executable file not found in $PATH\n");
    let folder = run("folder", &["/etc"]);
    assert_eq!(folder.status.code(), Some(126));
    assert!(errors(&folder).contains("Permission denied"), "{folder:?}");
    fs::write(host.layer().join("bin/script"), "#!/bin/absent\n").unwrap();
    Command::new("chmod").arg("755").arg(host.layer().join("bin/script")).status().unwrap();
    let script = run("script", &["script"]);
    assert_eq!(script.status.code(), Some(126));
    assert!(errors(&script).contains("its interpreter `/bin/absent` is not in the image"), "{script:?}");
    let killed = host
        .container("full", "killed", &["sh", "-c", "kill -KILL $$"])
        .set("/annotations/dev.dpack.init", json!("true"));
    assert_eq!(killed.run().status.code(), Some(137));
}

#[test]
fn a_container_survives_its_starter_and_keeps_its_log() {
    let host = Host::new();
    for map in MAPS {
        let script =
            "trap 'echo bye >&2; exit 9' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";
        let container = host.container(map, "survives", &["sh", "-c", script]);
        let mut starter = container.start_command("linger").stdout(Stdio::null()).spawn().unwrap();
        container.wait_for_state("Running");
        starter.kill().unwrap();
        starter.wait().unwrap();
        let before = container.log().len();
        eventually("more log", || (container.log().len() > before + 3).then_some(()));
        container.signal("SIGTERM");
        let state = container.wait_for_state("Exited");
        assert!(state.contains("code: 9, signal: None"), "{state}");
        let log = container.log();
        assert_eq!(log[0], "stdout: 1\n");
        assert!(log.contains(&"stderr: bye\n".to_owned()), "{log:?}");
    }
}

#[test]
fn a_container_dies_with_its_shim() {
    let host = Host::new();
    for init in ["false", "true"] {
        let container = host.container("full", &format!("dies-{init}"), &["sleep", "1000"]);
        let container =
            container.set("/annotations/dev.dpack.init", json!(init)).set("/process/user/uid", json!(33));
        let (shim, _) = container.start();
        container.wait_for_state("Running");
        Command::new("kill").args(["-9", &shim.to_string()]).status().unwrap();
        container.wait_for_state("Dead");
    }
}

#[test]
fn init_reaps_forwards_and_cannot_be_written_to() {
    let host = Host::new();
    let before = fs::read(host.program()).unwrap();
    let script = "(sleep 0.1 &) ; (sleep 0.1 &); echo x >/proc/1/exe; sleep 0.5; \
                  echo zombies=$(grep -l 'State:.Z' /proc/[0-9]*/status | wc -l) $$; trap 'exit 3' USR1; \
                  while :; do sleep 0.05; done";
    let container = host
        .container("full", "init", &["sh", "-c", script])
        .set("/annotations/dev.dpack.init", json!("true"));
    container.start();
    let line = eventually("the count", || container.log().into_iter().find(|line| line.contains("zombies")));
    assert_eq!(line, "stdout: zombies=0 2\n");
    assert!(container.log().iter().any(|line| line.contains("/proc/1/exe")), "{:?}", container.log());
    container.signal("USR1");
    container.wait_for_state("code: 3");
    assert!(fs::read(host.program()).unwrap() == before, "the host's program was written to");
}

#[test]
fn exec_is_confined_as_the_container_is() {
    let host = Host::new();
    for map in MAPS {
        let container = host.container(map, "exec", &["sleep", "1000"]);
        container.start();
        let status = |pid: &str| {
            format!(
                "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/{pid}/status; for n in pid net mnt ipc uts; do readlink /proc/{pid}/ns/$n; done"
            )
        };
        let own = text(&container.exec("-", &["sh", "-c", &status("1")]));
        let joined = text(&container.exec("-", &["sh", "-c", &status("self")]));
        assert_eq!(own, joined, "{map}");
        let environment =
            text(&container.exec("-", &["sh", "-c", "echo $OWN $FROM; ls /proc/self/fd | wc -l; pwd"]));
        assert_eq!(environment, "yes exec\n4\n/\n");
        let user = text(&container.exec("33", &["sh", "-c", "grep -E 'CapEff|CapPrm' /proc/self/status"]));
        assert_eq!(user, "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n", "{map}");
        assert_eq!(container.exec("-", &["sh", "-c", "exit 5"]).status.code(), Some(5));
        assert_eq!(container.exec("-", &["nope"]).status.code(), Some(127));
        assert_eq!(container.exec("-", &["/etc"]).status.code(), Some(126));
        let before = fs::read(host.program()).unwrap();
        // Our own program inside the container: it must not be the host's file that lies open (CVE-2019-5736).
        let _ = container.exec("-", &["/proc/self/exe"]);
        assert!(fs::read(host.program()).unwrap() == before);
        container.signal("KILL");
        container.wait_for_state("code: 137, signal: Some(9)");
        let gone = container.exec("-", &["true"]);
        assert!(errors(&gone).contains("is not running"), "{gone:?}");
    }
}

#[test]
fn terminals_are_the_containers_own() {
    let host = Host::new();
    let container = host.container("full", "terminal", &["sleep", "1000"]);
    container.start();
    let in_terminal = |verb: &str, rest: &str| {
        let line = format!(
            "stty rows 33 cols 77; exec {} {verb} {} {rest}",
            host.program().display(),
            container.dir.display()
        );
        let mut command = host.command(&[]);
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(|a| a.to_owned()).collect();
        let arguments = &arguments[..arguments.len() - usize::from(program == "setpriv")];
        command = Command::new(&program);
        if program == "setpriv" {
            command.args(arguments).arg("script");
        } else {
            command = Command::new("script");
        }
        command.args(["-qefc", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap()
    };
    let output = in_terminal("tty", "- sh -c 'tty; stty size; echo $TERM; exit 4'");
    let shown = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert_eq!(shown, "/dev/pts/0\n33 77\nxterm\n", "{output:?}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn owners_can_be_changed_even_where_only_one_exists() {
    let host = Host::new();
    for map in MAPS {
        let script = "touch /x && chown 33:33 /x && stat -c '%u %g' /x && id -u";
        let container = host.container(map, "owners", &["sh", "-c", script]);
        assert_eq!(container.output(), "33 33\n0\n", "{map}");
        let user =
            host.container(map, "user", &["sh", "-c", "id -u; touch /x 2>&1; grep CapEff /proc/self/status"]);
        let user = user.set("/process/user", json!({"uid": 33, "gid": 33, "additionalGids": [7]}));
        let output = user.output();
        assert!(output.ends_with("CapEff:\t0000000000000000\n"), "{map}: {output}");
        assert!(map == "single" || output.starts_with("33\ntouch: /x: Permission denied"), "{map}: {output}");
    }
}

#[test]
fn links_in_the_image_lead_nowhere_outside() {
    let host = Host::new();
    let outside = host.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(host.path().join("hosts"), "from the host\n").unwrap();
    let etc = host.layer().join("etc");
    symlink("../../../../../../../../../../../../etc/hosts.real", etc.join("hosts")).unwrap();
    symlink(&outside, host.layer().join("data")).unwrap();
    let source = host.path().join("hosts");
    for map in MAPS {
        let script =
            format!("cat /etc/hosts /etc/hosts.real; ls {}/sub; echo x >/data/sub/file", outside.display());
        let container = host.container(map, "links", &["sh", "-c", &script]);
        fs::create_dir_all(container.dir.join("volume")).unwrap();
        let volume = container.dir.join("volume");
        let container = container
            .mount(json!({"destination": "/etc/hosts", "type": "bind", "source": source, "options": ["bind", "ro"]}))
            .mount(json!({"destination": "/data/sub", "type": "bind", "source": volume, "options": ["rbind"]}));
        assert_eq!(container.output(), "from the host\nfrom the host\n");
        assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "x\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    }
    fs::remove_dir(host.layer().join("proc")).unwrap();
    symlink("tmp", host.layer().join("proc")).unwrap();
    let refused = host.container("full", "proc", &["true"]).run();
    assert!(errors(&refused).contains("failed to make the mount target `/proc`"), "{refused:?}");
}

#[test]
fn nothing_is_mounted_inside_proc() {
    let host = Host::new();
    let container = host
        .container("full", "inside-proc", &["true"])
        .mount(json!({"destination": "/proc/sys", "type": "bind", "source": "/tmp", "options": ["rbind"]}));
    assert!(errors(&container.run()).contains("`/proc/sys`: it is inside /proc"));
}

#[test]
fn a_read_only_root_is_read_only_but_for_its_mounts() {
    let host = Host::new();
    for map in MAPS {
        let script =
            "touch /x 2>&1; touch /run/x && echo run; touch /data/x 2>&1; touch /dev/shm/x && echo shm";
        let container =
            host.container(map, "read-only", &["sh", "-c", script]).set("/root/readonly", json!(true));
        let source = host.path();
        let container = container
            .mount(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}))
            .mount(json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "rro"]}));
        let read_only = |path: &str| format!("touch: {path}: Read-only file system\n");
        assert_eq!(
            container.output(),
            format!("{}run\n{}shm\n", read_only("/x"), read_only("/data/x")),
            "{map}"
        );
    }
}

#[test]
fn a_new_volume_starts_with_the_images_content() {
    let host = Host::new();
    let image = host.layer().join("srv");
    fs::create_dir_all(image.join("deep/er")).unwrap();
    fs::write(image.join("deep/er/file"), "from the image").unwrap();
    symlink("deep", image.join("link")).unwrap();
    for map in MAPS {
        let script =
            "cat /srv/link/er/file; echo; stat -c %a /srv /srv/deep; echo changed >/srv/deep/er/file";
        let container = host.container(map, "volume", &["sh", "-c", script]);
        let volumes = container.dir.join("volumes");
        fs::create_dir_all(volumes.join("data")).unwrap();
        // A copy that was interrupted.
        fs::create_dir_all(volumes.join("+copyup+data/deep")).unwrap();
        Command::new("chmod").arg("750").arg(&image).status().unwrap();
        let container = container.mount(json!({
            "destination": "/srv", "type": "bind", "source": volumes.join("data"), "options": ["rbind", "x-dpack.copyup"]
        }));
        assert_eq!(container.output(), "from the image\n750\n755\n", "{map}");
        assert_eq!(container.output(), "changed\n\n750\n755\n", "{map}: copied twice");
        assert_eq!(fs::read_dir(&volumes).unwrap().count(), 1, "{map}: something was left");
        assert_eq!(fs::metadata(volumes.join("data")).unwrap().mode() & 0o777, 0o750);
    }
}

/// `/proc` is mounted on the image by then: reading all of it would never end, and it is the device's.
#[test]
fn a_volume_on_a_link_to_the_root_is_not_filled_with_proc() {
    let host = Host::new();
    symlink("/", host.layer().join("srv")).unwrap();
    let container = host.container("full", "root-volume", &["true"]);
    let volume = container.dir.join("volumes/data");
    fs::create_dir_all(&volume).unwrap();
    let mount = json!({"destination": "/srv", "type": "bind", "source": &volume, "options": ["rbind", "x-dpack.copyup"]});
    container.mount(mount).run();
    assert!(volume.join("bin/busybox").exists());
    assert!(!volume.join("proc").exists() && !volume.join("sys").exists());
}

/// `ro` alone left cgroups, tracefs and others below it writable.
#[test]
fn with_the_devices_network_sys_is_read_only_all_the_way_down() {
    let host = Host::new();
    for map in MAPS {
        let script =
            "grep -c ' /sys' /proc/self/mountinfo; grep ' /sys' /proc/self/mountinfo | grep -vc ' ro,'";
        let container = host.container(map, "host-sys", &["sh", "-c", &format!("{script}; true")]);
        let options = ["rbind", "rprivate", "rnosuid", "rnoexec", "rnodev", "rro"];
        let container = container
            .set("/linux/namespaces", json!(["mount", "pid", "ipc", "uts", "cgroup"].map(|kind| json!({"type": kind}))))
            .set("/mounts", json!([
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/sys", "type": "bind", "source": "/sys", "options": options},
            ]));
        let output = container.output();
        let (mounts, others) = output.trim().split_once('\n').unwrap();
        assert!(mounts.parse::<u32>().unwrap() >= 1, "{output}");
        assert_eq!(others, "0", "{map}");
    }
}

/// With `init: true` PID 1 is a copy of the shim's memory, which holds what the container is not told.
#[test]
fn the_container_cannot_look_into_its_init() {
    let host = Host::new();
    for map in MAPS {
        let script = "for file in environ mem exe; do cat /proc/1/$file >/dev/null && echo $file; done 2>/dev/null; \
                      cat /proc/self/environ >/dev/null && echo own";
        let container = host.container(map, "hidden-init", &["sh", "-c", script]);
        let container = container.set("/annotations/dev.dpack.init", json!("true"));
        assert_eq!(container.output(), "own\n", "{map}");

        // From outside it is still joined, and its files are read, by the namespace's owner.
        let container = host.container(map, "joined-init", &["sleep", "1000"]);
        let container = container.set("/annotations/dev.dpack.init", json!("true"));
        container.start();
        let look = "cat /proc/1/environ >/dev/null 2>&1 || echo hidden";
        assert_eq!(text(&container.exec("-", &["sh", "-c", look])), "hidden\n", "{map}");
        let read = host.command(&["read", container.dir.to_str().unwrap(), "/etc/passwd"]).output().unwrap();
        assert!(text(&read).contains("www"), "{map}: {read:?}");
        container.signal("KILL");
    }
}

#[test]
fn more_layers_than_fit_in_a_page_of_paths() {
    let host = Host::new();
    let mut layers = vec![host.layer()];
    for number in 0..150 {
        let layer =
            host.path().join(format!("a-rather-long-name-for-a-layer-that-fills-the-page-soon/{number}"));
        fs::create_dir_all(layer.join("layers")).unwrap();
        fs::write(layer.join("layers").join(number.to_string()), "").unwrap();
        fs::write(layer.join("top"), number.to_string()).unwrap();
        layers.push(layer);
    }
    let container = host.container("full", "layers", &["sh", "-c", "ls /layers | wc -l; cat /top"]);
    let container = container.set("/annotations/dev.dpack.layers", json!(json!(layers).to_string()));
    assert_eq!(container.output(), "150\n149");
}

#[test]
fn what_cannot_be_done_is_told_and_leaves_nothing() {
    let host = Host::new();
    let container = host.container("full", "told", &["true"]).mount(
        json!({"destination": "/data", "type": "bind", "source": "/nowhere/at/all", "options": ["rbind"]}),
    );
    let output = container.start_command("start").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let told = errors(&output);
    assert!(told.contains("failed to open the mount source `/nowhere/at/all`: No such file"), "{told}");
    assert!(told.contains("hint: create it first: `mkdir -p /nowhere/at/all`"), "{told}");
    let dir = container.dir.to_str().unwrap().to_owned();
    let left = || {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&dir))
        })
    };
    eventually("the shim's end", || (!left()).then_some(()));
    assert!(!container.dir.join("running.json").exists());

    let missing = host.container("single", "missing", &["nope"]);
    let output = missing.start_command("start").output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let state = missing.state();
    assert!(state.contains(r#"code: 127"#) && state.contains("not found"), "{state}");
}

#[test]
fn a_deleted_program_runs_from_memory() {
    let host = Host::new();
    let container = host.container("full", "deleted", &["sh", "-c", "echo x >/proc/1/exe; echo ran; exit 6"]);
    let container = container.set("/annotations/dev.dpack.init", json!("true"));
    let command = container.start_command("run");
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let program = host.program().display().to_string();
    let at = words.iter().position(|word| *word == program).unwrap();
    let rest = words[at + 1..].join(" ");
    let script = format!("exec 9<{program}; rm {program}; exec /proc/self/fd/9 {rest}");
    let as_user = [&words[..at], &["sh", "-c", &script]].concat();
    let output = Command::new(as_user[0]).args(&as_user[1..]).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran\n");
    assert!(errors(&output).contains("/proc/1/exe"), "{output:?}");
}

#[test]
fn one_folder_has_one_shim_and_can_be_started_again() {
    let host = Host::new();
    let container = host.container("full", "again", &["sleep", "1000"]);
    container.start();
    let second = container.start_command("start").output().unwrap();
    assert!(errors(&second).contains("is running already"), "{second:?}");
    for _ in 0..3 {
        container.signal("KILL");
        container.wait_for_state("Exited");
        container.start();
    }
    assert!(container.state().starts_with("Running"));
}

/// On a machine with version 1, as root: folders that belong to the user, as an administrator would hand them over.
#[test]
fn limits_hold_and_their_group_goes_with_the_container() {
    let host = Host::new();
    let Some(handed_over) = host.hand_over_control_groups() else {
        eprintln!(
            "skipped: control groups of version 1 can be handed over by root only, where they are mounted"
        );
        return;
    };
    let name = format!("limits-{}", std::process::id());
    for map in MAPS {
        let container = host
            .container(map, &name, &["sh", "-c", "read x < /proc/self/cgroup; echo $x; sleep 1000"])
            .set("/linux/resources", json!({"pids": {"limit": 5}, "memory": {"limit": 16 << 20}}));
        container.start();
        let group = eventually("the group", || container.log().into_iter().next());
        assert!(group.ends_with(":/\n") || group.ends_with(":name=systemd:/\n"), "its own root: {group}");
        assert_eq!(handed_over.groups(&name), [1, 1, 1], "{map}");
        let bomb = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait";
        let failed = errors(&container.exec("-", &["sh", "-c", bomb]));
        assert!(failed.contains("can't fork"), "{map}: {failed}");
        let killed = container.exec("-", &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
        assert_eq!(killed.status.code(), Some(137), "{map}: {killed:?}");
        container.signal("KILL");
        let state = container.wait_for_state("Exited");
        assert!(state.contains("oom_killed: true"), "{state}");
        assert_eq!(handed_over.groups(&name), [0, 0, 0], "{map}");
        let refused = host
            .container(map, "refused", &["true"])
            .set("/linux/resources", json!({"unified": {"memory.high": "1"}}))
            .run();
        assert!(errors(&refused).contains("`linux.resources.unified` cannot be enforced"), "{refused:?}");
    }
}

#[test]
fn with_one_id_a_user_is_who_it_became_and_owns_what_it_was_given() {
    let host = Host::new();
    // What the entry point of redis does: it starts itself again for as long as it is root.
    let entry = "#!/bin/sh\nif [ \"$(id -u)\" = 0 ]; then\n\
        find /data \\! -user www -exec chown www:www '{}' +\n\
        exec su -s /bin/sh www -c 'exec /bin/entry'\nfi\n\
        echo \"as $(id -u):$(id -g)\"; touch /data/new\n\
        stat -c '%n %u:%g' /data /data/old /data/new /bin/sh; chown 0 /data/old || echo refused\n\
        (sleep 0.1; id -u) & sh -c 'sh -c \"sleep 0.2; id -u\" &'; wait; sleep 0.3; id -G\n";
    fs::write(host.layer().join("bin/entry"), entry).unwrap();
    fs::create_dir_all(host.layer().join("data")).unwrap();
    fs::write(host.layer().join("data/old"), "").unwrap();
    fs::write(host.layer().join("etc/group"), "root:x:0:\nwww:x:33:\nmore:x:44:www\n").unwrap();
    Command::new("chmod").arg("755").arg(host.layer().join("bin/entry")).status().unwrap();
    for applet in ["su", "stat"] {
        let _ = symlink("busybox", host.layer().join("bin").join(applet));
    }
    host.give_away();
    for map in MAPS {
        let output = host.container(map, "becomes", &["/bin/entry"]).output();
        let expected =
            "as 33:33\n/data 33:33\n/data/old 33:33\n/data/new 33:33\n/bin/sh 0:0\nrefused\n33\n33\n33 44\n";
        assert_eq!(output, expected, "{map}");
        if map == "single" {
            let again = host.container(map, "becomes", &["stat", "-c", "%u:%g", "/data/old", "/bin"]);
            assert_eq!(again.output(), "33:33\n0:0\n", "it is remembered");
        }
        let started = host.container(map, "started", &["sh", "-c", "id -u; id -g; id -G; stat -c %u /bin"]);
        let started = started.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
        assert_eq!(started.output(), "7\n8\n8 9\n0\n", "{map}");
    }
}

#[test]
fn with_one_id_an_executed_user_is_shown_too() {
    let host = Host::new();
    let container = host.container("single", "exec", &["sleep", "1000"]);
    container.start();
    assert_eq!(text(&container.exec("33", &["id", "-u"])), "33\n");
    assert_eq!(text(&container.exec("-", &["id", "-u"])), "0\n");
}
