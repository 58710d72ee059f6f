//! `doctor`: what this device has of what this application needs, found out by trying.
//!
//! The exit status says whether the application will run: 0, also with warnings; otherwise that of the environment's
//! failures. Overlayfs is really mounted in a user namespace, in the data folder, by the role `dpack-doctor`.

mod network;

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, RawFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_compose::project::{Port, Project, Protocol};
use dpack_sandbox::idmap::IdMap;
use dpack_sandbox::role::{Spawn, take_fd};
use dpack_store::driver::{self, Refusal};
use serde::{Deserialize, Serialize};

use super::super::SUCCESS;
use super::super::args::{Doctor, Global};
use super::super::output::{self, Table, bytes};
use super::super::settings::Settings;
use crate::container::Container;
use crate::failure::Failure;
use crate::json;
use crate::supervisor::sandbox_failure;

/// `argv[0]` of the role that tries things inside a user namespace.
pub(crate) const ROLE: &str = "dpack-doctor";
/// Where the role says what it found.
const REPORT: RawFd = 3;
/// Oldest kernel for whose missing calls there is another way.
const KERNEL: (u32, u32) = (4, 19);
/// Room that is asked for beside the layers: logs, what containers write.
const SPARE: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It is there.
    Ok,
    /// It runs without.
    Warning,
    /// It does not run.
    Missing,
}

/// One line of the report.
#[derive(Debug, Serialize, Deserialize)]
struct Check {
    name: String,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, detail: detail.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn failed(name: &str, failure: Failure) -> Self {
        Self { hint: failure.hint, ..Self::new(name, Verdict::Missing, failure.message) }
    }
}

/// `doctor`
pub(crate) fn run(global: &Global, arguments: Doctor) -> Result<u8> {
    let settings = Settings::resolve(global)?;
    let project = settings.resolved()?.project;
    let mut checks = vec![platform(&settings), kernel()];
    let map = IdMap::detect();
    checks.push(id_map(&map));
    checks.extend(in_user_namespace(&settings, &map));
    checks.push(space(&settings, &map));
    checks.extend(ports(&settings, &project));
    checks.push(cgroup());
    if arguments.network {
        checks.extend(network::checks(&settings, &map));
    }
    let runs = checks.iter().all(|check| check.verdict != Verdict::Missing);
    if arguments.format.json() {
        output::print_json(&serde_json::json!({ "runs": runs, "checks": checks }))?;
    } else {
        output::print(&text(&checks));
    }
    match runs {
        true => Ok(SUCCESS),
        false => Err(Failure::environment("this device cannot run the application as it is").into()),
    }
}

fn text(checks: &[Check]) -> String {
    let mut table = Table::new(&["CHECK", "RESULT", "DETAIL"]);
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Missing => "MISSING",
        };
        table.row([check.name.clone(), verdict.to_owned(), check.detail.clone()]);
        for line in check.hint.iter().flat_map(|hint| hint.lines()) {
            table.row([String::new(), String::new(), format!("hint: {line}")]);
        }
    }
    table.to_string()
}

fn platform(settings: &Settings) -> Check {
    match settings.executable.check_platform() {
        Ok(()) => Check::new("platform", Verdict::Ok, crate::payload::host_platform().to_string()),
        Err(failure) => Check::failed("platform", failure),
    }
}

fn kernel() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version(release) {
        Some(version) if version >= KERNEL => Check::new("kernel", Verdict::Ok, release),
        Some(_) => Check::new(
            "kernel",
            Verdict::Missing,
            format!("{release} is older than {}.{}", KERNEL.0, KERNEL.1),
        )
        .hint("update the kernel"),
        None => Check::new("kernel", Verdict::Warning, format!("`{release}` is no version that we know")),
    }
}

/// The first two numbers of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn id_map(map: &IdMap) -> Check {
    match map {
        IdMap::Full(full) => {
            let ids: u64 = full.uids.iter().map(|range| u64::from(range.count)).sum();
            Check::new("user IDs", Verdict::Ok, format!("{ids} in containers"))
        }
        IdMap::Single { reason } => {
            let effect = match dpack_sandbox::ids::are_shown() {
                true => "users and owners are shown, not kept apart",
                false => {
                    "changing user or owner has no effect (showing them needs Linux 5.5 with \
                     CONFIG_SECCOMP_FILTER): images whose entry point starts itself again do not run"
                }
            };
            let detail = format!("one in containers, {effect}: {reason}");
            Check::new("user IDs", Verdict::Warning, detail)
                .hint("as root: install newuidmap and `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`")
        }
    }
}

/// User namespaces and what is tried in one.
fn in_user_namespace(settings: &Settings, map: &IdMap) -> Vec<Check> {
    let name = "user namespaces";
    match try_in_user_namespace(settings, map) {
        Ok(overlay) => vec![Check::new(name, Verdict::Ok, "can be made"), overlay],
        Err(error) => vec![Check::failed(name, Failure::of(&error))],
    }
}

fn try_in_user_namespace(settings: &Settings, map: &IdMap) -> Result<Check> {
    let folder = settings.paths.data.join(format!("doctor.{}", std::process::id()));
    settings.paths.make_data(&folder)?;
    let tried = trial(settings, map, &folder);
    let _ = fs::remove_dir_all(&folder);
    tried
}

/// What the role found when it tried the thing that is its argument: a folder, or [`network::TRIAL`].
fn trial(settings: &Settings, map: &IdMap, what: impl AsRef<OsStr>) -> Result<Check> {
    let (report, theirs) = std::io::pipe()?;
    let child = Spawn::new(ROLE)
        .arg(what.as_ref())
        .fd(REPORT, theirs.as_fd())
        .program_length(settings.executable.program_length())
        .new_user_namespace(map)
        .spawn()
        .map_err(sandbox_failure)?;
    drop(theirs);
    let check = json::read(report).context("the process in the user namespace ended early")?;
    child.wait().map_err(sandbox_failure)?;
    Ok(check)
}

/// Role entry: tries overlayfs in the folder that is its argument, or a network.
pub(crate) fn main() -> Result<()> {
    let what = PathBuf::from(std::env::args_os().nth(1).context("`doctor` was started without a folder")?);
    let report = fs::File::from(take_fd(REPORT).context("`doctor` was started without a pipe")?);
    let check = if what == Path::new(network::TRIAL) { network::trial() } else { overlay_check(&what) };
    serde_json::to_writer(report, &check).context("failed to report")
}

fn overlay_check(folder: &Path) -> Check {
    match driver::try_overlay(&folder.join("overlay")) {
        Ok(()) => {
            let place = folder.parent().unwrap_or(folder).display();
            Check::new("overlayfs", Verdict::Ok, format!("works in `{place}`"))
        }
        Err(Refusal::Overlay(reason)) => {
            let detail = format!("each container gets a copy of its image: {reason}");
            Check::new("overlayfs", Verdict::Warning, detail).hint(
                "it needs Linux 5.11 and a data folder on a local file system such as ext4, xfs or btrfs: --data-dir DIR",
            )
        }
        Err(Refusal::Disk(error)) => Check::failed("overlayfs", Failure::of(&error.into())),
    }
}

/// Room for layers that are not extracted yet.
fn space(settings: &Settings, map: &IdMap) -> Check {
    let executable = &settings.executable;
    let extracted = settings.paths.data.join("layers").join(map.kind());
    let missing = executable.layers().into_iter().filter(|layer| !extracted.join(layer.hex()).is_dir());
    let index = executable.payload().index();
    let needed: u64 =
        missing.filter_map(|layer| index.layer(&layer)).map(|layer| layer.tar_length).sum::<u64>() + SPARE;
    let folder = settings.paths.data.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let Ok(stat) = rustix::fs::statvfs(folder) else {
        return Check::new("disk space", Verdict::Warning, format!("`{}` does not tell", folder.display()));
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let detail = format!("{} free in `{}`, {} needed", bytes(free), folder.display(), bytes(needed));
    match free >= needed {
        true => Check::new("disk space", Verdict::Ok, detail),
        false => Check::new("disk space", Verdict::Missing, detail)
            .hint("make room, or choose another place: --data-dir DIR"),
    }
}

/// Published ports: allowed for this user, and free unless it is the project itself that has them.
fn ports(settings: &Settings, project: &Project) -> Vec<Check> {
    let first: u16 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    let running = Container::list(&settings.project).unwrap_or_default();
    let ours = |port: u16| {
        let published = running.iter().filter(|c| c.state.is_running()).flat_map(|c| &c.supervision.ports);
        published.into_iter().any(|have| have.published == Some(port))
    };
    let wanted = project
        .services
        .iter()
        .flat_map(|(name, service)| service.ports.iter().map(move |port| (name, port)));
    let fixed = wanted.filter_map(|(name, port)| Some((name, port, port.numbers()?)));
    fixed
        .map(|(service, port, numbers)| {
            let check = |number| check_port(service, port, number, first, ours(number), settings.uid);
            // Of a range, one port is enough.
            let last = check(*numbers.end());
            numbers.map(check).find(|check| check.verdict == Verdict::Ok).unwrap_or(last)
        })
        .collect()
}

fn check_port(service: &str, port: &Port, number: u16, first: u16, ours: bool, uid: u32) -> Check {
    let name = format!("port {number}");
    if number < first && uid != 0 {
        return Check::new(
            &name,
            Verdict::Missing,
            format!("`{service}` publishes it, and ports below {first} need a privilege"),
        )
        .hint(format!("sudo sysctl net.ipv4.ip_unprivileged_port_start={number}"));
    }
    let address = SocketAddr::new(port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), number);
    if ours || port.protocol == Protocol::Udp {
        return Check::new(&name, Verdict::Ok, format!("published by `{service}`"));
    }
    match TcpListener::bind(address) {
        Ok(_) => Check::new(&name, Verdict::Ok, format!("free for `{service}`")),
        Err(error) => Check::new(
            &name,
            Verdict::Missing,
            format!("`{service}` publishes it on {}: {error}", address.ip()),
        )
        .hint("stop what has it, or publish another port"),
    }
}

fn cgroup() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    let detail = match (has("cgroup2"), has("cgroup")) {
        (true, false) => "version 2",
        (true, true) => "versions 1 and 2",
        (false, true) => "version 1",
        (false, false) => "none",
    };
    Check::new("cgroups", Verdict::Ok, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_as_numbers() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.10.0", Some((5, 10))),
            ("5.9-rc1", Some((5, 9))),
            ("linux", None),
            ("", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!((4, 18) < KERNEL && (4, 19) >= KERNEL);
    }

    #[test]
    fn low_ports_need_a_privilege_and_taken_ones_are_told() {
        let port = |published| Port {
            target: 80,
            published: Some(published),
            published_last: None,
            host_ip: Some("127.0.0.1".parse().unwrap()),
            protocol: Protocol::Tcp,
        };
        assert_eq!(check_port("web", &port(80), 80, 1024, false, 1000).verdict, Verdict::Missing);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert_eq!(check_port("web", &port(taken), taken, 1024, false, 1000).verdict, Verdict::Missing);
        assert_eq!(check_port("web", &port(taken), taken, 1024, true, 1000).verdict, Verdict::Ok);
    }
}
