//! Beside podman, crun and runc, in a root folder where they are installed (`ci/peers.sh`): they run what we write, podman has
//! our runtime under it, and what confines a container is compared with what podman does without being asked.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dpack_targets::Target;
use dpack_tests::images::Layer;
use dpack_tests::{Handmade, Need, Peers, needs, probe, stubs};
use serde_json::{Value, json};

fn can_compare() -> bool {
    needs(&[Need::Stubs, Need::Probe, Need::Root, Need::DebianPackages])
}

fn host() -> Result<&'static Target> {
    Target::host().context("no target for this machine")
}

/// An application with the probe, in the work folder: its path inside.
fn application(peers: &Peers, service: &Value) -> Result<String> {
    let layer = Layer::new()
        .file("bin/probe", 0o755, &std::fs::read(probe(host()?))?)
        .file("data/from-image", 0o644, b"from the image\n")
        .directory("tmp", 0o1777);
    let made = Handmade::new("compared", json!({"it": service}))
        .layer(layer)
        .config("Volumes", json!({"/data": {}}));
    peers.bring(made.executable(host()?)?.path(), "app")
}

#[test]
fn crun_and_runc_run_our_bundles_with_the_same_result() -> Result<()> {
    if !can_compare() {
        return Ok(());
    }
    let peers = Peers::prepare("bundle")?;
    let app = application(
        &peers,
        &json!({"command": "probe", "network_mode": "none", "user": "12:34", "working_dir": "/tmp", "read_only": true,
            "hostname": "box", "environment": {"A": "b c"}, "cap_add": ["SYS_TIME"], "cap_drop": ["MKNOD"],
            "tmpfs": ["/scratch:size=1m"], "ulimits": {"nofile": 123}, "oom_score_adj": 100,
            "security_opt": ["no-new-privileges"], "sysctls": {"net.ipv4.ip_default_ttl": "42"}}),
    )?;
    let here = peers.run("dev", &format!("{app} run --rm it"))?.success()?;
    let here: Value = serde_json::from_str(&here.stdout)?;
    peers.run("dev", &format!("{app} bundle it -o bundle && {app} bundle it -o again"))?.success()?;
    for runtime in ["crun", "runc"] {
        let run = format!("{runtime} --root \"$PWD/{runtime}\" run --bundle bundle dpack-{runtime}");
        let there = peers.run("dev", &run)?.success()?;
        let there: Value = serde_json::from_str(&there.stdout)?;
        for property in [
            "uid",
            "gid",
            "uid_map",
            "gid_map",
            "capabilities",
            "no_new_privs",
            "seccomp",
            "umask",
            "hostname",
            "working_directory",
            "limits",
            "oom_score_adjustment",
            "readable_masked_paths",
            "writable_system_paths",
            "root_is_writable",
            "interfaces",
            "pid",
            "hosts",
        ] {
            assert_eq!(there[property], here[property], "{runtime}: {property}");
        }
        let names = |report: &Value| report["environment"].as_object().unwrap().clone();
        assert_eq!(names(&there), names(&here), "{runtime}: environment");
        let mounts = |report: &Value| -> BTreeMap<String, (String, String)> {
            let all = report["mounts"].as_object().unwrap().iter();
            // Ours is an overlay, theirs a folder; what masks a path is each runtime's own business.
            let all = all.filter(|(point, _)| {
                *point != "/"
                    && !point.starts_with("/proc/")
                    && !point.starts_with("/sys/")
                    && !point.starts_with("/dev/")
            });
            all.map(|(point, mount)| {
                let options: BTreeSet<&str> =
                    mount["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                (point.clone(), (mount["type"].as_str().unwrap().to_owned(), format!("{options:?}")))
            })
            .collect()
        };
        assert_eq!(mounts(&there), mounts(&here), "{runtime}: mounts");
    }
    Ok(())
}

/// Steps as a user of podman takes them, each with what has to be in its output, and its status.
const PODMAN: &[(&str, i32, &str)] = &[
    ("run --rm box sh -c 'echo hi; exit 5'", 5, "hi"),
    (
        "run --rm --read-only --user 1000:1000 box sh -c 'id -u; touch /x 2>/dev/null || echo fixed'",
        0,
        "1000\nfixed",
    ),
    (
        "run --rm -v $PWD/image/data:/d:ro -v vol:/data --tmpfs /tt:size=1m box sh -c 'cat /d/from-image /data/from-image; touch /d/x 2>/dev/null || echo fixed'",
        0,
        "from the image\nfrom the image\nfixed",
    ),
    (
        "run --rm --cap-drop all --security-opt no-new-privileges box sh -c 'grep -E \"^(CapEff|NoNew)\" /proc/self/status'",
        0,
        "CapEff:\t0000000000000000\nNoNewPrivs:\t1",
    ),
    (
        "run --rm --ulimit nofile=99:99 --hostname other --env A=b --workdir /data box sh -c 'ulimit -n; hostname; echo $A; pwd'",
        0,
        "99\nother\nb\n/data",
    ),
    ("run --rm --sysctl net.ipv4.ip_default_ttl=42 box cat /proc/sys/net/ipv4/ip_default_ttl", 0, "42"),
    ("run --rm --init box sh -c true", 125, ""),
    // Podman takes whatever a `start` says for 126; crun looks for the command at `create`.
    ("run --rm box nope", 126, ""),
    ("run --rm box /data", 126, ""),
    ("run -d --name one box sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.1; done'", 0, ""),
    ("exec one sh -c 'echo in; exit 4'", 4, "in"),
    ("exec --user 1000 --workdir /data --env A=b one sh -c 'id -u; pwd; echo $A'", 0, "1000\n/data\nb"),
    ("exec one nope", 127, ""),
    ("ps --format '{{.Names}} {{.State}}'", 0, "one running"),
    ("top one", 0, "sleep 0.1"),
    ("stop -t 20 one", 0, "one"),
    ("inspect one --format '{{.State.Status}} {{.State.ExitCode}}'", 0, "exited 7"),
    ("start one", 0, "one"),
    ("kill one", 0, "one"),
    ("wait one", 0, "137"),
    ("rm one", 0, "one"),
    ("run -d --name health --health-cmd 'cat /data/from-image' --health-interval 1s box sleep 100", 0, ""),
    ("healthcheck run health", 0, ""),
    ("inspect health --format '{{.State.Health.Status}}'", 0, "healthy"),
    ("rm -f -t 0 health", 0, "health"),
    ("pod create --name pod --network none --infra-image box --infra-command 'sleep 1000'", 0, ""),
    ("run -d --pod pod --name member box sleep 100", 0, ""),
    ("run --rm --pod pod box hostname", 0, "pod"),
    ("pod ps --format '{{.Name}} {{.Status}}'", 0, "pod Running"),
    ("pod rm -f -t 0 pod", 0, ""),
    ("ps -a --format '{{.Names}}'", 0, ""),
];

/// Makes podman's image from what an application has.
fn import_image(peers: &Peers) -> Result<()> {
    let busybox = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("busybox"))
        .find(|file| file.exists())
        .context("busybox is not installed\nhint: cargo xtask setup")?;
    peers.bring(&busybox, "busybox")?;
    peers.bring(&probe(host()?), "probe")?;
    let script = "mkdir -p image/bin image/tmp image/data image/etc && chmod 1777 image/tmp && cp busybox probe image/bin/ && \
                  for a in $(./busybox --list); do ln -sf busybox image/bin/$a; done; cp -f busybox image/bin/busybox.new && \
                  mv -f image/bin/busybox.new image/bin/busybox; echo 'from the image' >image/data/from-image; \
                  echo 'root:x:0:0::/:/bin/sh' >image/etc/passwd; echo 'root:x:0:' >image/etc/group; \
                  tar -C image -cf image.tar . && podman import -q --change 'CMD sh' --change 'ENV PATH=/bin' image.tar box";
    peers.run("dev", &format!("{}\n{script}", podman(peers, None)))?.success().map(drop)
}

/// A function in place of podman, with a storage of its own and, if one is named, a runtime.
fn podman(peers: &Peers, runtime: Option<&str>) -> String {
    let runtime = runtime.map(|path| format!("--runtime {path}")).unwrap_or_default();
    format!(
        "podman() {{ command podman --root {0}/storage --runroot {0}/run --tmpdir {0}/tmp --cgroup-manager cgroupfs {runtime} \"$@\"; }}",
        peers.work("podman")
    )
}

#[test]
fn podman_has_our_runtime_under_it() -> Result<()> {
    if !can_compare() {
        return Ok(());
    }
    let peers = Peers::prepare("podman")?;
    import_image(&peers)?;
    // Under this name the stub is a runtime and nothing else.
    let stub = stubs().join(host()?.triple).join("dpack-runner");
    let runtime = peers.bring(&stub, "dpack-runner")?;
    let mut script =
        podman(&peers, Some(&runtime)) + "\nexport CONTAINERS_CONF_OVERRIDE=$PWD/containers.conf\n";
    script += "printf '[containers]\\nnetns = \"none\"\\n' >containers.conf\n";
    for (number, (command, _, _)) in PODMAN.iter().enumerate() {
        script +=
            &format!("printf '\\n== {number}\\n'; podman {command} 2>err-{number}; echo \"status $?\"\n");
    }
    let output = peers.run("dev", &script)?.success()?;
    let mut failed = Vec::new();
    let sections: BTreeMap<usize, &str> = output
        .stdout
        .split("\n== ")
        .filter_map(|section| {
            section.split_once('\n').map(|(number, text)| (number.trim().parse().ok(), text))
        })
        .filter_map(|(number, text)| Some((number?, text)))
        .collect();
    for (number, (command, status, expected)) in PODMAN.iter().enumerate() {
        let seen = sections.get(&number).copied().unwrap_or_default();
        if !(seen.contains(expected) && seen.trim_end().ends_with(&format!("status {status}"))) {
            let errors = std::fs::read_to_string(peers.outside(&peers.work(&format!("err-{number}"))))
                .unwrap_or_default();
            failed.push(format!("podman {command}: {seen:?} {errors}"));
        }
    }
    ensure!(failed.is_empty(), "{} of {} steps failed:\n{}", failed.len(), PODMAN.len(), failed.join("\n"));
    Ok(())
}

/// What a set of capabilities holds that another lacks.
fn more(ours: &Value, theirs: &Value) -> Result<u64> {
    let bits = |value: &Value| u64::from_str_radix(value.as_str().unwrap_or_default(), 16);
    Ok(bits(ours)? & !bits(theirs)?)
}

/// Docker's default set has them and podman's has not: CAP_NET_RAW, CAP_MKNOD, CAP_AUDIT_WRITE. In a user namespace the first
/// reaches the container's own network, the others nothing.
const DOCKERS: u64 = 1 << 13 | 1 << 27 | 1 << 29;

/// Docker's default profile, which is ours, allows them and podman's does not yet: vmsplice and io_pgetevents (on x86_64, then on
/// aarch64), futex_waitv, cachestat, futex_wake, futex_wait, futex_requeue, statmount, listmount, mseal, and the four of
/// `setxattrat`.
const DOCKERS_CALLS: [&str; 16] = [
    "278", "333", "75", "292", "449", "451", "454", "455", "456", "457", "458", "462", "463", "464", "465",
    "466",
];

/// Docker lets every process of a container listen on each of its ports and ping, of its own network both.
const DOCKERS_PARAMETERS: [&str; 2] = ["net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range"];

/// The limit of a tmpfs, in KiB.
fn size(mount: &Value) -> Option<u64> {
    mount["settings"]
        .as_str()?
        .split([' ', ','])
        .find_map(|word| word.strip_prefix("size=")?.strip_suffix('k')?.parse().ok())
}

#[test]
fn a_container_of_ours_is_confined_as_podmans_is() -> Result<()> {
    if !can_compare() {
        return Ok(());
    }
    let peers = Peers::prepare("differential")?;
    import_image(&peers)?;
    let app = application(&peers, &json!({"command": "probe", "network_mode": "none"}))?;
    let look = |command: &str| -> Result<(Value, Value)> {
        let podman = podman(&peers, None);
        let theirs = peers
            .run("dev", &format!("{podman}\npodman run --rm --network none box {command}"))?
            .success()?;
        let ours = peers.run("dev", &format!("{app} run --rm it {command}"))?.success()?;
        Ok((serde_json::from_str(&ours.stdout)?, serde_json::from_str(&theirs.stdout)?))
    };
    let (ours, theirs) = look("probe")?;
    for set in ["inheritable", "permitted", "effective", "bounding", "ambient"] {
        let more = more(&ours["capabilities"][set], &theirs["capabilities"][set])?;
        assert_eq!(more & !DOCKERS, 0, "{set}: {more:x} more than podman");
    }
    assert_eq!(ours["seccomp"], theirs["seccomp"]);
    assert_eq!(ours["pid"], 1);
    let kinds =
        |report: &Value| report["namespaces"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(kinds(&ours), kinds(&theirs));
    let of_host = std::fs::read_dir("/proc/self/ns")?.flatten();
    for kind in of_host
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|kind| !kind.starts_with("time"))
    {
        let host = std::fs::read_link(Path::new("/proc/self/ns").join(&kind))?;
        assert_ne!(ours["namespaces"][&kind], host.to_str().unwrap(), "{kind} is the host's");
    }
    let listed = |report: &Value, name: &str| -> BTreeSet<String> {
        report[name].as_array().unwrap().iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for list in ["readable_masked_paths", "writable_system_paths"] {
        let more: Vec<String> = listed(&ours, list).difference(&listed(&theirs, list)).cloned().collect();
        assert_eq!(more, Vec::<String>::new(), "{list}");
    }
    let devices: Vec<String> =
        listed(&ours, "devices").difference(&listed(&theirs, "devices")).cloned().collect();
    assert_eq!(devices, Vec::<String>::new(), "devices");
    // What podman lays over parts of /proc and /sys lies there here, too.
    let covers = |report: &Value| -> BTreeSet<String> {
        let points = report["mounts"].as_object().unwrap().keys();
        points.filter(|point| point.starts_with("/proc/") || point.starts_with("/sys/")).cloned().collect()
    };
    let bare: Vec<String> = covers(&theirs).difference(&covers(&ours)).cloned().collect();
    assert_eq!(bare, Vec::<String>::new(), "paths that podman covers");
    // A mount of ours that podman has as well has each of its restrictions.
    for (point, mount) in theirs["mounts"].as_object().unwrap() {
        let own = &ours["mounts"][point];
        if own.is_null() {
            continue;
        }
        if let Some(theirs) = size(mount) {
            // Docker's 64 MiB are podman's 64,000 KiB.
            let most = if point == "/dev/shm" { 65_536 } else { theirs };
            assert!(
                size(own).is_some_and(|ours| ours <= most),
                "{point}: podman's has a limit: {own} {mount}"
            );
        }
        for restriction in ["ro", "nosuid", "nodev", "noexec"] {
            let has = |mount: &Value| {
                mount["options"].as_array().unwrap().iter().any(|option| option == restriction)
            };
            assert!(has(own) || !has(mount), "{point}: podman's is {restriction}: {own} {mount}");
        }
        assert_eq!(own["propagation"], json!([]), "{point} hears of the host's mounts");
    }
    let limit = |report: &Value, name: &str, kind: usize| {
        report["limits"][name][kind].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX)
    };
    for name in ours["limits"].as_object().unwrap().keys() {
        // Podman raises these two to what the user may have at most; ours are the user's.
        if ["Max processes", "Max open files"].contains(&name.as_str()) {
            continue;
        }
        assert!(
            limit(&ours, name, 1) <= limit(&theirs, name, 1),
            "{name}: {} {}",
            ours["limits"][name],
            theirs["limits"][name]
        );
    }
    for (name, theirs) in theirs["parameters"].as_object().unwrap() {
        let own = &ours["parameters"][name];
        assert!(own[1] == false || theirs[1] == true, "{name} can be written");
        if !DOCKERS_PARAMETERS.contains(&name.as_str()) {
            assert_eq!(own[0], theirs[0], "{name}");
        }
    }
    assert_eq!(listed(&ours, "interfaces"), listed(&theirs, "interfaces"));
    let names =
        |report: &Value| report["environment"].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert!(names(&ours).is_subset(&names(&theirs)), "{:?} {:?}", names(&ours), names(&theirs));

    let (ours, theirs) = look("probe calls")?;
    let refused = |table: &Value, number: &String| {
        ["EPERM", "ENOSYS"].contains(&table[number].as_str().unwrap_or_default())
    };
    let numbers: Vec<&String> = theirs.as_object().unwrap().keys().collect();
    let open = |table: &Value| numbers.iter().filter(|number| !refused(table, number)).count();
    println!(
        "system calls that are answered: {} here, {} under podman, of {}",
        open(&ours),
        open(&theirs),
        numbers.len()
    );
    let weaker: Vec<_> = numbers
        .iter()
        .filter(|number| refused(&theirs, number) && !refused(&ours, number))
        .filter(|number| !DOCKERS_CALLS.contains(&number.as_str()))
        .map(|number| format!("{number}: {} here, {} there", ours[*number], theirs[*number]))
        .collect();
    assert_eq!(weaker, Vec::<String>::new(), "calls that podman refuses");
    Ok(())
}
