//! What goes wrong on a device: power, disks, kernel settings, damaged files, killed processes, and people's mistakes.
//! Afterwards the next command works, and nothing half-made is trusted.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use applications::{
    Application, Installed, can_build, entries, free_port, host, one_machine_at_a_time, signal,
};
use dpack_payload::Payload;
use dpack_targets::Target;
use dpack_tests::{DataDisk, Device, Need, Output, Vm, needs, wait_until};

/// The bell on this machine, with a port of its own.
fn bell() -> Result<(Installed, u16)> {
    let port = free_port()?;
    let device = Device::host()?.environment("BELL_PORT", &port.to_string());
    Ok((Installed::on(device, &Application::bell()?.executable_for_host()?)?, port))
}

/// One line that says what, and a hint.
fn says(output: &Output, status: i32, what: &str, hint: &str) {
    let lines: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with(' ')).collect();
    let errors: Vec<&&str> = lines.iter().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(output.status, status, "{output:?}");
    assert!(errors.len() == 1 && errors[0].contains(what), "no `{what}` in {}", output.stderr);
    let hints: Vec<&&str> = lines.iter().filter(|line| line.starts_with("hint: ")).collect();
    assert!(hints.len() == 1 && hints[0].contains(hint), "no hint `{hint}` in {}", output.stderr);
}

// ---- processes that are killed

/// Processes of the shim's role while the bell runs: one for each container, and the init that `web` asks for.
const SHIMS: usize = 4;

/// Kills one process of a running application; then `up` has to repair it and `down` to leave nothing.
fn survives_the_death_of(
    victim: &str,
    is_victim: impl Fn(&Installed) -> Vec<u32>,
    still_runs: bool,
) -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, port) = bell()?;
    bell.ok(&["up", "-d"])?;
    assert_eq!(bell.fetch(port)?, "ding\n");
    let before = bell.ps()?;
    let victims = is_victim(&bell);
    ensure!(!victims.is_empty(), "no {victim} among {:?}", bell.device.processes());
    for process in &victims {
        signal(*process, "KILL")?;
    }
    let gone = || !is_victim(&bell).iter().any(|process| victims.contains(process));
    wait_until("the victim is gone", Duration::from_secs(10), gone)?;

    if still_runs {
        assert_eq!(bell.ps()?, before, "the containers did not notice");
        assert_eq!(bell.ok(&["exec", "web", "cat", "/www/index.html"])?, "ding\n");
        assert!(bell.ok(&["logs", "idle"])?.contains("ready"));
    } else {
        let noticed = || bell.states().is_ok_and(|states| states["bell-web-1"] != "running");
        wait_until("`ps` tells the truth", Duration::from_secs(10), noticed)?;
        assert_eq!(bell.states()?["bell-idle-1"], "running", "the others go on");
        assert!(bell.processes_with("httpd -f").is_empty(), "nothing of the container is left");
    }
    bell.ok(&["up", "-d"])?;
    assert_eq!(bell.running()?, 3);
    assert_eq!(bell.fetch(port)?, "ding\n");
    assert_eq!(bell.ok(&["exec", "idle", "wget", "-q", "-O", "-", "http://web/"])?, "ding\n");
    let after = bell.ps()?;
    assert_eq!(after["bell-idle-1"], before["bell-idle-1"], "what ran was left alone");
    assert_eq!(bell.processes("dpack-supervisor").len(), 1);
    assert_eq!(bell.processes("dpack-network").len(), 1);
    assert_eq!(bell.processes("dpack-shim").len(), SHIMS);
    bell.ok(&["down", "-v", "-t", "0"])?;
    bell.leaves_nothing()
}

#[test]
fn the_supervisor_is_killed() -> Result<()> {
    survives_the_death_of("supervisor", |bell| bell.processes("dpack-supervisor"), true)
}

#[test]
fn the_network_process_is_killed() -> Result<()> {
    survives_the_death_of("network process", |bell| bell.processes("dpack-network"), true)
}

#[test]
fn supervisor_and_network_process_are_killed() -> Result<()> {
    let both =
        |bell: &Installed| [bell.processes("dpack-supervisor"), bell.processes("dpack-network")].concat();
    survives_the_death_of("supervisor and network process", both, true)
}

#[test]
fn a_shim_is_killed() -> Result<()> {
    survives_the_death_of("shim", |bell| shim_of(bell, "httpd -f"), false)
}

#[test]
fn a_container_init_is_killed() -> Result<()> {
    survives_the_death_of("init", |bell| init_of(bell, "httpd -f"), false)
}

/// The container's PID 1 that looks after a process.
fn init_of(bell: &Installed, words: &str) -> Vec<u32> {
    bell.processes_with(words).into_iter().map(|process| parent(process).unwrap_or(process)).take(1).collect()
}

fn shim_of(bell: &Installed, words: &str) -> Vec<u32> {
    init_of(bell, words).into_iter().filter_map(parent).collect()
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[test]
fn everything_is_killed_in_the_middle_of_up() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, port) = bell()?;
    // each round is cut off later than the one before
    for milliseconds in [5, 20, 40, 80, 160, 320] {
        let mut up = bell.device.spawn(&bell.line(&["up", "-d"]))?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        for _ in 0..2 {
            // in no order, as the kernel's out-of-memory killer would
            for process in bell.device.processes() {
                let _ = signal(process, "KILL");
            }
        }
        up.wait()?;
        bell.ok(&["ps", "-a"])?;
    }
    bell.ok(&["up", "-d"])?;
    assert_eq!(bell.running()?, 3);
    assert_eq!(bell.fetch(port)?, "ding\n");
    bell.ok(&["down", "-v", "-t", "0"])?;
    bell.leaves_nothing()?;
    assert_eq!(half_extracted(&bell.data()), Vec::<PathBuf>::new());
    Ok(())
}

// ---- two at once

#[test]
fn two_first_ups_at_once_make_one_application() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, port) = bell()?;
    let ups = [(); 2].map(|()| bell.device.spawn(&bell.line(&["up", "-d"])));
    for up in ups {
        let output: Output = up?.wait_with_output()?.into();
        output.success()?;
    }
    assert_eq!(bell.running()?, 3);
    assert_eq!(bell.processes("dpack-supervisor").len(), 1);
    assert_eq!(bell.processes("dpack-network").len(), 1);
    assert_eq!(bell.processes("dpack-shim").len(), SHIMS);
    assert_eq!(bell.fetch(port)?, "ding\n");
    bell.ok(&["down", "-v", "-t", "0"])?;
    bell.leaves_nothing()
}

// ---- people's mistakes

#[test]
fn a_port_that_is_taken_is_named() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, port) = bell()?;
    let taken = TcpListener::bind(("127.0.0.1", port))?;
    let up = bell.run(&["up", "-d"])?;
    says(&up, 3, &format!("port {port}"), "");
    assert_eq!(bell.ps()?.len(), 0, "nothing was started");
    drop(taken);
    bell.ok(&["up", "-d"])?;
    assert_eq!(bell.fetch(port)?, "ding\n");
    Ok(())
}

#[test]
fn a_service_that_is_not_there_is_named_and_another_suggested() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, _) = bell()?;
    for command in [&["up", "-d", "idel"][..], &["logs", "idel"], &["exec", "idel", "true"], &["run", "idel"]]
    {
        let output = bell.run(command)?;
        says(&output, 2, "no such service: `idel`", "did you mean `idle`?");
    }
    Ok(())
}

#[test]
fn exit_statuses_pass_through() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, _) = bell()?;
    bell.ok(&["up", "-d", "idle"])?;
    for start in [&["exec", "idle"][..], &["run", "--rm", "idle"]] {
        let status = |command: &[&str]| Ok::<_, anyhow::Error>(bell.run(&[start, command].concat())?.status);
        assert_eq!(status(&["true"])?, 0);
        assert_eq!(status(&["sh", "-c", "exit 42"])?, 42);
        // the signal hits a child: PID 1 of a container is deaf to what it has no handler for (pid_namespaces(7))
        assert_eq!(status(&["sh", "-c", "sh -c 'kill -TERM $$'; exit $?"])?, 128 + 15, "{start:?}");
        assert_eq!(status(&["/etc/passwd"])?, 126, "{start:?}");
        assert_eq!(status(&["no-such-program"])?, 127, "{start:?}");
    }
    Ok(())
}

#[test]
fn one_interrupt_stops_gently_and_a_second_one_kills() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, _) = bell()?;
    let up = foreground(&bell, "idle")?;
    signal(program(&up), "INT")?;
    let up: Output = up.wait_with_output()?.into();
    assert_eq!(up.status, 130, "{up:?}");
    assert!(up.stdout.contains("idle-1  | ready\n"), "{up:?}");
    assert_eq!(bell.ps()?["bell-idle-1"].exit_code, 3, "its own handler ran");

    let up = foreground(&bell, "deaf")?;
    let begin = Instant::now();
    signal(program(&up), "INT")?;
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bell.states()?["bell-deaf-1"], "running", "it was asked, and does not listen");
    signal(program(&up), "INT")?;
    let up: Output = up.wait_with_output()?.into();
    assert_eq!(up.status, 130, "{up:?}");
    assert!(begin.elapsed() < Duration::from_secs(20), "its grace period is not waited for");
    let row = &bell.ps()?["bell-deaf-1"];
    assert_eq!((&*row.state, row.exit_code), ("exited", 128 + 9));
    bell.ok(&["down", "-v"])?;
    bell.leaves_nothing()
}

/// `up` of one service, whose container speaks already.
fn foreground(bell: &Installed, service: &str) -> Result<Child> {
    let up = bell.device.spawn(&bell.line(&["up", service]))?;
    wait_until("the container speaks", Duration::from_secs(20), || {
        bell.ok(&["logs", service]).is_ok_and(|log| log.contains('|'))
    })?;
    Ok(up)
}

/// setpriv(1) executes what it starts: the same process.
fn program(child: &Child) -> u32 {
    child.id()
}

// ---- damaged files

/// A copy of the executable that something has happened to.
fn damaged(bell: &Installed, change: impl Fn(&File) -> Result<()>) -> Result<Installed> {
    let copy = tempfile::tempdir()?;
    let path = copy.path().join("damaged");
    fs::copy(&bell.executable, &path)?;
    change(&File::options().read(true).write(true).open(&path)?)?;
    Installed::on(Device::host()?, &path)
}

/// `verify` and `up` have to see it, and no layer may be in the store.
fn is_refused(damaged: &Installed, where_: &str) -> Result<()> {
    let verify = damaged.run(&["verify"])?;
    let said = format!("{}{}", verify.stdout, verify.stderr);
    ensure!(verify.status == 4, "{where_}: `verify` ended with {}: {said}", verify.status);
    ensure!(
        ["damaged", "cut off", "no application", "no payload"].iter().any(|word| said.contains(word)),
        "{where_}: `verify` said: {said}"
    );
    let up = damaged.run(&["up", "-d"])?;
    ensure!(up.status == 4, "{where_}: `up` ended with {}: {}", up.status, up.stderr);
    ensure!(up.stderr.lines().count() <= 3, "{where_}: too many words: {}", up.stderr);
    ensure!(damaged.processes("dpack-shim").is_empty(), "{where_}: something was started");
    ensure!(half_extracted(&damaged.data()).is_empty(), "{where_}: {:?}", half_extracted(&damaged.data()));
    Ok(())
}

/// Where the parts of an executable begin.
struct Parts {
    frames: u64,
    index: u64,
    trailer: u64,
    end: u64,
}

fn parts(executable: &str) -> Result<Parts> {
    let payload = Payload::open(File::open(executable)?)?;
    let end = fs::metadata(executable)?.len();
    let frames = payload.offset();
    let last = payload.index().frames().last().context("no frames")?;
    Ok(Parts {
        frames,
        index: frames + last.offset + u64::from(last.stored_length),
        trailer: end - dpack_payload::TRAILER_SIZE as u64,
        end,
    })
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, _) = bell()?;
    let parts = parts(&bell.executable)?;
    let between = |begin: u64, end: u64| [begin, begin + (end - begin) / 3, end - 1];
    let in_frames = between(parts.frames, parts.index).map(|offset| ("frames", offset));
    let in_index = between(parts.index, parts.trailer).map(|offset| ("index", offset));
    let in_trailer = (parts.trailer..parts.end).step_by(19).map(|offset| ("trailer", offset));
    for (part, offset) in in_frames.into_iter().chain(in_index).chain(in_trailer) {
        let flip = |file: &File| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset)?;
            Ok(file.write_all_at(&[byte[0] ^ 0x10], offset)?)
        };
        is_refused(&damaged(&bell, flip)?, &format!("a bit of the {part}, at {offset}"))?;
    }
    // behind everything that the kernel loads: the runner runs, and knows
    let flip = |file: &File| Ok(file.write_all_at(&[0x5a], parts.frames - 1)?);
    let verify = damaged(&bell, flip)?.run(&["verify"])?.with_status(4)?;
    let said = format!("{}{}", verify.stdout, verify.stderr);
    assert!(said.contains("the runner in front of the payload is damaged"), "{said}");
    Ok(())
}

#[test]
fn a_truncated_executable_is_refused_wherever_it_ends() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let (bell, _) = bell()?;
    let parts = parts(&bell.executable)?;
    let lengths = [
        parts.end - 1,
        parts.trailer + 1,
        parts.trailer,
        parts.index + 1,
        parts.index,
        (parts.frames + parts.index) / 2,
        parts.frames,
    ];
    for length in lengths {
        is_refused(
            &damaged(&bell, |file| Ok(file.set_len(length)?))?,
            &format!("{length} bytes of {}", parts.end),
        )?;
    }
    Ok(())
}

// ---- disks

/// Folders that a killed extraction leaves until the next one; and layers without all that makes them trusted.
fn half_extracted(data: &Path) -> Vec<PathBuf> {
    let maps = entries(&data.join("layers")).into_iter().map(|map| data.join("layers").join(map));
    let all = maps.flat_map(|map| entries(&map).into_iter().map(move |name| map.join(name)));
    all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tmp.")))
        .collect()
}

/// A disk that leaves the application less and less too little room, until there is enough. It is a machine's: a mount on
/// this one would be seen by everybody.
const A_DISK_THAT_IS_TOO_SMALL: &str = r#"
free=$(df -k . | tail -n 1 | awk '{ print $4 }')
for room in 64 1024 2048 3072 4096 6144 8192 16384; do
  rm -rf ballast; fallocate -l $(((free - room) * 1024)) ballast
  printf '\n== %s\n' $room
  /in/APPLICATION up -d 2>&1; status=$?
  printf 'status %s\n' $status
  [ $status != 0 ] || break
  printf 'left %s\n' $(find .local/share/dpack -type f -size +64k 2>/dev/null) $(ls -d .local/share/dpack/layers/*/tmp.* 2>/dev/null)
done
/in/APPLICATION exec web cat /www/index.html
printf '\n== full\n'
cat /dev/zero >rest 2>/dev/null; sync
number=0; while echo 1 >rest.$number && sync; do number=$((number + 1)); done 2>/dev/null
/in/APPLICATION stop -t 0 idle 2>&1; printf 'stopped %s\n' $?
/in/APPLICATION down -v -t 0 2>&1; printf 'down %s\n' $?
tries=0; while [ -e .local/share/dpack/projects/bell ] && [ $tries -lt 300 ]; do tries=$((tries + 1)); sleep 0.1; done
left=$(ls .local/share/dpack/projects); echo left ${left:-nothing}
"#;

#[test]
fn a_full_disk_is_one_clear_error_and_room_is_the_remedy() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let executable = Application::bell()?.executable_for_host()?;
    let name = executable.file_name().context("a name")?.to_string_lossy().into_owned();
    let disk = DataDisk::new(64)?;
    let _turn = one_machine_at_a_time();
    let script = A_DISK_THAT_IS_TOO_SMALL.replace("APPLICATION", &name);
    let vm = Vm::for_platform(host()?.platform).user().disk(&disk).file(&executable);
    let output = vm.run(&script)?.success()?;
    let attempts: Vec<&str> = output.stdout.split("\n== ").skip(1).collect();
    let [refused @ .., last, full] = &attempts[..] else { anyhow::bail!("{}", output.stdout) };
    assert!(!refused.is_empty(), "no disk was small enough: {}", output.stdout);
    for attempt in refused {
        assert!(attempt.contains("status 3\n"), "{attempt}");
        assert_eq!(attempt.matches("error: ").count(), 1, "{attempt}");
        assert!(attempt.contains("no space") && attempt.contains("hint: "), "{attempt}");
        assert_eq!(
            attempt.lines().filter(|line| line.starts_with("left /") || line.starts_with("left .")).count(),
            0,
            "{attempt}"
        );
    }
    assert!(last.contains("status 0\n") && last.contains("ding\n"), "{last}");
    assert!(full.contains("stopped 3\n") && full.contains("hint: free some space"), "{full}");
    assert!(full.ends_with("down 0\nleft nothing\n"), "what frees space needs none: {full}");
    Ok(())
}

// ---- power

/// The content of every file of every layer, as one number; the same in a guest's shell and in ours.
const LAYERS_HASH: &str = "cd \"$HOME/.local/share/dpack/layers/single\" && find . -type f ! -name '*.boot' ! -name lock \
                           -exec sha256sum {} + | sort -k 2 | sha256sum | cut -c 1-64";

#[test]
fn power_is_cut_while_extracting_and_while_running() -> Result<()> {
    if !can_build() || !needs(&[Need::Root]) {
        return Ok(());
    }
    let shop = Application::shop()?;
    let target = Target::for_platform("linux/amd64").context("no such target")?;
    let whole = hash_of_whole_layers(&shop)?;
    let disk = DataDisk::new(1024)?;
    let executable = shop.executable(target);
    let _turn = one_machine_at_a_time();
    let boot = || Vm::amd64().user().disk(&disk).file(&executable).time_limit(Duration::from_secs(150));

    let mut machine = boot().start(
        "/in/shop-amd64 up -d & \
         until ls -d .local/share/dpack/layers/single/tmp.*/usr/bin 2>/dev/null; do usleep 5000; done; \
         echo extracting; sleep 1000",
    )?;
    machine.wait_for("extracting")?;
    machine.power_cut()?;

    // the layers are there, and hardly any of them on the disk; every visit is, because redis was told to sync
    let visit = "visit() { until wget -q -O - http://127.0.0.1:8080/ 2>/dev/null; do usleep 50000; done; }\n";
    let script = format!(
        "{visit} ls -A .local/share/dpack/layers/single; /in/shop-amd64 up -d && visit && visit && echo visited; \
         while :; do visit; done"
    );
    let mut machine = boot().start(&script)?;
    machine.wait_for("visit 4\n")?;
    let seen = machine.power_cut()?;
    assert!(!seen.contains(".boot"), "no layer was trusted after the first cut: {seen}");
    let counted = last_visit(&seen).context("nobody counted")?;

    let script = format!(
        "{visit} set -e; /in/shop-amd64 ps -a; /in/shop-amd64 up -d; echo hash $({LAYERS_HASH}); visit; \
         /in/shop-amd64 down -v; ls -A .local/share/dpack/projects .local/share/dpack/layers/single"
    );
    let output = boot().run(&script)?.success()?;
    let hash = output.stdout.lines().find_map(|line| line.strip_prefix("hash "));
    assert_eq!(hash, Some(&*whole), "every byte of every layer is right: {}", output.stdout);
    assert!(last_visit(&output.stdout) > Some(counted), "{counted} visits before: {}", output.stdout);
    assert!(!output.stdout.contains("tmp."), "{}", output.stdout);
    Ok(())
}

fn last_visit(text: &str) -> Option<u32> {
    text.lines().rev().find_map(|line| line.strip_prefix("visit ")?.trim().parse().ok())
}

/// What the layers hash to on a machine whose power is not cut.
fn hash_of_whole_layers(shop: &Application) -> Result<String> {
    let amd64 = Target::for_platform("linux/amd64");
    let device = Device::host_without_subordinate_ids()?.environment("SHOP_PORT", &free_port()?.to_string());
    ensure!(Target::host() == amd64, "this test is for an amd64 machine");
    let shop = Installed::on(device, &shop.executable_for_host()?)?;
    shop.ok(&["up", "-d"])?;
    let hash = shop.device.run(&["sh", "-c", LAYERS_HASH])?.success()?;
    shop.ok(&["down", "-v", "-t", "0"])?;
    Ok(hash.stdout.trim().to_owned())
}

// ---- kernel settings

#[test]
fn a_kernel_without_user_namespaces_is_named_with_its_setting() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let target = Target::for_platform("linux/amd64").context("no such target")?;
    let shop = Application::shop()?;
    let _turn = one_machine_at_a_time();
    let script = "
        as_user() { su -s /bin/sh user -c \"cd; $*\"; }
        sudo() { shift; sysctl -w \"$@\" >/dev/null; } # what the doctor says is for sudo(8) and sysctl(8)
        for off in kernel.unprivileged_userns_clone=0 user.max_user_namespaces=0; do
          sysctl -w $off >/dev/null
          echo \"== $off\"
          as_user XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/user /in/shop-amd64 up -d 2>&1; echo status $?
          as_user XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/user /in/shop-amd64 doctor >/tmp/doctor 2>&1; echo status $?
          as_user ls -A /home/user/.local/share/dpack/layers 2>/dev/null
          eval \"$(sed -n 's/.*hint: //p' /tmp/doctor | grep '^sudo sysctl')\"
          as_user XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/user /in/shop-amd64 doctor 2>&1; echo cured $?
        done
        as_user XDG_RUNTIME_DIR=/run/user/1000 HOME=/home/user /in/shop-amd64 run --rm --no-deps app echo works now";
    let output = Vm::amd64().file(&shop.executable(target)).run(script)?.success()?;
    let sections: Vec<&str> = output.stdout.split("== ").skip(1).collect();
    assert_eq!(sections.len(), 2, "{output:?}");
    for (section, setting) in
        sections.iter().zip(["kernel.unprivileged_userns_clone=1", "user.max_user_namespaces="])
    {
        let up = section.split("status").next().unwrap_or_default();
        assert_eq!(up.matches("error: ").count(), 1, "{section}");
        assert!(up.contains("user namespace"), "{section}");
        assert!(up.contains("hint: ") && up.contains(&format!("sysctl {setting}")), "{section}");
        assert_eq!(section.matches("status 3").count(), 2, "`up` and `doctor`: {section}");
        assert!(section.contains("\ncured 0\n"), "{section}");
        for seen in [
            "users and owners are shown, not kept apart: newuidmap is not installed",
            "hint: install newuidmap and newgidmap",
            "no control group was handed over to this user",
        ] {
            assert!(section.contains(seen), "{seen}: {section}");
        }
    }
    assert!(output.stdout.ends_with("works now\n"), "{}", output.stdout);
    Ok(())
}
