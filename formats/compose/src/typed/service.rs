//! One service.

use crate::diagnostic::{Path, Position, Report};
use crate::node::{Node, Value};
use crate::project::Service;
use crate::short::port;
use crate::typed::{files, isolation, lifecycle, logging, mounts, network, ports, resources, values};

/// Signals a container can be stopped with, without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Containers of one service.
const MAX_REPLICAS: u32 = 1000;
/// Longest host name the kernel takes.
const MAX_HOSTNAME: usize = 64;

/// Reads a service; `key_at` is where its name stands.
pub(super) fn read(node: &Node, key_at: Position, path: &Path<'_>, report: &mut Report) -> Service {
    let mut service = Service {
        #[cfg(feature = "yaml")]
        build: super::build::read(node, path, report),
        command: node.get("command").and_then(values::texts),
        entrypoint: node.get("entrypoint").and_then(values::texts),
        environment: values::pairs(node, "environment"),
        labels: values::pairs(node, "labels"),
        init: values::flag(node, "init"),
        read_only: values::flag(node, "read_only"),
        network: network::mode(node, path, report),
        depends_on: network::depends_on(node, path, report),
        ports: ports::read(node, path, report),
        volumes: mounts::read(node, path, report),
        stop_grace_period_ms: lifecycle::milliseconds(node, "stop_grace_period"),
        profiles: values::list(node, "profiles"),
        annotations: values::pairs(node, "annotations"),
        attach: node.get("attach").map(|_| values::flag(node, "attach")),
        healthcheck: lifecycle::healthcheck(node, path, report),
        update: lifecycle::update(node, path, report),
        pre_start: lifecycle::hooks(node, "pre_start", path, report),
        post_start: lifecycle::hooks(node, "post_start", path, report),
        pre_stop: lifecycle::hooks(node, "pre_stop", path, report),
        logging: logging::read(node, path, report),
        stdin_open: values::flag(node, "stdin_open"),
        tty: values::flag(node, "tty"),
        configs: files::mounts(node, "configs", "", path, report),
        secrets: files::mounts(node, "secrets", "/run/secrets", path, report),
        shm_size: values::number(node, "shm_size").filter(|size| *size > 0),
        group_add: values::list(node, "group_add"),
        privileged: values::flag(node, "privileged"),
        device_cgroup_rules: values::list(node, "device_cgroup_rules"),
        sysctls: values::pairs(node, "sysctls"),
        ulimits: resources::ulimits(node, path, report),
        resources: resources::read(node, path, report),
        ..Service::default()
    };
    for (key, entry) in super::entries(node.get("environment")) {
        if key.is_empty() || key.contains(['=', '\0']) {
            let message = format!("{key:?} cannot be the name of a variable");
            report.error(entry.key_at, &path.key("environment"), message);
        } else if entry.node.is_null() {
            service.unset_environment.insert(key.clone());
        }
    }
    match values::text(node, "image") {
        Some(image) if image.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            let at = node.get("image").map_or(key_at, |image| image.at);
            report.error(at, &path.key("image"), format!("{image:?} is not an image reference"));
        }
        Some(image) => image.clone_into(&mut service.image),
        None => {}
    }
    let mut check = |key: &str, valid: fn(&str) -> Result<(), String>| -> Option<String> {
        let text = values::text(node, key)?;
        if let Err(message) = valid(text) {
            let at = node.get(key).map_or(key_at, |value| value.at);
            report.error(at, &path.key(key), message);
            return None;
        }
        Some(text.to_owned())
    };
    service.container_name = check("container_name", container_name);
    service.hostname = check("hostname", hostname);
    service.stop_signal = check("stop_signal", signal);
    service.user = check("user", user);
    service.working_dir = check("working_dir", working_dir);
    service.domainname = check("domainname", hostname);
    service.mac_address = check("mac_address", network::mac_address);
    (service.restart, service.restart_delay_ms) = lifecycle::restart(node, path, report);
    service.replicas = replicas(node, path, report);
    isolation::read(&mut service, node, path, report);
    network::names(&mut service, node, path, report);
    service.volumes_from = mounts::volumes_from(node, path, report);
    expose(node, path, report);
    service
}

/// `scale` and `deploy.replicas`; a service with neither has one container.
fn replicas(node: &Node, path: &Path<'_>, report: &mut Report) -> Option<u32> {
    let deploy = node.get("deploy");
    let one = values::number(node, "scale");
    let other = deploy.and_then(|deploy| values::number(deploy, "replicas"));
    let at = node.get("scale").or(deploy).map_or(node.at, |value| value.at);
    if one.is_some() && other.is_some() && one != other {
        report.error(at, &path.key("scale"), "`deploy.replicas` has another value");
    }
    match deploy.and_then(|deploy| values::text(deploy, "mode")) {
        None | Some("replicated") => {}
        Some(mode @ ("global" | "replicated-job" | "global-job")) => {
            let message = format!("the mode `{mode}` is Swarm's");
            report.refuse(at, &path.key("deploy").key("mode"), message);
        }
        Some(mode) => {
            report.error(at, &path.key("deploy").key("mode"), format!("there is no mode `{mode}`"));
        }
    }
    let replicas = one.or(other)?;
    let count = u32::try_from(replicas).ok().filter(|count| *count <= MAX_REPLICAS);
    if count.is_none() {
        report.error(at, &path.key("scale"), format!("more than {MAX_REPLICAS} containers"));
    }
    if replicas > 1
        && let Some(name) = node.get("container_name")
    {
        let message = "several containers cannot have one name";
        report.error(name.at, &path.key("container_name"), message);
    }
    count
}

/// `expose` only informs; it is checked all the same.
fn expose(node: &Node, path: &Path<'_>, report: &mut Report) {
    let Some(Value::List(items)) = node.get("expose").map(|node| &node.value) else { return };
    let path = path.key("expose");
    for (index, item) in items.iter().enumerate() {
        let text = item.as_text().unwrap_or_default();
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let checked = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "udp" => port::range(ports).map(|_| ()),
            _ => Err(format!("protocol `{protocol}` is not supported, expected `tcp` or `udp`")),
        };
        if let Err(message) = checked {
            report.error(item.at, &path.index(index), message);
        }
    }
}

fn container_name(text: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && text.len() > 1 {
        return Ok(());
    }
    Err(format!("`{text}` is not a container name, expected letters, digits, `_`, `.` and `-`"))
}

fn hostname(text: &str) -> Result<(), String> {
    let valid = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if text.len() > MAX_HOSTNAME {
        return Err(format!("host names have at most {MAX_HOSTNAME} characters"));
    }
    if valid { Ok(()) } else { Err(format!("`{text}` is not a host name")) }
}

fn signal(text: &str) -> Result<(), String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    let known = SIGNALS.contains(&name)
        || text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
        || real_time.is_some_and(|rest| rest.is_empty() || rest[1..].parse::<u8>().is_ok_and(|n| n <= 30));
    if known { Ok(()) } else { Err(format!("`{text}` is not a signal")) }
}

fn user(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let valid = parts.len() <= 2 && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if valid && parts.first().is_some_and(|user| !user.is_empty()) {
        return Ok(());
    }
    Err(format!("`{text}` is not `USER` or `USER:GROUP`"))
}

fn working_dir(text: &str) -> Result<(), String> {
    if text.starts_with('/') { Ok(()) } else { Err(format!("`{text}` is not an absolute path")) }
}
