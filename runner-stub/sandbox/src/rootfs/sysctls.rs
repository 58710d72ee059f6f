//! Kernel parameters (`linux.sysctl`): only those of namespaces that are the container's own. Root without a user namespace
//! could set all others, and would set them for the whole machine.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ResolveFlags};

use crate::Error;
use crate::compat::in_root;
use crate::spec::{NamespaceKind, Spec};

/// Parameters of an IPC namespace (ipc_namespaces(7)), besides `fs.mqueue`.
const IPC: [&str; 9] = [
    "auto_msgmni",
    "msg_next_id",
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shm_rmid_forced",
    "shmall",
    "shmmax",
];

/// The namespace that a parameter belongs to, and its name in `/proc/PID/ns`.
fn namespace(name: &str) -> Option<(NamespaceKind, &'static str)> {
    // `net/ipv4/ip_forward` is another way to write it; dots within a component are then slashes.
    let name = name.replace('/', ".");
    let in_kernel = name.strip_prefix("kernel.");
    if name.starts_with("net.") {
        Some((NamespaceKind::Network, "net"))
    } else if name.starts_with("fs.mqueue.")
        || in_kernel.is_some_and(|name| IPC.contains(&name) || name == "shmmni" || name == "sem_next_id")
    {
        Some((NamespaceKind::Ipc, "ipc"))
    } else if in_kernel == Some("domainname") {
        Some((NamespaceKind::Uts, "uts"))
    } else {
        None
    }
}

/// Refuses what would change more than the container. The caller is in the namespaces that the container must not change.
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    for name in spec.linux.sysctl.keys() {
        let refused = |reason: &str| {
            Err(Error::Invalid { property: format!("linux.sysctl.{name}"), reason: reason.to_owned() })
        };
        let Some((kind, file)) = namespace(name) else {
            return refused("it is not a parameter of one container but of the whole machine");
        };
        match spec.namespace(kind).map(|namespace| &namespace.path) {
            Some(None) => {}
            Some(Some(path)) if !is_ours(path, file) => {}
            _ => return refused("the container has no such namespace of its own"),
        }
    }
    Ok(())
}

fn is_ours(path: &Path, file: &str) -> bool {
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok()
    };
    // What cannot be seen cannot be joined either: that is an error of its own.
    identity(path) == identity(&PathBuf::from("/proc/self/ns").join(file))
}

/// Sets them through the container's `/proc`, which is checked to be one (CVE-2019-16884).
pub(super) fn set(root: &OwnedFd, spec: &Spec) -> Result<(), Error> {
    for (name, value) in &spec.linux.sysctl {
        let failed = |source: rustix::io::Errno| Error::Sysctl { name: name.clone(), source: source.into() };
        if name.replace('/', ".") == "kernel.domainname" {
            // The file belongs to the machine's root, whoever owns the namespace.
            rustix::system::setdomainname(value.as_bytes()).map_err(failed)?;
            continue;
        }
        let path = format!("proc/sys/{}", name.replace('.', "/"));
        let file = in_root::open(root, path, OFlags::WRONLY, ResolveFlags::NO_SYMLINKS).map_err(failed)?;
        if rustix::fs::fstatfs(&file).map_err(failed)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(failed(rustix::io::Errno::NOTSUP));
        }
        rustix::io::write(&file, value.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, namespaces: &str) -> Result<(), Error> {
        let text = format!(
            r#"{{"process":{{"cwd":"/"}},"root":{{"path":"rootfs"}},
                "linux":{{"sysctl":{{"{name}":"1"}},"namespaces":[{namespaces}]}}}}"#
        );
        check(&serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_parameter_of_the_machine_is_refused_and_so_is_one_of_the_hosts_namespaces() {
        let net = r#"{"type":"network"}"#;
        checked("net.ipv4.ip_forward", net).unwrap();
        checked("net/ipv4/ip_forward", net).unwrap();
        checked("kernel.shmmax", r#"{"type":"ipc"}"#).unwrap();
        checked("fs.mqueue.msg_max", r#"{"type":"ipc"}"#).unwrap();
        checked("kernel.domainname", r#"{"type":"uts"}"#).unwrap();
        let host = r#"{"type":"network","path":"/proc/self/ns/net"}"#;
        for (name, namespaces) in [
            ("net.ipv4.ip_forward", ""),
            ("net.ipv4.ip_forward", host),
            ("kernel.shmmax", net),
            ("kernel.core_pattern", net),
            ("kernel/core_pattern", net),
            ("net.../kernel/core_pattern", ""),
            ("kernel.hostname", r#"{"type":"uts"}"#),
            ("vm.overcommit_memory", net),
            ("fs.file-max", r#"{"type":"ipc"}"#),
        ] {
            let error = checked(name, namespaces).unwrap_err();
            assert!(error.to_string().contains(&format!("linux.sysctl.{name}")), "{error}");
        }
    }
}
