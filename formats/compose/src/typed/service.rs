//! One service.

use crate::diagnostic::{Path, Position, Report};
use crate::node::{Node, Value};
use crate::project::{Restart, Service};
use crate::short::{port, time};
use crate::typed::{mounts, network, ports, values};

/// Signals a container can be stopped with, without `SIG`.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Longest host name the kernel takes.
const MAX_HOSTNAME: usize = 64;

/// Reads a service; `key_at` is where its name stands.
pub(super) fn read(node: &Node, key_at: Position, path: &Path<'_>, report: &mut Report) -> Service {
    let mut service = Service {
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
        None => {
            report.error(key_at, path, "no `image` is given");
        }
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
    let _ = check("stop_grace_period", |text| time::parse(text).map(|_| ()));
    let _ = check("restart", |text| restart(text).map(|_| ()));
    service.stop_grace_period_ms = values::text(node, "stop_grace_period")
        .and_then(|text| time::parse(text).ok())
        .map(|nanoseconds| nanoseconds.div_ceil(1_000_000));
    service.restart = values::text(node, "restart").and_then(|text| restart(text).ok()).unwrap_or_default();
    expose(node, path, report);
    service
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

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "no" => Ok(Restart::No),
        "always" => Ok(Restart::Always),
        "unless-stopped" => Ok(Restart::UnlessStopped),
        "on-failure" => Ok(Restart::OnFailure(None)),
        _ => text
            .strip_prefix("on-failure:")
            .and_then(|count| count.parse().ok())
            // Docker takes 0 for no limit.
            .map(|count: u32| Restart::OnFailure(Some(count).filter(|count| *count > 0)))
            .ok_or_else(|| {
                format!("expected `no`, `always`, `on-failure[:N]` or `unless-stopped`, found `{text}`")
            }),
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
