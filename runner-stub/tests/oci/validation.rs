//! The checks of opencontainers/runtime-tools (`validation/`), by their names, written anew: what the runtime specification
//! says MUST be, seen from inside and outside of a container.
//!
//! Each passes, or is refused by the runtime with a reason that is known here and told in RUNTIME.md. None fails.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::support::{Bundle, Runtime, is_root};

type Check = fn(&Runtime) -> Result<(), String>;

/// Name, check, and the words with which this runtime may refuse it (empty: it must not).
const CHECKS: &[(&str, Check, &str)] = &[
    ("config_updates_without_affect", config_updates_without_affect, ""),
    ("create", create, ""),
    ("default", default, ""),
    ("delete", delete, ""),
    ("delete_only_create_resources", delete_only_create_resources, ""),
    ("delete_resources", delete_resources, ""),
    ("hooks", hooks, ""),
    ("hooks_stdin", hooks_stdin, ""),
    ("hostname", hostname, ""),
    ("kill", kill, ""),
    ("kill_no_effect", kill_no_effect, ""),
    ("killsig", killsig, ""),
    ("linux_cgroups_blkio", |runtime| cgroups(runtime, "blkio", "/dpack-oci/"), "io"),
    ("linux_cgroups_cpus", |runtime| cgroups(runtime, "cpu", "/dpack-oci/"), "cpu"),
    ("linux_cgroups_devices", cgroups_devices, ""),
    ("linux_cgroups_hugetlb", |runtime| cgroups(runtime, "hugetlb", "/dpack-oci/"), "hugetlb"),
    ("linux_cgroups_memory", |runtime| cgroups(runtime, "memory", "/dpack-oci/"), "memory"),
    ("linux_cgroups_network", cgroups_network, "`linux.resources.network` is not supported"),
    ("linux_cgroups_pids", |runtime| cgroups(runtime, "pids", "/dpack-oci/"), "pids"),
    ("linux_cgroups_relative_blkio", |runtime| cgroups(runtime, "blkio", ""), "io"),
    ("linux_cgroups_relative_cpus", |runtime| cgroups(runtime, "cpu", ""), "cpu"),
    ("linux_cgroups_relative_devices", cgroups_devices, ""),
    ("linux_cgroups_relative_hugetlb", |runtime| cgroups(runtime, "hugetlb", ""), "hugetlb"),
    ("linux_cgroups_relative_memory", |runtime| cgroups(runtime, "memory", ""), "memory"),
    ("linux_cgroups_relative_network", cgroups_network, "`linux.resources.network` is not supported"),
    ("linux_cgroups_relative_pids", |runtime| cgroups(runtime, "pids", ""), "pids"),
    ("linux_devices", devices, ""),
    ("linux_devices (not on this host)", devices_new, "No such file or directory"),
    ("linux_gid_mappings", |runtime| mappings(runtime, "gid"), ""),
    ("linux_masked_paths", masked_paths, ""),
    ("linux_mount_label", mount_label, "this host has no SELinux"),
    ("linux_ns_itype", ns_itype, ""),
    ("linux_ns_nopath", ns_nopath, ""),
    ("linux_ns_path", ns_path, ""),
    ("linux_ns_path_type", ns_path_type, ""),
    ("linux_process", linux_process, ""),
    ("linux_process_apparmor_profile", apparmor_profile, "AppArmor"),
    ("linux_readonly_paths", readonly_paths, ""),
    ("linux_rootfs_propagation (private)", |runtime| propagation(runtime, "private"), ""),
    ("linux_rootfs_propagation (slave)", |runtime| propagation(runtime, "slave"), ""),
    (
        "linux_rootfs_propagation (shared)",
        |runtime| propagation(runtime, "shared"),
        "`linux.rootfsPropagation` is not",
    ),
    (
        "linux_rootfs_propagation (unbindable)",
        |runtime| propagation(runtime, "unbindable"),
        "`linux.rootfsPropagation` is not",
    ),
    ("linux_seccomp", seccomp, ""),
    ("linux_sysctl", sysctl, ""),
    ("linux_uid_mappings", |runtime| mappings(runtime, "uid"), ""),
    ("misc_props", misc_props, ""),
    ("mounts", mounts, ""),
    ("mounts_recursive", mounts_recursive, ""),
    ("pidfile", pidfile, ""),
    ("poststart", poststart, ""),
    ("poststart_fail", poststart_fail, ""),
    ("poststop", poststop, ""),
    ("poststop_fail", poststop_fail, ""),
    ("prestart", prestart, ""),
    ("prestart_fail", prestart_fail, ""),
    ("process", process, ""),
    ("process_capabilities", process_capabilities, ""),
    ("process_capabilities_fail", process_capabilities_fail, ""),
    ("process_oom_score_adj", process_oom_score_adj, ""),
    ("process_rlimits", process_rlimits, ""),
    ("process_rlimits_fail", process_rlimits_fail, ""),
    ("process_user", process_user, ""),
    ("root_readonly_true", root_readonly_true, ""),
    ("start", start, ""),
    ("state", state, ""),
];

#[test]
fn the_specification_is_kept() {
    let runtime = Runtime::new();
    let (mut passed, mut refused, mut failed) = (0, Vec::new(), Vec::new());
    for (name, check, words) in CHECKS {
        match check(&runtime) {
            Ok(()) => passed += 1,
            Err(error) if !words.is_empty() && error.contains(words) => {
                refused.push(format!("{name}: {error}"))
            }
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    let counts = format!("{passed} passed, {} refused with a reason, {} failed", refused.len(), failed.len());
    println!("{counts}\n{}", refused.join("\n"));
    assert!(failed.is_empty(), "{counts}\n{}", failed.join("\n"));
    assert!(passed >= CHECKS.len() - CHECKS.iter().filter(|(_, _, words)| !words.is_empty()).count());
}

fn expect(so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if so { Ok(()) } else { Err(what()) }
}

fn equal(found: &str, expected: &str) -> Result<(), String> {
    expect(found == expected, || format!("`{found}` instead of `{expected}`"))
}

/// A program of the host that writes a word into a file.
fn hook(runtime: &Runtime, word: &str) -> Value {
    let script = format!("echo {word} >>{}", runtime.path("hooked").display());
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

fn hooked(runtime: &Runtime) -> String {
    let path = runtime.path("hooked");
    let words = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn config_updates_without_affect(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime.bundle("hostname");
    bundle.create().success()?;
    fs::write(bundle.dir().join("config.json"), r#"{"hostname": "other"}"#).unwrap();
    bundle.start().success()?;
    bundle.wait_for("stopped")?;
    equal(&bundle.output(), "box\n")
}

fn create(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime.bundle("echo ran");
    runtime.oci(&["create", "--bundle", bundle.dir().to_str().unwrap()]).failure()?;
    runtime.oci(&["create", "--bundle", "/nowhere", &bundle.id]).failure()?;
    bundle.create().success()?;
    equal(&bundle.status(), "created")?;
    equal(&bundle.output(), "")?;
    bundle.create().failure()?;
    equal(&bundle.status(), "created")
}

fn default(runtime: &Runtime) -> Result<(), String> {
    let seen = runtime
        .bundle("echo $$; pwd; id -u; id -g; for f in null zero full random urandom tty; do test -c /dev/$f && echo $f; done; \
                 for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; grep -c ' /proc proc ' /proc/self/mounts")
        .run()?;
    equal(
        &seen,
        "1\n/\n0\n0\nnull\nzero\nfull\nrandom\nurandom\ntty\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n1\n",
    )
}

fn delete(runtime: &Runtime) -> Result<(), String> {
    runtime.oci(&["delete", "nobody"]).failure()?;
    let bundle = runtime.bundle("sleep 1000");
    bundle.create().success()?;
    bundle.delete().failure()?;
    equal(&bundle.status(), "created")?;
    bundle.start().success()?;
    bundle.delete().failure()?;
    equal(&bundle.status(), "running")?;
    bundle.kill("KILL").success()?;
    bundle.wait_for("stopped")?;
    bundle.delete().success()?;
    bundle.delete().failure().map(drop)
}

/// Namespaces that were joined and what was bound stay.
fn delete_only_create_resources(runtime: &Runtime) -> Result<(), String> {
    let shared = runtime.path("shared");
    fs::create_dir_all(&shared).unwrap();
    let mount =
        json!({"destination": "/shared", "type": "bind", "source": shared, "options": ["rbind", "rw"]});
    runtime.bundle("echo mine >/shared/file; echo other >/tmp/file").push("/mounts", mount).run()?;
    equal(&fs::read_to_string(shared.join("file")).unwrap_or_default(), "mine\n")?;
    equal(&fs::read_to_string(runtime.path("rootfs/tmp/file")).unwrap_or_default(), "other\n")
}

fn delete_resources(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime.bundle("sleep 1000");
    bundle.create().success()?;
    let pid = bundle.state()?["pid"].to_string();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    bundle.kill("KILL").success()?;
    bundle.wait_for("stopped")?;
    bundle.delete().success()?;
    expect(!runtime.path("state").join(&bundle.id).exists(), || "its state is left".to_owned())?;
    for path in
        groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).filter(|path| path.contains(&bundle.id))
    {
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]) {
            let left = hierarchy.join(path.trim_start_matches('/'));
            expect(!left.exists(), || format!("{} is left", left.display()))?;
        }
    }
    Ok(())
}

const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hooks(runtime: &Runtime) -> Result<(), String> {
    let shared = json!({"destination": "/hooked", "type": "bind", "source": runtime.path(""), "options": ["rbind", "rw"]});
    let bundle = STAGES.iter().fold(runtime.bundle("echo process >>/hooked/hooked"), |bundle, stage| {
        let again = format!("{stage}-again");
        match *stage {
            // This one runs inside, where the folder has another name.
            "startContainer" => bundle.set(
                "/hooks/startContainer",
                json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer >>/hooked/hooked"], "env": ["PATH=/bin"]}]),
            ),
            stage => bundle.set(&format!("/hooks/{stage}"), json!([hook(runtime, stage), hook(runtime, &again)])),
        }
    });
    bundle.push("/mounts", shared).run()?;
    let all = hooked(runtime);
    let order = |word: &str| {
        all.split(' ').position(|found| found == word).ok_or_else(|| format!("no {word} in {all}"))
    };
    let mut last = None;
    for word in [
        "prestart",
        "prestart-again",
        "createRuntime",
        "createRuntime-again",
        "createContainer",
        "createContainer-again",
        "startContainer",
    ] {
        let place = Some(order(word)?);
        expect(last < place, || format!("{word} is out of order in {all}"))?;
        last = place;
    }
    // The command and what comes after its start run side by side.
    expect(last < Some(order("process")?) && last < Some(order("poststart")?), || all.clone())?;
    expect(all.ends_with("poststop poststop-again"), || all.clone())
}

fn hooks_stdin(runtime: &Runtime) -> Result<(), String> {
    let file = |stage: &str| runtime.path(&format!("state-{stage}"));
    let outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let bundle = outside.iter().fold(
        runtime.bundle("sleep 0.2").set("/annotations/org.example", json!("x")),
        |bundle, stage| {
            let script = format!("cat >{}", file(stage).display());
            bundle.set(
                &format!("/hooks/{stage}"),
                json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]),
            )
        },
    );
    bundle.run()?;
    let expected = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (stage, status) in expected {
        let text = fs::read_to_string(file(stage)).map_err(|error| format!("{stage}: {error}"))?;
        let state: Value = serde_json::from_str(&text).map_err(|error| format!("{stage}: {error}"))?;
        let has_pid = state["pid"].as_i64().is_some_and(|pid| pid > 0);
        let right = state["id"] == bundle.id
            && state["status"] == status
            && state["bundle"] == bundle.dir().to_str().unwrap()
            && state["annotations"]["org.example"] == "x"
            && state["ociVersion"] == "1.2.0"
            && has_pid == (status != "stopped");
        expect(right, || format!("{stage}: {state}"))?;
    }
    Ok(())
}

fn hostname(runtime: &Runtime) -> Result<(), String> {
    equal(&runtime.bundle("hostname").set("/hostname", json!("other-name")).run()?, "other-name\n")?;
    // Without a namespace of its own the host's name would change.
    let without = runtime.bundle("true").without("/linux/namespaces", |namespace| namespace["type"] == "uts");
    without.create().failure().map(drop)
}

const WAITS: &str = "trap 'echo got; exit 3' TERM USR1; echo ready; while :; do sleep 0.05; done";

fn running<'a>(runtime: &'a Runtime, script: &str) -> Result<Bundle<'a>, String> {
    let bundle = runtime.bundle(script);
    bundle.create().success()?;
    bundle.start().success()?;
    super::support::eventually("it is ready", || !bundle.output().is_empty());
    Ok(bundle)
}

fn kill(runtime: &Runtime) -> Result<(), String> {
    runtime.oci(&["kill", "nobody", "KILL"]).failure()?;
    let bundle = running(runtime, WAITS)?;
    bundle.kill("NONSENSE").failure()?;
    bundle.kill("SIGTERM").success()?;
    bundle.wait_for("stopped")?;
    bundle.kill("KILL").failure()?;
    let created = runtime.bundle("true");
    created.create().success()?;
    created.kill("KILL").success()?;
    created.wait_for("stopped")
}

fn kill_no_effect(runtime: &Runtime) -> Result<(), String> {
    let bundle = running(runtime, "echo ready")?;
    bundle.wait_for("stopped")?;
    let before = bundle.state()?;
    bundle.kill("KILL").failure()?;
    expect(bundle.state()? == before, || "its state has changed".to_owned())
}

fn killsig(runtime: &Runtime) -> Result<(), String> {
    for signal in ["TERM", "SIGUSR1", "10"] {
        let bundle = running(runtime, WAITS)?;
        bundle.kill(signal).success()?;
        bundle.wait_for("stopped")?;
        equal(&bundle.output(), "ready\ngot\n")?;
    }
    Ok(())
}

/// Limits below an absolute or a relative path; what the kernel says about them is read back from outside.
fn cgroups(runtime: &Runtime, controller: &str, above: &str) -> Result<(), String> {
    let (resources, v2, v1) = match controller {
        "memory" => (
            json!({"memory": {"limit": 52_428_800}}),
            ("memory.max", "52428800"),
            ("memory.limit_in_bytes", "52428800"),
        ),
        "pids" => (json!({"pids": {"limit": 33}}), ("pids.max", "33"), ("pids.max", "33")),
        "cpu" => (
            json!({"cpu": {"quota": 50_000, "period": 100_000}}),
            ("cpu.max", "50000 100000"),
            ("cpu.cfs_quota_us", "50000"),
        ),
        "blkio" => (
            json!({"blockIO": {"weight": 500}}),
            ("io.bfq.weight", "default 500"),
            ("blkio.bfq.weight", "500"),
        ),
        _ => (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
            ("hugetlb.2MB.max", "4194304"),
            ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ),
    };
    let bundle = runtime.bundle("true");
    let path = format!("{above}dpack-{}", bundle.id);
    let bundle = bundle.set("/linux/resources", resources).set("/linux/cgroupsPath", json!(path));
    bundle.create().success()?;
    let pid = bundle.state()?["pid"].to_string();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let line = text.lines().find(|line| {
        line.ends_with(&path)
            && (line.starts_with("0::")
                || line.split(':').nth(1).unwrap_or_default().split(',').any(|name| name == controller))
    });
    let inside =
        line.and_then(|line| line.splitn(3, ':').nth(2)).ok_or_else(|| format!("not in {path}: {text}"))?;
    let inside = inside.trim_start_matches('/');
    let roots = [
        format!("/sys/fs/cgroup/{controller}"),
        "/sys/fs/cgroup".to_owned(),
        "/sys/fs/cgroup/unified".to_owned(),
    ];
    let found = roots.iter().find_map(|root| {
        let dir = Path::new(root).join(inside);
        [v2, v1].iter().find_map(|(file, value)| Some((fs::read_to_string(dir.join(file)).ok()?, *value)))
    });
    let (found, expected) = found.ok_or("the limit cannot be read back")?;
    equal(found.trim(), expected)?;
    let left = roots.map(|root| Path::new(&root).join(inside));
    bundle.kill("KILL").success()?;
    bundle.wait_for("stopped")?;
    bundle.delete().success()?;
    expect(left.iter().all(|dir| !dir.exists()), || format!("{path} is left"))
}

/// Nodes that a container makes open nothing.
fn cgroups_devices(runtime: &Runtime) -> Result<(), String> {
    let script = "mknod /dev/mem2 c 1 1 2>/dev/null; mknod /tmp/null c 1 3 2>/dev/null; \
                  for f in /dev/mem2 /tmp/null; do (: <$f) 2>/dev/null && echo $f opens; done; : </dev/null && echo null";
    let capabilities = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    let seen = runtime
        .bundle(script)
        .set(
            "/process/capabilities",
            json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities}),
        )
        .set("/linux/resources", json!({"devices": [{"allow": false, "access": "rwm"}]}))
        .run();
    let _ = fs::remove_file(runtime.path("rootfs/tmp/null"));
    equal(&seen?, "null\n")
}

fn cgroups_network(runtime: &Runtime) -> Result<(), String> {
    runtime.bundle("true").set("/linux/resources", json!({"network": {"classID": 1_048_577}})).run().map(drop)
}

fn devices(runtime: &Runtime) -> Result<(), String> {
    let device =
        |minor: u32| json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": minor, "fileMode": 438}]);
    let seen = runtime.bundle("stat -c '%F %t:%T' /dev/null").set("/linux/devices", device(3)).run()?;
    equal(&seen, "character special file 1:3\n")?;
    let other = runtime.bundle("true").set("/linux/devices", device(5)).create().failure()?;
    expect(other.contains("another device"), || other.clone())
}

fn devices_new(runtime: &Runtime) -> Result<(), String> {
    let device = json!([{"path": "/dev/test1", "type": "c", "major": 10, "minor": 666, "fileMode": 438}]);
    runtime.bundle("test -c /dev/test1").set("/linux/devices", device).run().map(drop)
}

fn mappings(runtime: &Runtime, kind: &str) -> Result<(), String> {
    let id =
        if kind == "uid" { rustix::process::geteuid().as_raw() } else { rustix::process::getegid().as_raw() };
    let mut bundle = runtime.bundle(&format!("cat /proc/self/{kind}_map"));
    if is_root() {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 2000}]);
        bundle = bundle.push("/linux/namespaces", json!({"type": "user"}));
        bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    }
    let expected = if is_root() { "0 0 2000".to_owned() } else { format!("0 {id} 1") };
    equal(&bundle.run()?.split_whitespace().collect::<Vec<_>>().join(" "), &expected)
}

fn masked_paths(runtime: &Runtime) -> Result<(), String> {
    let rootfs = runtime.path("rootfs");
    fs::create_dir_all(rootfs.join("masked/dir")).unwrap();
    fs::write(rootfs.join("masked/dir/file"), "x").unwrap();
    fs::write(rootfs.join("masked/file"), "x").unwrap();
    let seen = runtime
        .bundle("cat /masked/file; ls /masked/dir; echo y 2>/dev/null >/masked/dir/new || echo closed")
        .set("/linux/maskedPaths", json!(["/masked/dir", "/masked/file", "/not/there"]))
        .run()?;
    equal(&seen, "closed\n")
}

/// What a host with SELinux makes of it, `labels` in the folder `tests` has shown.
fn mount_label(runtime: &Runtime) -> Result<(), String> {
    runtime
        .bundle("true")
        .set("/linux/mountLabel", json!("system_u:object_r:container_file_t:s0"))
        .run()
        .map(drop)
}

const KINDS: [(&str, &str); 6] = [
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
];

fn namespaces_seen(bundle: &Bundle<'_>) -> Result<Vec<String>, String> {
    let seen = bundle.run()?;
    expect(seen.lines().count() == KINDS.len(), || seen.clone())?;
    Ok(seen.lines().map(str::to_owned).collect())
}

const LINKS: &str = "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done";

fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

/// Namespaces that are not listed are the caller's.
fn ns_itype(runtime: &Runtime) -> Result<(), String> {
    let kept = ["network", "ipc", "cgroup"];
    let bundle = runtime
        .bundle(LINKS)
        .without("/linux/namespaces", |namespace| kept.iter().any(|kind| namespace["type"] == *kind));
    for (seen, (kind, file)) in namespaces_seen(&bundle)?.iter().zip(KINDS) {
        expect((*seen == own(file)) == kept.contains(&kind), || format!("{kind}: {seen}"))?;
    }
    Ok(())
}

fn ns_nopath(runtime: &Runtime) -> Result<(), String> {
    for (seen, (kind, file)) in namespaces_seen(&runtime.bundle(LINKS))?.iter().zip(KINDS) {
        expect(*seen != own(file), || format!("{kind} is the host's"))?;
    }
    Ok(())
}

fn ns_path(runtime: &Runtime) -> Result<(), String> {
    let other = runtime.bundle("sleep 1000");
    other.create().success()?;
    let pid = other.state()?["pid"].to_string();
    let joined = ["network", "ipc", "uts"];
    let mut bundle = runtime.bundle(LINKS).without("/linux/namespaces", |namespace| {
        joined.iter().any(|kind| namespace["type"] == *kind) || namespace["type"] == "user"
    });
    for (kind, file) in KINDS.into_iter().filter(|(kind, _)| joined.contains(kind)) {
        bundle =
            bundle.push("/linux/namespaces", json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
    if !is_root() {
        bundle =
            bundle.push("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    }
    for (seen, (kind, file)) in namespaces_seen(&bundle)?.iter().zip(KINDS) {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        expect((Path::new(seen) == theirs) == joined.contains(&kind), || format!("{kind}: {seen}"))?;
    }
    Ok(())
}

/// A file that is no namespace, or one of another kind.
fn ns_path_type(runtime: &Runtime) -> Result<(), String> {
    for path in ["/proc/self/ns/ipc", "/etc/passwd", "/nowhere", "relative"] {
        let bundle =
            runtime.bundle("true").without("/linux/namespaces", |namespace| namespace["type"] == "network");
        bundle.push("/linux/namespaces", json!({"type": "network", "path": path})).create().failure()?;
    }
    Ok(())
}

fn linux_process(runtime: &Runtime) -> Result<(), String> {
    let seen = runtime
        .bundle("grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj")
        .set("/process/oomScoreAdj", json!(100));
    equal(&seen.run()?, "NoNewPrivs:\t1\n100\n")
}

/// Where the host has AppArmor a profile that is not loaded is an error as well.
fn apparmor_profile(runtime: &Runtime) -> Result<(), String> {
    runtime.bundle("true").set("/process/apparmorProfile", json!("acme_secure_profile")).run().map(drop)
}

fn readonly_paths(runtime: &Runtime) -> Result<(), String> {
    fs::create_dir_all(runtime.path("rootfs/fixed/below")).unwrap();
    let script = "for p in /fixed /fixed/below /tmp; do touch $p/x 2>/dev/null && echo $p && rm $p/x; done";
    let seen = runtime.bundle(script).set("/linux/readonlyPaths", json!(["/fixed", "/not/there"])).run()?;
    equal(&seen, "/tmp\n")
}

fn propagation(runtime: &Runtime, kind: &str) -> Result<(), String> {
    let seen = runtime
        .bundle("grep ' / / ' /proc/self/mountinfo; echo")
        .set("/linux/rootfsPropagation", json!(kind))
        .run()?;
    expect(!seen.contains("shared:"), || seen.clone())
}

fn seccomp(runtime: &Runtime) -> Result<(), String> {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
    let seen = runtime
        .bundle("mkdir /tmp/x; grep Seccomp: /proc/self/status")
        .set("/linux/seccomp", profile)
        .run()?;
    equal(&seen, "Seccomp:\t2\nmkdir: can't create directory '/tmp/x': Operation not permitted\n")
}

fn sysctl(runtime: &Runtime) -> Result<(), String> {
    let seen = runtime
        .bundle("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname")
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.domainname": "example"}))
        .run()?;
    equal(&seen, "1\nexample\n")?;
    let machine =
        runtime.bundle("true").set("/linux/sysctl", json!({"vm.swappiness": "1"})).create().failure()?;
    expect(machine.contains("the whole machine"), || machine.clone())
}

fn misc_props(runtime: &Runtime) -> Result<(), String> {
    runtime.bundle("true").set("/annotations/org.unknown", json!("")).run()?;
    runtime.bundle("true").set("/unknown", json!("unknown")).run()?;
    runtime.bundle("true").set("/ociVersion", json!("invalid")).create().failure().map(drop)
}

fn mounts(runtime: &Runtime) -> Result<(), String> {
    let folder = runtime.path("folder");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("file"), "host\n").unwrap();
    let bind = |target: &str, options: &[&str]| json!({"destination": target, "type": "none", "source": folder, "options": options});
    let seen = runtime
        .bundle("cat /a/file /up/from-image; touch /a/x 2>/dev/null || echo fixed; grep ' /t ' /proc/self/mounts | cut -d' ' -f3,4 | cut -d, -f1-4; touch /up/x && echo writable")
        .push("/mounts", bind("/a", &["bind", "ro", "nosuid"]))
        .push("/mounts", json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "nosuid", "nodev", "size=1m"]}))
        .push("/mounts", json!({"destination": "/data", "type": "bind", "source": runtime.path("rootfs/data"), "options": ["bind"]}))
        .push("/mounts", json!({"destination": "/up", "type": "bind", "source": runtime.path("rootfs/data"), "options": ["bind"]}))
        .push("/mounts", json!({"destination": "/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "nodev"]}))
        .run()?;
    equal(&seen, "host\nfrom the image\nfixed\ntmpfs rw,nosuid,nodev,noexec\nwritable\n")?;
    expect(!runtime.path("rootfs/data/x").exists(), || "what was copied up was written to".to_owned())
}

/// `rro` reaches what is mounted below.
fn mounts_recursive(runtime: &Runtime) -> Result<(), String> {
    let dev =
        json!({"destination": "/host-dev", "type": "bind", "source": "/dev", "options": ["rbind", "rro"]});
    let seen = runtime
        .bundle("grep ' /host-dev' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1 | sort -u")
        .push("/mounts", dev)
        .run()?;
    equal(&seen, "ro\n")
}

fn pidfile(runtime: &Runtime) -> Result<(), String> {
    let (bundle, file) = (runtime.bundle("true"), runtime.path("pidfile"));
    bundle.create_with(&["--pid-file", file.to_str().unwrap()]).success()?;
    equal(&fs::read_to_string(file).unwrap(), &bundle.state()?["pid"].to_string())
}

fn poststart(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime.bundle("sleep 1000").set("/hooks/poststart", json!([hook(runtime, "poststart")]));
    bundle.create().success()?;
    equal(&hooked(runtime), "")?;
    bundle.start().success()?;
    equal(&hooked(runtime), "poststart")
}

/// runtime.md, "Lifecycle", step 9: an error, the container ends, and what was made for it goes.
fn poststart_fail(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime
        .bundle("sleep 1000")
        .set("/hooks/poststart", json!([{"path": "/bin/false"}]))
        .set("/hooks/poststop", json!([hook(runtime, "poststop")]));
    bundle.create().success()?;
    bundle.start().failure()?;
    equal(&bundle.status(), "none")?;
    equal(&hooked(runtime), "poststop")
}

fn poststop(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime.bundle("true").set("/hooks/poststop", json!([hook(runtime, "poststop")]));
    bundle.create().success()?;
    bundle.start().success()?;
    bundle.wait_for("stopped")?;
    equal(&hooked(runtime), "")?;
    bundle.delete().success()?;
    equal(&hooked(runtime), "poststop")
}

/// A warning, and all goes on.
fn poststop_fail(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime
        .bundle("true")
        .set("/hooks/poststop", json!([{"path": "/bin/false"}, hook(runtime, "second")]));
    bundle.create().success()?;
    bundle.start().success()?;
    bundle.wait_for("stopped")?;
    let deleted = bundle.delete();
    expect(deleted.ok && deleted.err.starts_with("warning: "), || format!("{deleted:?}"))?;
    equal(&hooked(runtime), "second")?;
    equal(&bundle.status(), "none")
}

fn prestart(runtime: &Runtime) -> Result<(), String> {
    let bundle = runtime.bundle("true").set("/hooks/prestart", json!([hook(runtime, "prestart")]));
    bundle.create().success()?;
    equal(&hooked(runtime), "prestart")
}

fn prestart_fail(runtime: &Runtime) -> Result<(), String> {
    for stage in ["prestart", "createRuntime", "createContainer"] {
        let bundle = runtime.bundle("true").set(&format!("/hooks/{stage}"), json!([{"path": "/bin/false"}]));
        bundle.create().failure()?;
        equal(&bundle.status(), "none")?;
    }
    let bundle = runtime.bundle("echo ran").set("/hooks/startContainer", json!([{"path": "/bin/nope"}]));
    bundle.create().success()?;
    bundle.start().failure()?;
    bundle.wait_for("stopped")?;
    equal(&bundle.output(), "")
}

fn process(runtime: &Runtime) -> Result<(), String> {
    let seen = runtime
        .bundle("pwd; echo $A")
        .set("/process/cwd", json!("/data"))
        .set("/process/env", json!(["PATH=/bin", "A=b c"]));
    equal(&seen.run()?, "/data\nb c\n")?;
    runtime.bundle("true").set("/process/cwd", json!("relative")).create().failure()?;
    runtime.bundle("true").set("/process/args", json!([])).create().failure().map(drop)
}

fn process_capabilities(runtime: &Runtime) -> Result<(), String> {
    let some = json!(["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    let sets =
        json!({"bounding": some, "effective": some, "inheritable": some, "permitted": some, "ambient": some});
    let seen =
        runtime.bundle("grep ^Cap /proc/self/status | cut -f2").set("/process/capabilities", sets).run()?;
    equal(&seen, &"0000000000201000\n".repeat(5))?;
    let seen = runtime
        .bundle("grep ^Cap /proc/self/status | cut -f2")
        .set("/process/capabilities", json!({}))
        .run()?;
    equal(&seen, &"0000000000000000\n".repeat(5))
}

fn process_capabilities_fail(runtime: &Runtime) -> Result<(), String> {
    runtime
        .bundle("true")
        .set("/process/capabilities/bounding", json!(["CAP_TEST"]))
        .create()
        .failure()
        .map(drop)
}

fn process_oom_score_adj(runtime: &Runtime) -> Result<(), String> {
    equal(
        &runtime.bundle("cat /proc/self/oom_score_adj").set("/process/oomScoreAdj", json!(500)).run()?,
        "500\n",
    )
}

fn process_rlimits(runtime: &Runtime) -> Result<(), String> {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    let seen = runtime.bundle("ulimit -Sn; ulimit -Hn; ulimit -c").set("/process/rlimits", limits).run()?;
    equal(&seen, "100\n200\n0\n")
}

fn process_rlimits_fail(runtime: &Runtime) -> Result<(), String> {
    let one = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200});
    for limits in [json!([{"type": "RLIMIT_TEST", "soft": 1, "hard": 1}]), json!([one, one])] {
        runtime.bundle("true").set("/process/rlimits", limits).create().failure()?;
    }
    Ok(())
}

fn process_user(runtime: &Runtime) -> Result<(), String> {
    let (user, groups) = if is_root() {
        (json!({"uid": 10, "gid": 11, "umask": 63, "additionalGids": [5, 20]}), "11 5 20")
    } else {
        (json!({"uid": 0, "gid": 0, "umask": 63}), "0")
    };
    let seen = runtime.bundle("id -u; id -g; id -G; umask").set("/process/user", user).run()?;
    let seen: Vec<&str> = seen.lines().collect();
    let expected = if is_root() { ["10", "11"] } else { ["0", "0"] };
    expect(seen[..2] == expected && seen[2].starts_with(groups) && seen[3] == "0077", || format!("{seen:?}"))
}

fn root_readonly_true(runtime: &Runtime) -> Result<(), String> {
    equal(
        &runtime.bundle("touch /x 2>/dev/null || echo fixed").set("/root/readonly", json!(true)).run()?,
        "fixed\n",
    )
}

fn start(runtime: &Runtime) -> Result<(), String> {
    runtime.oci(&["start", "nobody"]).failure()?;
    runtime.oci(&["start"]).failure()?;
    let bundle = running(runtime, "echo ready; sleep 1000")?;
    bundle.start().failure()?;
    equal(&bundle.status(), "running")?;
    bundle.kill("KILL").success()?;
    bundle.wait_for("stopped")?;
    bundle.start().failure()?;
    let missing = runtime.bundle("true").set("/process/args", json!(["/nope"]));
    missing.create().success()?;
    missing.start().failure().map(drop)
}

fn state(runtime: &Runtime) -> Result<(), String> {
    runtime.oci(&["state", "nobody"]).failure()?;
    runtime.oci(&["state"]).failure()?;
    let bundle = runtime.bundle("true").set("/annotations/org.example", json!("x"));
    bundle.create().success()?;
    let state = bundle.state()?;
    let right = state["ociVersion"] == "1.2.0"
        && state["id"] == bundle.id
        && state["status"] == "created"
        && state["pid"].as_i64().is_some_and(|pid| pid > 0)
        && state["bundle"] == bundle.dir().to_str().unwrap()
        && state["annotations"] == json!({"org.example": "x"});
    expect(right, || state.to_string())
}
