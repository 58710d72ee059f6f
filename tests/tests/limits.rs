//! Limits on real kernels: what a service asks for is what the kernel's own files say, whoever handed the control groups over.
//!
//! | control groups | handed over |
//! |---|---|
//! | version 2 | to root; by the command that the refusal names |
//! | version 2 | to the user's session, on the two other architectures |
//! | version 2 | by systemd: a scope that the user's manager makes |
//! | version 1 | by the command that the refusal names |
//!
//! Where nothing is handed over, `up` and `run` refuse, or go on without under `--allow-degraded`.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use applications::{can_build, one_machine_at_a_time};
use dpack_tests::{Handmade, Sections, Vm};
use serde_json::{Value, json};

/// Functions of the scripts. `$app` is the executable.
const PRELUDE: &str = r#"
exec 2>&1
cat >/tmp/prelude <<'PRELUDE'
app=/in/APP
heading() { printf '\n== %s\n' "$1"; }
# the user, in the control group of the calling shell
user() { HOME=/home/user XDG_RUNTIME_DIR=/run/user/1000 su -s /bin/sh user -c "cd; $1"; }
# what a refusal says would help, typed by an administrator in the user's shell
remedy() { sed -n 's/^hint: \(sudo .*\)/\1/p' "$1" | head -n 1; }
sudo() { "$@"; }
# the files of the only container's groups
files() {
  for file in "$@"; do
    for dir in $(find /sys/fs/cgroup -type d -name 'dpack-container-*'); do
      [ -z "$(cat "$dir/$file" 2>/dev/null)" ] || echo "$file $(cat "$dir/$file")"
    done
  done
}
groups() { echo "groups $(find /sys/fs/cgroup -type d -name 'dpack-container-*' | sed 's/.*\///' | sort -u | wc -l)"; }
PRELUDE
. /tmp/prelude
"#;

/// What is done where limits can be enforced.
const WITHIN_LIMITS: &str = r#"cat >/tmp/day <<'DAY'
last() { "$app" logs --no-log-prefix all | tail -n 1; }
all() { for process in /proc/[0-9]*; do case $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") in dpack-shim*|dpack-supervisor*) echo "${process##*/}" ;; esac; done; }
echo '== doctor';  "$app" doctor --format json 2>/dev/null
echo '== up';      "$app" up -d all || exit
echo '== files';   files $FILES
echo '== place';   find /sys/fs/cgroup -type d -name 'dpack-container-*'
echo '== stats';   "$app" stats --no-stream --format json
echo '== forks';   "$app" run --rm -T forks sh -c 'i=0; while [ $i -lt 25 ]; do i=$((i + 1)); sleep 1 & done; wait' 2>&1 | grep fork
echo '== paused';  "$app" pause all; "$app" ps --format json | grep -o '"State":"[a-z]*"'
before=$(last); sleep 1; [ "$before" = "$(last)" ] && echo still
"$app" unpause all; tries=0
while [ "$before" = "$(last)" ] && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
[ $tries -lt 100 ] && echo 'goes on'
echo '== bomb';    "$app" run --rm -T bomb; echo "status $?"
"$app" up -d bomb; "$app" wait bomb
"$app" ps -a bomb --format json | grep -o '"Status":"[^"]*"'
"$app" events --json --since 10m --until 0s | grep -o '"action":"oom"'
echo '== killed';  kill -9 $(all); while [ -n "$(all)" ]; do sleep 0.1; done; groups; "$app" up -d unlimited; "$app" wait unlimited; groups
echo '== down';    "$app" down -v -t 0; groups
DAY
"#;

fn services(more: &Value) -> Value {
    let mut all = json!({
        "command": ["sh", "-c", "i=0; while :; do i=$$((i + 1)); echo $$i; sleep 0.1; done"], "network_mode": "none", "init": true,
        "mem_limit": "64m", "memswap_limit": "64m", "mem_reservation": "16m",
        "cpus": 0.5, "cpu_shares": 512, "pids_limit": 20,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({
        "all": all,
        "bomb": {"command": ["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"], "network_mode": "none",
            "mem_limit": "32m", "memswap_limit": "32m"},
        "more": {"command": ["true"], "network_mode": "none", "cpuset": "0-7"},
        "forks": {"command": ["true"], "network_mode": "none", "pids_limit": 20},
        "unlimited": {"command": ["true"], "network_mode": "none"},
    })
}

fn run(machine: Vm, more: &Value, script: &str) -> Result<Saw> {
    let executable = Handmade::new("limits", services(more)).executable(machine.target())?;
    std::fs::set_permissions(executable.path(), PermissionsExt::from_mode(0o755))?;
    let name = executable.path().file_name().context("no name")?.to_string_lossy().into_owned();
    let script = format!("{}\n{script}", PRELUDE.replace("APP", &name));
    let _turn = one_machine_at_a_time();
    let output = machine.file(executable.path()).run(&script)?;
    Ok(Saw(Sections::parse(&output.stdout)))
}

/// The script's output by heading.
struct Saw(Sections);

impl Saw {
    fn under(&self, heading: &str) -> &str {
        self.0.under(heading)
    }
}

/// Verdict, detail and hint of one of the doctor's checks.
fn check(report: &str, name: &str) -> [String; 3] {
    let report: Value = serde_json::from_str(report).unwrap_or_default();
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let found = checks.find(|check| check["name"] == name).cloned().unwrap_or_default();
    ["verdict", "detail", "hint"].map(|field| found[field].as_str().unwrap_or_default().to_owned())
}

impl Saw {
    /// What is so wherever limits are enforced; `files` are the kernel's words for them, and `left` says how many groups are
    /// left when shim and supervisor are killed at once.
    fn limits(&self, files: &str, left: u32) {
        let everything = format!("{:#?}", self.0);
        assert_eq!(self.under("files"), files, "{everything}");
        assert_eq!(check(self.under("doctor"), "limits of all")[0], "ok", "{everything}");
        let stats: Value = serde_json::from_str(self.under("stats")).unwrap_or_default();
        assert!(stats["MemUsage"].as_str().is_some_and(|text| text.ends_with(" / 64.0MiB")), "{everything}");
        let processes = stats["PIDs"].as_str().unwrap_or_default();
        assert!(["2", "3"].contains(&processes), "the init, the shell, mostly its sleep: {everything}");
        assert!(self.under("forks").contains("can't fork"), "{everything}");
        for seen in [r#""State":"paused""#, "still", "goes on"] {
            assert!(self.under("paused").lines().any(|line| line == seen), "{seen}: {everything}");
        }
        for seen in ["status 137", "(out of memory)", r#""action":"oom""#] {
            assert!(self.under("bomb").contains(seen), "{seen}: {everything}");
        }
        let groups: Vec<&str> =
            self.under("killed").lines().filter(|line| line.starts_with("groups")).collect();
        assert_eq!(groups, [&*format!("groups {left}"), "groups 0"], "{everything}");
        assert!(self.under("down").ends_with("groups 0"), "{everything}");
    }
}

/// What the kernel's files say where version 2 is complete.
const VERSION_2: &str = "memory.max 67108864\nmemory.swap.max 0\nmemory.low 16777216\ncpu.max 50000 100000\n\
    cpu.weight 59\ncpuset.cpus 0\npids.max 20";
const FILES_2: &str =
    "export FILES='memory.max memory.swap.max memory.low cpu.max cpu.weight cpuset.cpus pids.max io.max'\n";
const AS_USER: &str = "user '. /tmp/prelude; . /tmp/day'\n";

/// An ordinary user to whom nothing was handed over, before and after the administrator did what the refusal says.
const UNTIL_REMEDIED: &str = r#"
heading refused
user '. /tmp/prelude; "$app" up -d all; echo "status $?"; "$app" run --rm -T all true; echo "status $?"' >/tmp/refused 2>&1
cat /tmp/refused
heading sick
user '. /tmp/prelude; "$app" doctor --format json; echo "status $?" >&2' 2>/tmp/status; cat /tmp/status
heading degraded
user '. /tmp/prelude; "$app" run --rm -T --allow-degraded all echo ran; "$app" up -d --allow-degraded all && "$app" pause all; echo "status $?"; "$app" down -t 0'
eval "$(remedy /tmp/refused)"
"#;

impl Saw {
    /// What is so where no limit can be enforced, because there is no control group for the user.
    fn refusals(&self) {
        let everything = format!("{:#?}", self.0);
        let refused = self.under("refused");
        assert_eq!(refused.matches("status 3").count(), 2, "{everything}");
        assert_eq!(
            refused.matches("service `all`: `mem_limit` cannot be enforced").count(),
            2,
            "{everything}"
        );
        assert_eq!(refused.matches("or go on without limits: --allow-degraded").count(), 2, "{everything}");
        let sick = self.under("sick");
        assert!(sick.contains("status 3"), "{everything}");
        let report = sick.split("\nerror: ").next().unwrap_or_default();
        let [verdict, detail, hint] = check(report, "limits of all");
        assert_eq!(verdict, "missing", "{everything}");
        assert!(
            detail.starts_with("cannot be enforced: mem_limit, memswap_limit, mem_reservation, because"),
            "{detail}"
        );
        assert!(hint.contains("sudo sh -c") && hint.ends_with("up --allow-degraded"), "{hint}");
        let degraded = self.under("degraded");
        for seen in [
            "\nran\n",
            "warning: service `all` runs without mem_limit, memswap_limit, mem_reservation, because",
            "Container limits-all-1  Started",
            "container limits-all-1 has no control group of its own",
            "status 3",
        ] {
            assert!(format!("\n{degraded}").contains(seen), "{seen}: {everything}");
        }
    }
}

#[test]
fn version_2_of_root_with_limits_of_disks() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let more =
        json!({"cpuset": "0", "blkio_config": {"device_read_bps": [{"path": "/dev/vda", "rate": "1mb"}]}});
    let saw = run(Vm::amd64(), &more, &[WITHIN_LIMITS, FILES_2, ". /tmp/day\n"].concat())?;
    saw.limits(&format!("{VERSION_2}\nio.max 254:0 rbps=1048576 wbps=max riops=max wiops=max"), 1);
    Ok(())
}

#[test]
fn version_2_handed_over_by_what_the_refusal_says() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let processors = r#"
heading processors
user '. /tmp/prelude; "$app" up -d more; echo "status $?"; "$app" run --rm -T --allow-degraded more echo ran'
"#;
    let script = [WITHIN_LIMITS, FILES_2, UNTIL_REMEDIED, processors, AS_USER].concat();
    let saw = run(Vm::amd64(), &json!({"cpuset": "0"}), &script)?;
    saw.refusals();
    let processors = saw.under("processors");
    assert!(
        processors.contains("`0-7` are not all among the processors that there are: 0\n"),
        "{processors}"
    );
    assert!(processors.contains("status 3") && processors.ends_with("ran"), "{processors}");
    saw.limits(VERSION_2, 1);
    Ok(())
}

#[test]
fn version_1_handed_over_by_what_the_refusal_says() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let files = "export FILES='memory.limit_in_bytes memory.soft_limit_in_bytes cpu.cfs_quota_us cpu.shares \
                 cpuset.cpus pids.max'\n";
    let script = [WITHIN_LIMITS, files, UNTIL_REMEDIED, AS_USER].concat();
    let saw = run(Vm::amd64().cgroup_v1(), &json!({"cpuset": "0"}), &script)?;
    saw.refusals();
    saw.limits(
        "memory.limit_in_bytes 67108864\nmemory.soft_limit_in_bytes 16777216\ncpu.cfs_quota_us 50000\n\
         cpu.shares 512\ncpuset.cpus 0\npids.max 20",
        1,
    );
    Ok(())
}

#[test]
fn a_session_of_systemd_gets_a_scope() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let script =
        [WITHIN_LIMITS, FILES_2, "heading refused\n\"$app\" up -d more; echo \"status $?\"\n. /tmp/day\n"]
            .concat();
    let saw = run(Vm::amd64().systemd(), &json!({}), &script)?;
    let refused = saw.under("refused");
    assert!(refused.contains("`cpuset` cannot be enforced"), "{refused}");
    assert!(
        refused.contains("Delegate=cpu cpuset io memory pids") && refused.ends_with("status 3"),
        "{refused}"
    );
    assert!(saw.under("up").contains("loginctl enable-linger"), "{}", saw.under("up"));
    assert!(saw.under("place").contains(".scope/dpack-container-"), "{}", saw.under("place"));
    // systemd removes a scope in which nothing runs any more.
    saw.limits(&VERSION_2.replace("cpuset.cpus 0\n", ""), 0);
    Ok(())
}

/// On a machine of another architecture, by a user who was given control groups.
fn version_2_handed_over_to_a_session(machine: Vm) -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let script = [WITHIN_LIMITS, FILES_2, ". /tmp/day\n"].concat();
    let saw = run(machine.user(), &json!({"cpuset": "0"}), &script)?;
    saw.limits(VERSION_2, 1);
    Ok(())
}

#[test]
fn version_2_on_an_aarch64_machine() -> Result<()> {
    version_2_handed_over_to_a_session(Vm::arm64())
}

#[test]
fn version_2_on_an_armv7_machine() -> Result<()> {
    version_2_handed_over_to_a_session(Vm::armv7())
}
