//! Ways out of a container that others have found, each tried from inside while the device works with it: on this machine, and
//! on machines of each architecture. A canary lies in the user's home; nothing about it is seen or changed.
//!
//! | tried | known as |
//! |---|---|
//! | the device's files by `/proc/PID/root`, `cwd`, `fd`, while processes join | CVE-2024-21626, `exec` races |
//! | our program by `/proc/PID/exe` | CVE-2019-5736 |
//! | links exchanged under `cp` | CVE-2018-15664, CVE-2019-14271 |
//! | links in place of `/dev/null` and of what is masked | CVE-2025-31133, CVE-2019-16884, CVE-2023-27561 |
//! | links exchanged in a volume, where another container mounts and of which it mounts a part | CVE-2021-30465 |
//! | working directories that are descriptors | CVE-2024-21626 |
//! | `release_agent`, mounts, device nodes, new user namespaces, kernel parameters | CVE-2022-0492 and others |
//! | mounts of a container that may mount, seen outside; files with set-user-ID, inside and outside | |
//! | keys of the session that typed `up`; signals to processes outside, tracing and reading them: also without a filter | |
//! | all processes, all memory (on the machines, where groups are handed over), all of a disk within limits | |
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use applications::one_machine_at_a_time;
use dpack_targets::Target;
use dpack_tests::images::Layer;
use dpack_tests::{Device, Handmade, Need, Sections, Vm, needs, probe};
use serde_json::json;

const SECRET: &str = "the-users-own-word";

/// What is tried from inside, by a shell. Each line that begins with `leak` is a way out.
const INSIDE: &str = r#"
try() { "$@" 2>/dev/null && echo "leak: $*"; }
for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/kernel/hostname /sys/kernel/uevent_helper /sys/power/state; do
  try sh -c ": >>$file"
done
for agent in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name devices.allow 2>/dev/null | head -n 20); do
  try sh -c ": >>$agent"
done
try mount -t tmpfs none /mnt
try mount -t cgroup -o memory none /mnt
try mount -o remount,rw,bind /proc/sys
try mount --bind / /mnt
try mount --make-rshared /
try umount /proc/sys
try umount /proc/keys
try unshare -U true
try unshare -m true
for device in 'b 8 0' 'b 254 0' 'c 1 1' 'c 10 200'; do
  rm -f /tmp/node; mknod /tmp/node $device 2>/dev/null && try sh -c ': </tmp/node'
done
for pid in OUTSIDE; do try grep -q 98765 /proc/$pid/cmdline; done
for path in /proc/kcore /proc/keys /proc/timer_list /sys/firmware/acpi; do
  [ -z "$(head -c 1 $path 2>/dev/null)$(ls $path/ 2>/dev/null)" ] || echo "leak: $path is read"
done
[ "$(ls /proc/self/fd | wc -l)" -le 4 ] || echo "leak: $(ls -l /proc/self/fd)"
try sysctl -w kernel.domainname=x
try nsenter -t 1 -m true
echo tried
"#;

/// What the device's user does meanwhile, as a script for any shell. `$app` is the executable.
const OUTSIDE: &str = r#"
set -e
printf 'SECRET\n' >"$HOME/canary"; chmod 600 "$HOME/canary"
sleep 98765 >/dev/null 2>&1 & outside=$!
trap 'kill $outside 2>/dev/null' EXIT
before=$(sha256sum <"$app")
reach() { "$app" "$@" probe reach canary SECRET $KEY $outside $$ 1; }
"$app" up -d it free 2>/dev/null
echo '== reached'
for service in it free; do
  reach exec -T $service
  reach run --rm -T $service
done
echo '== inside'
"$app" exec -T it sh -c "$(sed "s/OUTSIDE/$outside $$/" /dev/stdin <<'SCRIPT'
INSIDE
SCRIPT
)" </dev/null
"$app" run --rm -T it sh -c 'kill -9 -1' >/dev/null 2>&1 || true
echo '== joined'
"$app" exec -T it probe attack "$HOME/canary" SECRET SECONDS &
attack=$!
round=0
while kill -0 $attack 2>/dev/null && [ $round -lt 40 ]; do
  "$app" exec -T it true || true
  "$app" exec -T -w /proc/self/fd/$((3 + round % 8)) it sh -c 'cat ../../../../../../../../..'"$HOME"'/canary' 2>/dev/null || true
  round=$((round + 1))
done
wait $attack || true
echo '== copied'
"$app" exec -T it sh -c 'mkdir -p /tmp/real /tmp/swap; echo mine >/tmp/real/canary; while :; do rm -rf /tmp/swap; ln -s "'"$HOME"'" /tmp/swap; rm -f /tmp/swap; mkdir /tmp/swap; done' &
swapping=$!
round=0
while [ $round -lt 15 ]; do
  "$app" cp it:/tmp/swap/canary "$HOME/stolen" 2>/dev/null || true
  printf 'from outside\n' >"$HOME/new"
  "$app" cp "$HOME/new" it:/tmp/swap/canary 2>/dev/null || true
  round=$((round + 1))
done
kill $swapping 2>/dev/null || true
! grep -q SECRET "$HOME/stolen" 2>/dev/null || echo 'leak: cp read the canary'
echo '== shared'
"$app" up -d swapper 2>/dev/null
"$app" exec -T swapper sh -c 'while :; do rm -rf /vol/dir; ln -s "'"$HOME"'" /vol/dir; rm -f /vol/dir; mkdir /vol/dir; done' &
swapping=$!
round=0
while [ $round -lt 8 ]; do
  for service in victim part; do
    "$app" run --rm -T $service sh -c 'cat /vol/dir/canary /part/canary; echo theirs >/vol/dir/foreign; echo theirs >/part/foreign' 2>/dev/null || true
  done
  round=$((round + 1))
done
kill $swapping 2>/dev/null || true
echo '== mounted'
"$app" run --rm -T mounter sh -c 'mount -t tmpfs from-inside /vol && mount --bind /vol /mnt && mount --make-rshared /vol && grep -c from-inside /proc/self/mountinfo' || true
grep from-inside /proc/self/mountinfo || true
echo '== set-user-id'
"$app" run --rm -T --user 1000:1000 fixed suid | sed -n '/"uid": \[/,/\]/p' | tr -d ' \n'; echo
stat -c %a "${DPACK_DATA_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/dpack}"
echo '== masked'
"$app" run --rm -T links sh -c 'cat /proc/keys /proc/timer_list | wc -c; ls -l /dev/null | cut -c1; cat /proc/sys/kernel/core_pattern >/dev/null; echo done' 2>&1 || true
echo '== limits'
"$app" run --rm -T filled sh -c 'dd if=/dev/zero of=/small/file bs=1M count=64 2>/dev/null; echo "$(($(wc -c </small/file) >> 20)) MiB"' || true
if [ "$limits" = yes ]; then
  "$app" run --rm -T bomb sh -c 'for i in $(seq 60); do sleep 5 & done' 2>&1 | grep -o "can't fork" || echo 'leak: 60 processes'
  "$app" run --rm -T bomb dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null || echo $?
fi
echo '== canary'
cat "$HOME/canary"; stat -c '%a %s' "$HOME/canary"; ls "$HOME" | grep -v -e canary -e new -e stolen -e attack -e probe || true
kill -0 $outside && echo alive
[ "$before" = "$(sha256sum <"$app")" ] && echo unchanged
"$app" down -v -t 0 2>/dev/null
echo '== end'
"#;

fn executable(target: &Target) -> Result<tempfile::NamedTempFile> {
    let layer = Layer::new()
        .file("usr/bin/probe", 0o755, &std::fs::read(probe(target))?)
        .directory("mnt", 0o755)
        .directory("tmp", 0o1777);
    // Two images in one: the hostile links only matter to who mounts on them.
    let links = layer
        .symlink("dev/null", "/proc/sys/kernel/core_pattern")
        .symlink("proc/keys", "/etc/passwd")
        .file("usr/bin/suid", 0o4755, &std::fs::read(probe(target))?);
    Handmade::new(
        "attack",
        json!({
            "it": {"command": "sleep 10000", "network_mode": "none", "init": true},
            "links": {"command": "true", "network_mode": "none"},
            "swapper": {"command": "sleep 10000", "network_mode": "none", "volumes": ["kept:/vol"]},
            "victim": {"command": "true", "network_mode": "none", "volumes": ["kept:/vol", "/vol/dir"]},
            "part": {
                "command": "true", "network_mode": "none",
                "volumes": [{"type": "volume", "source": "kept", "target": "/part", "volume": {"subpath": "dir"}}],
            },
            "mounter": {
                "command": "true", "network_mode": "none", "cap_add": ["SYS_ADMIN"], "volumes": ["kept:/vol"],
                "security_opt": ["seccomp=unconfined"],
            },
            "fixed": {"command": "true", "network_mode": "none", "security_opt": ["no-new-privileges"]},
            "filled": {"command": "true", "network_mode": "none", "tmpfs": ["/small:size=8m"]},
            "bomb": {
                "command": "true", "network_mode": "none", "profiles": ["limits"],
                "pids_limit": 20, "mem_limit": "32m", "memswap_limit": "32m",
            },
            // Not what the filter refuses, but what there is to reach.
            "free": {
                "command": "sleep 10000", "network_mode": "none", "cap_add": ["SYS_PTRACE"],
                "security_opt": ["seccomp=unconfined"],
            },
        }),
    )
    .layer(links)
    .executable(target)
}

fn script(seconds: u32) -> String {
    // The inner script first: its placeholders are not the outer's.
    OUTSIDE
        .replace("INSIDE", INSIDE.trim())
        .replace("SECRET", SECRET)
        .replace("SECONDS", &seconds.to_string())
}

/// What the device runs: the script, by somebody whose session has a key. `app`, `probe` and `limits` are set before.
fn session(variables: &str, seconds: u32) -> String {
    let script = script(seconds);
    format!(
        "{variables}; export app limits; exec \"$probe\" key canary {SECRET} sh -c \"$(cat <<'SESSION'\n{script}\nSESSION\n)\""
    )
}

fn nothing_got_out(output: &str, limits: &str) {
    let sections = Sections::parse(output);
    let saw = |heading: &str| sections.under(heading);
    assert!(!output.contains("leak: "), "{output}");
    assert_eq!(saw("inside"), "tried", "{output}");
    assert!(saw("joined").contains(" times, 0 leaks") && !saw("joined").contains(SECRET), "{output}");
    assert_eq!(saw("copied"), "", "{output}");
    assert_eq!(saw("shared"), "", "{output}");
    assert_eq!(saw("mounted"), "2", "{output}");
    assert_eq!(saw("set-user-id"), "\"uid\":[1000,1000,1000,1000],\n700", "{output}");
    assert_eq!(saw("masked"), "0\nc\ndone", "{output}");
    assert_eq!(saw("limits"), limits, "{output}");
    let reached = saw("reached");
    assert_eq!(reached.lines().filter(|line| line.ends_with(", 0 leaks")).count(), 4, "{output}");
    assert_eq!(saw("canary"), format!("{SECRET}\n600 {}\nalive\nunchanged", SECRET.len() + 1), "{output}");
    assert_eq!(saw("end"), "", "{output}");
}

fn can_attack() -> bool {
    needs(&[Need::Stubs, Need::Probe, Need::DebianPackages, Need::Program("newuidmap")])
}

#[test]
fn nothing_gets_out_of_a_container_on_this_machine() -> Result<()> {
    if !can_attack() {
        return Ok(());
    }
    let device = Device::host()?;
    let file = executable(Target::host().context("no target for this machine")?)?;
    let app = device.install(file.path())?;
    let probe = device.install(&probe(Target::host().context("no target for this machine")?))?;
    let script = session(&format!("app={app} probe={probe} limits=no"), 10);
    let output = device.run(&["sh", "-c", &script])?.success()?;
    nothing_got_out(&output.stdout, "8 MiB");
    Ok(())
}

fn on_machine(machine: Vm, platform: &str) -> Result<()> {
    if !can_attack() {
        return Ok(());
    }
    let target = Target::for_platform(platform).context("no such target")?;
    let file = executable(target)?;
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o755))?;
    let name = file.path().file_name().context("a name")?.to_string_lossy().into_owned();
    let _turn = one_machine_at_a_time();
    let output = machine
        .user()
        .newuidmap()
        .file(file.path())
        .file(&probe(target))
        .time_limit(Duration::from_secs(400))
        .run(&session(&format!("app=/in/{name} probe=/in/probe limits=yes"), 20))?
        .success()?;
    nothing_got_out(&output.stdout, "8 MiB\ncan't fork\n137");
    Ok(())
}

#[test]
fn nothing_gets_out_of_a_container_on_an_x86_64_machine() -> Result<()> {
    on_machine(Vm::amd64(), "linux/amd64")
}

#[test]
fn nothing_gets_out_of_a_container_on_an_aarch64_machine() -> Result<()> {
    on_machine(Vm::arm64(), "linux/arm64")
}

#[test]
fn nothing_gets_out_of_a_container_on_an_armv7_machine() -> Result<()> {
    on_machine(Vm::armv7(), "linux/arm/v7")
}
