//! `doctor`: what this device has of what this application needs, found out by trying.
//!
//! The exit status says whether the application will run: 0, also with warnings; otherwise that of the environment's
//! failures. Overlayfs, control groups and networks are really made, in a user namespace, by the role `dpack-doctor`.

mod network;
mod trial;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Result;
use dpack_bundle::label;
use dpack_compose::project::{Port, Project, Protocol, SecurityOption};
use dpack_sandbox::idmap::{self, IdMap};
use dpack_store::Driver;
use rustix::fs::{Access, AtFlags, CWD};
use serde::{Deserialize, Serialize};

use super::super::SUCCESS;
use super::super::args::{Doctor, Global};
use super::super::output::{self, Table, bytes};
use super::super::settings::Settings;
use crate::container::Container;
use crate::failure::Failure;
use crate::supervisor::{self, Labelling};

pub(crate) use trial::{ROLE, main};

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
    /// First Linux that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn new(name: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, detail: detail.into(), since: None, hint: None }
    }

    fn since(mut self, version: &str) -> Self {
        self.since = Some(version.to_owned());
        self
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
    checks.extend(trial::checks(&settings, &map, &project, arguments.network));
    checks.extend([selinux(&project), apparmor(&project)]);
    checks.push(space(&settings, &map));
    checks.extend(ports(&settings, &project));
    checks.extend(devices(&project));
    if arguments.network {
        checks.extend(network::checks(&settings));
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
    let mut table = Table::new(&["CHECK", "RESULT", "SINCE", "DETAIL"]);
    for check in checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Missing => "MISSING",
        };
        let since = check.since.clone().unwrap_or_default();
        table.row([check.name.clone(), verdict.to_owned(), since, check.detail.clone()]);
        for line in check.hint.iter().flat_map(|hint| hint.lines()) {
            table.row([String::new(), String::new(), String::new(), format!("hint: {line}")]);
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
            Check::new("user IDs", Verdict::Warning, detail).hint(idmap::remedy().join("\n"))
        }
    }
}

/// Labels that the device's SELinux has for containers.
fn selinux(project: &Project) -> Check {
    let mode = if dpack_sandbox::selinux::is_enforcing() { "enforcing" } else { "permissive" };
    let labelling = supervisor::look_at_labels(Driver::Overlay);
    let check = match &labelling {
        Labelling::Absent => Check::new("SELinux", Verdict::Ok, "off: containers have no labels"),
        Labelling::Possible(labels) => {
            let detail = format!("{mode}: containers are `{}`, each at a level of its own", labels.process);
            Check::new("SELinux", Verdict::Ok, detail)
        }
        Labelling::Impossible(reason) => {
            let detail = format!("{mode}: containers are what this program is: {reason}");
            let check = Check::new("SELinux", Verdict::Warning, detail);
            match supervisor::labels_warning(&labelling) {
                Some((_, hint)) => check.hint(hint),
                None => check,
            }
        }
    };
    let asks = project.services.iter().find(|(_, service)| label::is_asked_for(service));
    match (labelling, asks) {
        (Labelling::Possible(_), _) | (_, None) => check,
        (_, Some((service, _))) => Check {
            verdict: Verdict::Missing,
            detail: format!("{}; `{service}` asks for a label", check.detail),
            ..check
        },
    }
}

/// A profile that a service names has to be loaded, which only root can see.
fn apparmor(project: &Project) -> Check {
    let named = project.services.iter().find_map(|(service, definition)| {
        let profile = definition.security_opt.iter().find_map(|option| match option {
            SecurityOption::AppArmor(profile) if profile != "unconfined" => Some(profile),
            _ => None,
        })?;
        Some((service, profile))
    });
    match (dpack_sandbox::features::has_apparmor(), named) {
        (true, None) => Check::new(
            "AppArmor",
            Verdict::Ok,
            "on: containers are what this program is, unless a profile is named",
        ),
        (true, Some((service, profile))) => Check::new(
            "AppArmor",
            Verdict::Ok,
            format!("on: `{service}` has the profile `{profile}`, which root has to have loaded"),
        ),
        (false, None) => Check::new("AppArmor", Verdict::Ok, "off: containers have no profiles"),
        (false, Some((service, profile))) => Check::new(
            "AppArmor",
            Verdict::Missing,
            format!("off, and `{service}` names the profile `{profile}`"),
        )
        .hint("leave `apparmor=` out of its `security_opt`, or boot with `security=apparmor apparmor=1`"),
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

/// Device nodes that services ask for: there, and open to this user.
fn devices(project: &Project) -> Vec<Check> {
    let services = project.services.iter();
    let wanted =
        services.flat_map(|(name, service)| service.devices.iter().map(move |device| (name, device)));
    wanted
        .map(|(service, device)| {
            let (path, name) = (Path::new(&device.source), format!("device {}", device.source));
            // udev knows a node by its own name, not by that of a link to it.
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let node = real.file_name().unwrap_or_default().to_string_lossy();
            if !path.exists() {
                return Check::new(&name, Verdict::Missing, format!("`{service}` asks for it, and it is not there"))
                    .hint(format!("plug it in, or load its driver: sudo modprobe {node}"));
            }
            let mut access = Access::empty();
            access.set(Access::READ_OK, device.permissions.contains('r'));
            access.set(Access::WRITE_OK, device.permissions.contains('w'));
            match rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS) {
                Ok(()) => Check::new(&name, Verdict::Ok, format!("open to `{service}`")),
                Err(error) => Check::new(&name, Verdict::Warning, format!("`{service}` cannot open it: {error}"))
                    .hint(format!(
                        "echo 'KERNEL==\"{node}\", MODE=\"0666\"' | sudo tee /etc/udev/rules.d/70-dpack-{node}.rules && \
                         sudo udevadm control --reload && sudo udevadm trigger {path}",
                        path = real.display()
                    )),
            }
        })
        .collect()
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
