//! Containers on devices with AppArmor and SELinux, seen from inside: what they are, and what that keeps them from.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};
use applications::one_machine_at_a_time;
use dpack_targets::Target;
use dpack_tests::images::Layer;
use dpack_tests::{Handmade, Need, Sections, Vm, needs};
use serde_json::{Value, json};

/// Everybody is ready, and does nothing until asked.
fn application(name: &'static str, mut services: Value) -> Handmade {
    for service in services.as_object_mut().unwrap().values_mut() {
        service["command"] =
            json!(["sh", "-c", "echo ready; trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
        service["network_mode"] = json!("none");
    }
    let files = Layer::new()
        .file("secret", 0o644, b"of the image\n")
        .file("open", 0o644, b"of the image\n")
        .file("kept/first", 0o644, b"of the image\n");
    Handmade::new(name, services).layer(files)
}

/// What the script prints by heading, as an ordinary user of a machine.
#[expect(clippy::print_stdout, reason = "shown where a test fails")]
fn on(machine: Vm, application: &Handmade, script: &str) -> Result<Sections> {
    let target = Target::for_platform("linux/amd64").context("no such target")?;
    let executable = application.executable(target)?;
    std::fs::set_permissions(executable.path(), PermissionsExt::from_mode(0o755))?;
    let name = executable.path().file_name().context("no name")?.to_string_lossy().into_owned();
    let script = format!("exec 2>&1; app=/in/{name}; cd \"$HOME\"\n{script}");
    let _turn = one_machine_at_a_time();
    let output = machine.file(executable.path()).time_limit(Duration::from_secs(300)).run(&script)?;
    println!("{}", output.stdout);
    Ok(Sections::parse(&output.stdout))
}

const WITH_PROFILES: &str = r#"
mkdir -p data; echo closed >data/secret; echo open >data/open
"$app" up -d >/dev/null
label() { "$app" exec -T "$1" cat /proc/"$2"/attr/current; }
for service in confined unconfined default strict; do
  echo "== $service"; label $service 1; label $service self
done
echo '== denied'; "$app" exec -T confined cat /secret /data/secret
echo '== allowed'; "$app" exec -T confined cat /open /data/open
echo '== others'; "$app" exec -T unconfined cat /secret
echo '== strictly'; "$app" exec -T strict cat /secret /open
echo '== again'; "$app" restart -t 0 confined >/dev/null 2>&1; label confined 1; "$app" exec -T confined cat /secret
echo '== run'; "$app" run --rm -T confined cat /proc/self/attr/current /secret
echo '== missing'; "$app" up -d missing; echo "status $?"
echo '== doctor'; "$app" doctor | grep AppArmor
"$app" down -t 0 >/dev/null
"#;

fn with_profiles() -> Handmade {
    let option = |option: &str| json!([format!("apparmor={option}")]);
    application(
        "profiles",
        json!({
            "confined": {"security_opt": option("dpack-test"), "volumes": ["/home/user/data:/data"]},
            "unconfined": {"security_opt": option("unconfined")},
            "default": {},
            "strict": {"security_opt": ["no-new-privileges", "apparmor=dpack-test"], "user": "1"},
            "missing": {"security_opt": option("nobody-has-it"), "profiles": ["missing"]},
        }),
    )
}

fn profiles_confine(seen: &Sections) {
    for service in ["confined", "strict"] {
        assert!(seen.under(service).starts_with("dpack-test (enforce)\ndpack-test (enforce)"), "{service}");
    }
    for service in ["unconfined", "default"] {
        assert_eq!(seen.under(service), "unconfined\nunconfined");
    }
    let denied = "cat: can't open '/secret': Permission denied";
    assert_eq!(seen.under("denied"), format!("{denied}\ncat: can't open '/data/secret': Permission denied"));
    assert_eq!(seen.under("allowed"), "of the image\nopen");
    assert_eq!(seen.under("others"), "of the image");
    assert_eq!(seen.under("strictly"), format!("{denied}\nof the image"));
    assert_eq!(seen.under("again"), format!("dpack-test (enforce)\n{denied}"));
    assert_eq!(seen.under("run"), format!("dpack-test (enforce)\n{denied}"));
    let missing = seen.under("missing");
    assert!(
        missing.contains("failed to set the AppArmor profile `nobody-has-it`: No such file"),
        "{missing}"
    );
    assert!(missing.contains("hint: no profile of this name is loaded"), "{missing}");
    assert!(missing.ends_with("status 3"), "{missing}");
    assert!(seen.under("doctor").contains("ok"), "{}", seen.under("doctor"));
}

#[test]
fn apparmor_profiles_confine() -> Result<()> {
    if !needs(&[Need::Stubs, Need::DebianPackages]) {
        return Ok(());
    }
    let machine = Vm::amd64().user().newuidmap().apparmor()?;
    profiles_confine(&on(machine, &with_profiles(), WITH_PROFILES)?);
    Ok(())
}

/// `plain` has no option; `given` has `z`, `own` has `Z`, and the other container mounts that as well.
fn with_labels() -> Handmade {
    application(
        "labels",
        json!({
            "a": {
                "volumes": ["kept:/kept", "/home/user/plain:/plain", "/home/user/given:/given:z", "/home/user/own:/own:Z"],
                "tmpfs": ["/memory"],
                "stdin_open": true,
            },
            "b": {"volumes": ["kept:/kept", "/home/user/given:/given", "/home/user/own:/theirs"]},
            "open": {"security_opt": ["label=disable"], "volumes": ["/home/user/plain:/plain"]},
            "level": {"security_opt": ["label=level:s0:c7,c9", "no-new-privileges"], "user": "1"},
            "screen": {"tty": true},
            "unknown": {"security_opt": ["label=type:nobody_t"], "profiles": ["unknown"]},
            "system": {"volumes": ["/etc:/host:z"], "profiles": ["system"]},
            "home": {"volumes": ["/home/user/at-home:/host:Z"], "profiles": ["home"]},
        }),
    )
}

const WITH_LABELS: &str = r#"
mkdir -p plain given own; for folder in plain given own; do echo "$folder" >$folder/file; done
"$app" up -d >/dev/null
label() { "$app" exec -T "$1" cat /proc/"$2"/attr/current | tr '\0' '\n'; }
for service in a b open level; do echo "== $service"; label $service 1; label $service self; done
echo '== plain'; "$app" exec -T a cat /plain/file
echo '== given'; "$app" exec -T a cat /given/file; "$app" exec -T b cat /given/file
echo '== own'; "$app" exec -T a cat /own/file
echo '== theirs'; "$app" exec -T b cat /theirs/file
echo '== kept'; "$app" exec -T a sh -c 'echo of a >/kept/a'; "$app" exec -T b cat /kept/a /kept/first
echo '== works'; "$app" exec -T a sh -c 'echo x >/dev/shm/x && echo y >/memory/y && echo z >/z && cat /dev/shm/x /memory/y /z && head -c 1 /etc/hosts >/dev/null && ls /dev/mqueue /dev/pts && head -c 2 /dev/zero | wc -c && ls -d /proc/sys'
echo '== disabled'; "$app" exec -T open cat /plain/file
echo '== streams'
"$app" exec -T a sh -c 'echo out; echo err >&2' >out.txt 2>err.txt; cat out.txt err.txt
"$app" exec -T a cat <plain/file
"$app" exec -T a sh -c 'exit 7' >out.txt; echo "status $?"
"$app" run --rm -T a cat /proc/self/attr/current >run.txt; tr '\0' '\n' <run.txt
echo '== logs'; for service in a screen; do "$app" logs --no-log-prefix $service; done | tr -d '\r'
echo '== again'; label a 1; "$app" restart -t 0 a >/dev/null 2>&1; label a 1; "$app" up -d --force-recreate -t 0 a >/dev/null 2>&1; label a 1
echo '== copied'; echo in >in.txt; "$app" cp in.txt a:/in.txt; "$app" exec -T a cat /in.txt
echo '== unknown'; "$app" up -d unknown; echo "status $?"
echo '== system'; "$app" up -d system; echo "status $?"
echo '== home'; mkdir at-home; HOME=$PWD/at-home "$app" --data-dir "$PWD/elsewhere" up -d home; echo "status $?"
echo '== doctor'; "$app" doctor | grep SELinux
"$app" down -v -t 0 >/dev/null
echo '== without'
mv /etc/selinux/test/contexts/lxc_contexts /etc/selinux/test/contexts/gone
"$app" up -d a 2>&1 | grep -A 1 warning; label a 1; "$app" exec -T a cat /plain/file
"$app" doctor | grep SELinux
"$app" down -v -t 0 >/dev/null
echo '== denials'; dmesg | grep -o 'avc:.*'
"#;

#[test]
fn selinux_labels_confine() -> Result<()> {
    if !needs(&[Need::Stubs, Need::DebianPackages]) {
        return Ok(());
    }
    let machine = Vm::amd64().user().newuidmap().selinux()?.sysctl("kernel.dmesg_restrict=0");
    let seen = on(machine, &with_labels(), WITH_LABELS)?;
    let labels = |service: &str| seen.under(service).lines().map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (labels("a"), labels("b"));
    for label in [&a, &b] {
        assert!(label[0].starts_with("system_u:system_r:container_t:s0:c"), "{label:?}");
        assert_eq!(label[0], label[1], "a process that joins is what the others are");
    }
    assert_ne!(a[0], b[0], "each has a level of its own");
    assert!(labels("open").iter().all(|label| label.contains(":unconfined_t:")), "{:?}", labels("open"));
    assert_eq!(labels("level")[..2], ["system_u:system_r:container_t:s0:c7,c9"; 2]);

    let denied = |path: &str| format!("cat: can't open '{path}': Permission denied");
    assert_eq!(seen.under("plain"), denied("/plain/file"));
    assert_eq!(seen.under("given"), "given\ngiven");
    assert_eq!(seen.under("own"), "own");
    assert_eq!(seen.under("theirs"), denied("/theirs/file"));
    assert_eq!(seen.under("kept"), "of a\nof the image");
    assert_eq!(seen.under("disabled"), "plain");
    let works = seen.under("works");
    assert!(works.starts_with("x\ny\nz\n") && works.ends_with("\n2\n/proc/sys"), "{works}");
    assert!(!works.contains("denied"), "{works}");
    assert_eq!(
        seen.under("streams"),
        format!("out\nerr\nplain\nstatus 7\n{}", seen.under("streams").lines().last().unwrap())
    );
    assert!(seen.under("streams").lines().last().unwrap().contains(":container_t:"));
    assert_eq!(seen.under("logs"), "ready\nready", "by a pipe and by a terminal");
    let again = labels("again");
    assert!(again.iter().all(|label| *label == a[0]) && again.len() == 3, "{again:?}");
    assert_eq!(seen.under("copied"), "in");
    let unknown = seen.under("unknown");
    assert!(unknown.contains("`system_u:system_r:nobody_t:s0:c"), "{unknown}");
    assert!(unknown.contains("does not know it") && unknown.ends_with("status 3"), "{unknown}");
    for (heading, path) in [("system", "/etc"), ("home", "/home/user/at-home")] {
        let told = seen.under(heading);
        let refused = told.contains(&format!("wants new SELinux labels for `{path}`"));
        assert!(refused && told.ends_with("status 4"), "{told}");
    }
    assert!(seen.under("doctor").contains("enforcing: containers are `system_u:system_r:container_t:s0`"));
    let without = seen.under("without");
    assert!(
        without.contains("warning: SELinux does not confine containers: the policy has nothing"),
        "{without}"
    );
    assert!(without.contains(":unconfined_t:") && without.contains("\nplain\n"), "{without}");
    let denials: Vec<&str> = seen.under("denials").lines().collect();
    assert_eq!(denials.len(), 2, "what was tried, and nothing that a container needs: {denials:?}");
    Ok(())
}
