//! Capabilities, security options, devices, namespaces.

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{CgroupNamespace, Device, Ipc, LABEL_PARTS, Namespace, SecurityOption, Service};
use crate::suggest;
use crate::typed::values;

/// All of capabilities(7), in the kernel's order and without `CAP_`.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Fills in what a service shares and may do.
pub(super) fn read(service: &mut Service, node: &Node, path: &Path<'_>, report: &mut Report) {
    service.cap_add = capabilities(node, "cap_add", path, report);
    service.cap_drop = capabilities(node, "cap_drop", path, report);
    service.security_opt = security_options(node, path, report);
    service.devices = devices(node, path, report);
    service.pid = namespace(node, "pid", path, report);
    service.uts = namespace(node, "uts", path, report);
    if service.pid == Some(Namespace::Host) {
        let at = node.get("pid").map_or(node.at, |value| value.at);
        report.refuse(at, &path.key("pid"), "the container could reach every process of its user");
    }
    if let Some(other) = values::text(node, "userns_mode").filter(|mode| *mode != "host") {
        let at = node.get("userns_mode").map_or(node.at, |value| value.at);
        report.error(at, &path.key("userns_mode"), format!("expected `host`, found `{other}`"));
    }
    service.ipc = ipc(node, path, report);
    service.cgroup = match values::text(node, "cgroup") {
        None => None,
        Some("private") => Some(CgroupNamespace::Private),
        Some("host") => Some(CgroupNamespace::Host),
        Some(other) => {
            let message = format!("expected `private` or `host`, found `{other}`");
            report.error(node.get("cgroup").map_or(node.at, |v| v.at), &path.key("cgroup"), message);
            None
        }
    };
}

fn capabilities(node: &Node, key: &str, path: &Path<'_>, report: &mut Report) -> Vec<String> {
    let path = path.key(key);
    let mut found = Vec::new();
    for (index, item) in node.get(key).and_then(Node::as_list).unwrap_or_default().iter().enumerate() {
        let upper = item.scalar_text().unwrap_or_default().to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" {
            found.push(name.to_owned());
        } else if CAPABILITIES.contains(&name) {
            found.push(format!("CAP_{name}"));
        } else {
            let near = suggest::nearest(name, CAPABILITIES.into_iter());
            let reported =
                report.error(item.at, &path.index(index), format!("there is no capability `{upper}`"));
            if let Some(near) = near {
                reported.hint(format!("did you mean `{near}`?"));
            }
        }
    }
    found
}

fn security_options(node: &Node, path: &Path<'_>, report: &mut Report) -> Vec<SecurityOption> {
    let path = path.key("security_opt");
    let mut options = Vec::new();
    for (index, item) in
        node.get("security_opt").and_then(Node::as_list).unwrap_or_default().iter().enumerate()
    {
        let text = item.as_text().unwrap_or_default();
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (name, value) {
            ("no-new-privileges", "" | "true") => options.push(SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges", "false") => options.push(SecurityOption::NoNewPrivileges(false)),
            ("seccomp", value) if !value.is_empty() => {
                options.push(SecurityOption::Seccomp(value.to_owned()))
            }
            ("apparmor", value) if !value.is_empty() => {
                options.push(SecurityOption::AppArmor(value.to_owned()))
            }
            ("label", value) if is_label(value) => options.push(SecurityOption::Label(value.to_owned())),
            ("label", _) => {
                let parts = LABEL_PARTS.map(|part| format!("{part}:…")).join(", ");
                report
                    .error(item.at, &path.index(index), format!("unknown option of SELinux labels `{text}`"))
                    .hint(format!("there are label=disable and, after `label=`, {parts}"));
            }
            ("systempaths", "unconfined") => options.push(SecurityOption::UnmaskedPaths),
            _ => {
                let message = format!("unknown security option `{text}`");
                report.error(item.at, &path.index(index), message).hint(
                    "there are no-new-privileges, seccomp=…, apparmor=…, label=… and systempaths=unconfined",
                );
            }
        }
    }
    options
}

/// A value has the characters of user_contexts(5); quotes and commas apart would lead out of a mount's options.
fn is_label(option: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:,".contains(c);
    option == "disable"
        || option.split_once(':').is_some_and(|(part, value)| {
            LABEL_PARTS.contains(&part) && !value.is_empty() && value.chars().all(fits)
        })
}

fn devices(node: &Node, path: &Path<'_>, report: &mut Report) -> Vec<Device> {
    let path = path.key("devices");
    let mut devices = Vec::new();
    for (index, item) in node.get("devices").and_then(Node::as_list).unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let source = values::text(item, "source").unwrap_or_default();
        let target = values::text(item, "target").unwrap_or(source);
        let permissions = values::text(item, "permissions").unwrap_or("rwm");
        if !source.starts_with('/') || !target.starts_with('/') {
            // `vendor.com/class=name` names devices of the Container Device Interface.
            let message = format!("`{source}` is not the path of a device; CDI names are not supported");
            report.refuse(item.at, &path, message);
        } else if permissions.is_empty() || permissions.chars().any(|c| !"rwm".contains(c)) {
            report.error(item.at, &path, format!("permissions consist of r, w and m, found `{permissions}`"));
        } else {
            devices.push(Device {
                source: source.to_owned(),
                target: target.to_owned(),
                permissions: permissions.to_owned(),
            });
        }
    }
    devices
}

fn namespace(node: &Node, key: &str, path: &Path<'_>, report: &mut Report) -> Option<Namespace> {
    let text = values::text(node, key)?;
    let shared = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
    if text == "host" {
        Some(Namespace::Host)
    } else if let Some(name) = shared("service:") {
        Some(Namespace::Service(name))
    } else if let Some(name) = shared("container:") {
        Some(Namespace::Container(name))
    } else {
        if text != "private" {
            let message = format!("expected `host`, `service:NAME` or `container:NAME`, found `{text}`");
            report.error(node.get(key).map_or(node.at, |v| v.at), &path.key(key), message);
        }
        None
    }
}

fn ipc(node: &Node, path: &Path<'_>, report: &mut Report) -> Option<Ipc> {
    match values::text(node, "ipc")? {
        "none" => Some(Ipc::None),
        "private" => Some(Ipc::Private),
        "shareable" => Some(Ipc::Shareable),
        _ => namespace(node, "ipc", path, report).map(|namespace| match namespace {
            Namespace::Host => Ipc::Host,
            Namespace::Service(name) => Ipc::Service(name),
            Namespace::Container(name) => Ipc::Container(name),
        }),
    }
}
