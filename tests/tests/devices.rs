//! The main job, to its end: an application of three services, built once for three platforms, runs as an ordinary user
//! on this machine and on machines of each architecture where nothing is installed.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};
use applications::{Application, Installed, can_build, entries, free_port, one_machine_at_a_time};
use dpack_targets::Target;
use dpack_tests::{Device, Handmade, Need, Sections, Vm, images, needs};

/// What an edge engineer does with the shop, as a script for any shell. It prints what it sees under headings.
///
/// `$app` is the executable, `$SHOP_PORT` the port.
const A_DAY_AT_THE_SHOP: &str = r#"
export SHOP_PORT
heading() { printf '\n== %s\n' "$1"; }
visit() { # the services start in their own time; a visit counts when it gets through
  tries=0
  until wget -q -O - "http://127.0.0.1:$SHOP_PORT/"; do
    tries=$((tries + 1)); [ $tries -lt 300 ] || { echo 'nobody answers'; "$app" ps -a; "$app" logs; exit 1; }
    sleep 0.1
  done
}
set -e
heading up;         "$app" up -d 2>&1
heading visits;     visit; visit
heading ps;         "$app" ps
heading logs;       "$app" logs --tail 1 web
heading exec;       "$app" exec db redis-cli get visits
heading inside;     "$app" exec app sh -c 'hostname; id -u; ps | grep -c httpd; ls /home'
set +e
heading failure;    "$app" exec app sh -c 'exit 9'; echo "status $?"
heading run;        "$app" run --rm app sh -c 'printf "PING\r\nQUIT\r\n" | nc db 6379 | grep -q PONG && echo reached; exit 5'; echo "status $?"
set -e
heading again;      "$app" up -d 2>&1
heading down;       "$app" down 2>&1
heading ps-down;    "$app" ps -a
heading up-again;   "$app" up -d 2>&1
heading survived;   visit
heading down-v;     "$app" down -v 2>&1
heading left
tries=0
while ls -l /proc/[0-9]*/exe 2>/dev/null | grep "$app" | grep -v -q "/proc/$$/" && [ $tries -lt 50 ]; do
  tries=$((tries + 1)); sleep 0.1
done
for process in /proc/[0-9]*; do
  case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
    dpack-*|nginx*|redis*|httpd*) [ "$(stat -c %u "$process" 2>/dev/null)" != "$(id -u)" ] || cat "$process/cmdline" ;;
  esac
done
grep "$HOME/.local/share/dpack" /proc/self/mountinfo || true
ls "$HOME/.local/share/dpack/projects" "$XDG_RUNTIME_DIR/dpack" 2>/dev/null | grep -v : || true
heading closed
"#;

/// The script's output by heading.
struct Day(Sections);

impl Day {
    fn parse(output: &str) -> Self {
        Self(Sections::parse(output))
    }

    fn saw(&self, heading: &str) -> &str {
        self.0.under(heading)
    }

    /// Everything that has to be true after a day at the shop, on any device.
    fn went_well(&self) {
        for container in ["shop-web-1", "shop-app-1", "shop-db-1"] {
            let started = format!("Container {container}  Started");
            assert!(self.saw("up").contains(&started), "{}", self.saw("up"));
            assert!(self.saw("up-again").contains(&started), "{}", self.saw("up-again"));
            assert!(
                self.saw("again").contains(&format!("Container {container}  Running")),
                "{}",
                self.saw("again")
            );
            assert!(
                self.saw("down").contains(&format!("Container {container}  Removed")),
                "{}",
                self.saw("down")
            );
        }
        assert_eq!(self.saw("visits"), "visit 1\nvisit 2");
        assert_eq!(self.saw("ps").matches("Up ").count(), 3, "{}", self.saw("ps"));
        assert!(self.saw("ps").contains("->8080/tcp"), "{}", self.saw("ps"));
        assert!(self.saw("logs").contains("\"GET / HTTP/1."), "nginx logs each visit: {}", self.saw("logs"));
        assert_eq!(self.saw("exec"), "2");
        let inside: Vec<&str> = self.saw("inside").lines().collect();
        assert_eq!(inside[0].len(), 12, "the container's ID is its host name: {inside:?}");
        assert_eq!(inside[1], "0");
        assert_ne!(inside[2], "0", "it sees itself");
        assert_eq!(inside.len(), 3, "and nobody's home: {inside:?}");
        assert_eq!(self.saw("failure"), "status 9");
        assert!(self.saw("run").ends_with("reached\nstatus 5"), "{}", self.saw("run"));
        assert_eq!(self.saw("ps-down").lines().count(), 1, "only the header: {}", self.saw("ps-down"));
        assert_eq!(self.saw("survived"), "visit 3");
        assert!(self.saw("down-v").contains("Volume shop_visits  Removed"), "{}", self.saw("down-v"));
        assert_eq!(self.saw("left"), "");
        assert_eq!(self.saw("closed"), "");
    }
}

fn on_machine(machine: Vm, platform: &str) -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let target = Target::for_platform(platform).context("no such target")?;
    let executable = Application::shop()?.executable(target);
    let script = format!("app=/in/shop-{} SHOP_PORT=8080\n{A_DAY_AT_THE_SHOP}", target.suffix);
    let _turn = one_machine_at_a_time();
    let output =
        machine.user().file(&executable).time_limit(Duration::from_secs(240)).run(&script)?.success()?;
    Day::parse(&output.stdout).went_well();
    Ok(())
}

fn on_this_machine(device: Device) -> Result<()> {
    let shop = Installed::on(device, &Application::shop()?.executable_for_host()?)?;
    let settings = format!("app={} SHOP_PORT={}\n", shop.executable, free_port()?);
    let output = shop.device.run(&["sh", "-c", &format!("{settings}{A_DAY_AT_THE_SHOP}")])?.success()?;
    Day::parse(&output.stdout).went_well();
    // What it says is this machine's matter.
    shop.run(&["doctor"])?;
    assert_eq!(entries(&shop.data()), ["layers", "projects"]);
    shop.leaves_nothing()
}

#[test]
fn three_services_on_this_machine() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    on_this_machine(Device::host()?)
}

#[test]
fn three_services_on_this_machine_without_subordinate_ids() -> Result<()> {
    if !can_build() || !needs(&[Need::Root]) {
        return Ok(());
    }
    on_this_machine(Device::host_without_subordinate_ids()?)
}

#[test]
fn three_services_on_amd64_with_newuidmap() -> Result<()> {
    on_machine(Vm::amd64().newuidmap(), "linux/amd64")
}

#[test]
fn three_services_on_arm64_with_newuidmap() -> Result<()> {
    on_machine(Vm::arm64().newuidmap(), "linux/arm64")
}

#[test]
fn three_services_on_arm64_where_nothing_is_installed() -> Result<()> {
    on_machine(Vm::arm64(), "linux/arm64")
}

#[test]
fn three_services_on_armv7_where_nothing_is_installed() -> Result<()> {
    on_machine(Vm::armv7(), "linux/arm/v7")
}

/// What a database that refuses to run as root goes through where there is one ID.
const A_DATABASE: &str = r#"
exec 2>&1
cd
psql() { "$app" exec -T -u postgres db /usr/lib/postgresql/15/bin/psql -U postgres -At -c "$1"; }
ready() { tries=0; until psql 'select 1' >/dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 300 ] || { "$app" logs; exit 1; }; sleep 0.2; done; }
"$app" up -d >/dev/null; ready
echo "== seen"; "$app" exec -T db sh -c 'id -un; stat -c %U /data/pg; head -n 1 /data/pg/postmaster.pid'
"$app" exec -T -u postgres db sh -c 'id -u; touch /tmp/mine; stat -c %U /data/pg /data/pg/PG_VERSION /tmp/mine'
echo "== kept"; psql 'create table visits as select 41 as number'
"$app" down -t 20 2>/dev/null; "$app" up -d 2>/dev/null; ready
psql 'select number + 1 from visits'
echo "== down"; "$app" down -v -t 20 2>/dev/null; "$app" ps -aq | wc -l
"#;

/// The database's executable.
fn database(target: &Target) -> Result<tempfile::NamedTempFile> {
    let services = serde_json::json!({"db": {"command": ["postgres"], "network_mode": "none", "volumes": ["kept:/data"]}});
    let executable = Handmade::new("database", services)
        .layer(images::postgres(target)?)
        .config("Entrypoint", serde_json::json!(["postgres-entrypoint.sh"]))
        .executable(target)?;
    std::fs::set_permissions(executable.path(), PermissionsExt::from_mode(0o755))?;
    Ok(executable)
}

fn database_served(output: &str) {
    let day = Sections::parse(output);
    assert_eq!(day.under("seen"), "root\npostgres\n1\n70\npostgres\npostgres\npostgres", "{output}");
    assert_eq!(day.under("kept"), "SELECT 1\n42", "{output}");
    assert_eq!(day.under("down"), "0", "{output}");
}

#[test]
fn postgres_on_this_machine_without_subordinate_ids() -> Result<()> {
    if !can_build() || !needs(&[Need::Root]) {
        return Ok(());
    }
    let target = Target::host().context("no target for this machine")?;
    let installed = Installed::on(Device::host_without_subordinate_ids()?, database(target)?.path())?;
    let script = format!("app={}\n{A_DATABASE}", installed.executable);
    database_served(&installed.device.run(&["sh", "-c", &script])?.stdout);
    installed.leaves_nothing()
}

#[test]
fn postgres_on_amd64_where_nothing_is_installed() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let target = Target::for_platform("linux/amd64").context("no such target")?;
    let executable = database(target)?;
    let name = executable.path().file_name().context("no name")?.to_string_lossy().into_owned();
    let _turn = one_machine_at_a_time();
    let machine = Vm::amd64().user().memory(1024).file(executable.path());
    let output =
        machine.time_limit(Duration::from_secs(240)).run(&format!("app=/in/{name}\n{A_DATABASE}"))?;
    database_served(&output.stdout);
    Ok(())
}

#[test]
fn an_executable_for_another_architecture_is_refused_by_the_kernel() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let shop = Application::shop()?;
    let foreign = dpack_targets::TARGETS.iter().find(|target| Some(*target) != Target::host());
    let device = Device::host()?;
    let executable = device.install(&shop.executable(foreign.context("one target only")?))?;
    let started = device.run(&["sh", "-c", &format!("exec {executable} ps")])?.with_status(126)?;
    assert!(started.stderr.contains("Exec format error"), "{}", started.stderr);
    Ok(())
}
