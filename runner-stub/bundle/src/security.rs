//! How a container is confined: what Docker Engine allows and hides by default (moby: `oci/caps/defaults.go`,
//! `oci/defaults.go`), and what a service changes about it.
//!
//! What an ordinary user cannot enforce is refused here, with the reason.

use std::collections::BTreeMap;

use dpack_compose::project::{Device, Ipc, NetworkMode, SecurityOption, Service, Ulimit};

use crate::label::{self, Labels};
use crate::process::clean;
use crate::seccomp::{Machine, Profile};
use crate::spec::{Mount, Rlimit, Seccomp};

/// Capabilities of a container.
pub(crate) const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Paths that tell too much about the device.
pub(crate) const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that change the device when written.
pub(crate) const READONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Any user of the container may listen on ports below 1024, as with Docker since 20.10.
pub(crate) const UNPRIVILEGED_PORTS: (&str, &str) = ("net.ipv4.ip_unprivileged_port_start", "0");

pub(crate) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// All capabilities by name, those of `--privileged`.
pub fn all_capabilities() -> Vec<String> {
    dpack_compose::CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect()
}

/// Kernel parameters that belong to the IPC namespace (moby: `opts.ValidateSysctl`). Those of the network namespace begin
/// with `net.`, those of message queues with `fs.mqueue.`.
const IPC_PARAMETERS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Why a service cannot be confined as it asks for.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// `cap_add`, `cap_drop`
    #[error("there is no capability `{0}`")]
    Capability(String),
    /// `ulimits`
    #[error("there is no resource limit `{name}`\nhint: there are {}", dpack_compose::ULIMITS.join(", "))]
    Limit {
        /// Its name.
        name: String,
    },
    /// `ulimits`
    #[error("the resource limit `{name}` has a soft value above its hard one")]
    Order {
        /// Its name.
        name: String,
    },
    /// `sysctls`
    #[error("the kernel parameter `{name}` cannot be set: {reason}")]
    Sysctl {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// `security_opt: seccomp=FILE`
    #[error("the seccomp profile is not one in Docker's form")]
    Profile(#[source] serde_json::Error),
    /// `security_opt: seccomp=FILE`
    #[error(
        "the seccomp profile `{0}` did not travel with the executable\nhint: name a file in the project's folder"
    )]
    ProfileNotHere(String),
    /// `security_opt: label=…`
    #[error(
        "SELinux labels cannot be given to containers on this device\n\
         hint: `doctor` says why; without, as with `label=disable`, the container runs"
    )]
    Label,
    /// `devices`
    #[error(
        "the device `{0}` cannot be opened to `{1}` alone: that takes the device control group, which needs root\n\
         hint: leave the permissions out"
    )]
    DevicePermissions(String, String),
}

/// How a container is confined.
#[derive(Debug)]
pub(crate) struct Security {
    /// What root has; the bounding set of everybody.
    pub(crate) capabilities: Vec<String>,
    pub(crate) seccomp: Option<Seccomp>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) labels: Option<Labels>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) sysctl: BTreeMap<String, String>,
    pub(crate) rlimits: Vec<Rlimit>,
    /// Bind mounts of device nodes: an ordinary user can make none.
    pub(crate) devices: Vec<Mount>,
}

/// Decides it.
pub(crate) fn of(
    service: &Service,
    machine: Machine,
    labels: Option<&Labels>,
) -> Result<Security, SecurityError> {
    let capabilities = capabilities(service)?;
    if labels.is_none() && label::is_asked_for(service) {
        return Err(SecurityError::Label);
    }
    let mut security = Security {
        seccomp: None,
        no_new_privileges: false,
        apparmor_profile: None,
        labels: labels.and_then(|labels| labels.of_service(service)),
        masked_paths: owned(MASKED_PATHS),
        readonly_paths: owned(READONLY_PATHS),
        sysctl: sysctl(service)?,
        rlimits: rlimits(service)?,
        devices: service.devices.iter().map(device).collect::<Result<_, _>>()?,
        capabilities,
    };
    // Docker: a privileged container has no profile unless one is named.
    let mut profile = (!service.privileged).then(Profile::docker);
    let mut unmasked = service.privileged;
    for option in &service.security_opt {
        match option {
            SecurityOption::NoNewPrivileges(wanted) => security.no_new_privileges = *wanted,
            SecurityOption::Seccomp(value) => profile = named_profile(value)?,
            SecurityOption::AppArmor(name) => {
                security.apparmor_profile = (name != "unconfined").then(|| name.clone());
            }
            // All of them at once, above.
            SecurityOption::Label(_) => {}
            SecurityOption::UnmaskedPaths => unmasked = true,
        }
    }
    if unmasked {
        security.masked_paths.clear();
        security.readonly_paths.clear();
    }
    security.seccomp = profile.map(|profile| profile.resolve(&security.capabilities, machine));
    Ok(security)
}

/// What is written after `seccomp=`: a word, or what the builder has put in a file's place.
fn named_profile(value: &str) -> Result<Option<Profile>, SecurityError> {
    match value {
        "unconfined" => Ok(None),
        "builtin" => Ok(Some(Profile::docker())),
        text if text.trim_start().starts_with('{') => {
            Profile::parse(text).map(Some).map_err(SecurityError::Profile)
        }
        path => Err(SecurityError::ProfileNotHere(path.to_owned())),
    }
}

/// moby: `oci/caps/utils.go`, `TweakCapabilities`.
fn capabilities(service: &Service) -> Result<Vec<String>, SecurityError> {
    let (add, drop) = (&service.cap_add, &service.cap_drop);
    let every = all_capabilities();
    let known = |name: &String| name == "ALL" || every.contains(name);
    if let Some(unknown) = add.iter().chain(drop).find(|name| !known(name)) {
        return Err(SecurityError::Capability(unknown.clone()));
    }
    let all = |names: &[String]| names.iter().any(|name| name == "ALL");
    let named = |names: &[String], name: &str| names.iter().any(|other| other == name);
    if service.privileged {
        return Ok(every);
    }
    let has = |name: &str| match (all(add), all(drop)) {
        (true, _) => !named(drop, name),
        (false, true) => named(add, name),
        (false, false) => named(add, name) || (CAPABILITIES.contains(&name) && !named(drop, name)),
    };
    Ok(every.into_iter().filter(|name| has(name)).collect())
}

/// Only what belongs to one of the container's own namespaces, as with Docker.
fn sysctl(service: &Service) -> Result<BTreeMap<String, String>, SecurityError> {
    let on_host_network = service.network == NetworkMode::Host;
    let mut parameters = BTreeMap::new();
    if !on_host_network {
        let (name, value) = UNPRIVILEGED_PORTS;
        parameters.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in &service.sysctls {
        let refuse = |reason| Err(SecurityError::Sysctl { name: name.clone(), reason });
        let of_ipc = name.starts_with("fs.mqueue.") || IPC_PARAMETERS.contains(&name.as_str());
        let clean = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        if !name.chars().all(clean) || name.contains("..") || name.contains("//") {
            return refuse("it is not a name");
        } else if name.starts_with("net.") && on_host_network {
            return refuse("the container is in the device's own network");
        } else if of_ipc && service.ipc.as_ref().is_some_and(|ipc| *ipc == Ipc::Host) {
            return refuse("the container shares the device's IPC namespace");
        } else if !name.starts_with("net.") && !of_ipc && name != "kernel.domainname" {
            return refuse("it belongs to the whole device, not to a container");
        }
        parameters.insert(name.clone(), value.clone());
    }
    Ok(parameters)
}

fn rlimits(service: &Service) -> Result<Vec<Rlimit>, SecurityError> {
    let limit = |(name, limit): (&String, &Ulimit)| {
        if !dpack_compose::ULIMITS.contains(&name.as_str()) {
            return Err(SecurityError::Limit { name: name.clone() });
        }
        let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
        let (soft, hard) = (value(limit.soft), value(limit.hard));
        if soft > hard {
            return Err(SecurityError::Order { name: name.clone() });
        }
        Ok(Rlimit { kind: format!("RLIMIT_{}", name.to_ascii_uppercase()), soft, hard })
    };
    service.ulimits.iter().map(limit).collect()
}

fn device(device: &Device) -> Result<Mount, SecurityError> {
    let allows = |what: char| device.permissions.contains(what);
    if !allows('r') || !allows('w') {
        return Err(SecurityError::DevicePermissions(device.source.clone(), device.permissions.clone()));
    }
    Ok(Mount {
        destination: clean(&device.target),
        kind: Some("bind".to_owned()),
        source: Some(device.source.clone()),
        options: owned(&["rbind", "rprivate", "nosuid", "noexec"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Service)) -> Result<Security, SecurityError> {
        let mut service = Service::default();
        change(&mut service);
        of(&service, Machine::default(), None)
    }

    fn names(list: &[&str]) -> Vec<String> {
        owned(list)
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let of = |add: &[&str], drop: &[&str]| {
            with(|service| (service.cap_add, service.cap_drop) = (names(add), names(drop)))
                .unwrap()
                .capabilities
        };
        assert_eq!(of(&[], &[]).len(), CAPABILITIES.len());
        assert_eq!(of(&["CAP_NET_ADMIN"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(of(&["ALL"], &[]).len(), 41);
        assert_eq!(of(&["ALL"], &["CAP_SYS_ADMIN"]).len(), 40);
        assert!(of(&["CAP_SYS_TIME"], &["CAP_CHOWN"]).contains(&"CAP_SYS_TIME".to_owned()));
        assert!(!of(&["CAP_SYS_TIME"], &["CAP_CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
        let error = with(|service| service.cap_add = names(&["CAP_NOPE"])).unwrap_err();
        assert_eq!(error.to_string(), "there is no capability `CAP_NOPE`");
    }

    #[test]
    fn a_filter_is_there_unless_it_is_taken_away() {
        let filter = |options: Vec<SecurityOption>, privileged| {
            with(|service| (service.security_opt, service.privileged) = (options, privileged))
                .map(|s| s.seccomp)
        };
        let seccomp = |value: &str| vec![SecurityOption::Seccomp(value.to_owned())];
        let allows = |filter: Option<Seccomp>, name: &str| {
            filter.unwrap().syscalls.iter().any(|call| call.names.iter().any(|other| other == name))
        };
        assert!(!allows(filter(vec![], false).unwrap(), "mount"));
        assert!(filter(vec![], true).unwrap().is_none());
        assert!(allows(filter(seccomp("builtin"), true).unwrap(), "mount"), "with CAP_SYS_ADMIN");
        assert!(filter(seccomp("unconfined"), false).unwrap().is_none());
        let own = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#;
        assert!(filter(seccomp(own), false).unwrap().unwrap().syscalls.is_empty());
        assert!(matches!(filter(seccomp("{"), false), Err(SecurityError::Profile(_))));
        assert!(matches!(filter(seccomp("./own.json"), false), Err(SecurityError::ProfileNotHere(_))));
    }

    #[test]
    fn privileged_is_everything_that_the_user_namespace_allows() {
        let security = with(|service| service.privileged = true).unwrap();
        assert_eq!(security.capabilities.len(), 41);
        assert!(security.masked_paths.is_empty() && security.readonly_paths.is_empty());
    }

    #[test]
    fn kernel_parameters_of_the_device_are_refused() {
        let set = |name: &str, host: bool| {
            with(|service| {
                service.sysctls = BTreeMap::from([(name.to_owned(), "1".to_owned())]);
                if host {
                    (service.network, service.ipc) = (NetworkMode::Host, Some(Ipc::Host));
                }
            })
            .map(|security| security.sysctl)
        };
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max"] {
            assert_eq!(set(name, false).unwrap()[name], "1");
            assert!(matches!(set(name, true), Err(SecurityError::Sysctl { .. })), "{name}");
        }
        for name in ["kernel.core_pattern", "vm.swappiness", "net../../kernel.core_pattern", "net.x y"] {
            assert!(matches!(set(name, false), Err(SecurityError::Sysctl { .. })), "{name}");
        }
    }

    #[test]
    fn limits_and_devices() {
        let limit = |name: &str, soft, hard| {
            with(|service| service.ulimits = BTreeMap::from([(name.to_owned(), Ulimit { soft, hard })]))
                .map(|security| security.rlimits)
        };
        let expected = Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 10, hard: u64::MAX };
        assert_eq!(limit("nofile", 10, -1).unwrap(), [expected]);
        assert!(matches!(limit("nofile", -1, 10), Err(SecurityError::Order { .. })));
        assert!(matches!(limit("files", 1, 1), Err(SecurityError::Limit { .. })));
        let device = |permissions: &str| {
            let device = Device {
                source: "/dev/fuse".to_owned(),
                target: "/dev/own".to_owned(),
                permissions: permissions.to_owned(),
            };
            with(|service| service.devices = vec![device]).map(|security| security.devices)
        };
        assert_eq!(device("rwm").unwrap()[0].destination, "/dev/own");
        assert!(matches!(device("r"), Err(SecurityError::DevicePermissions(..))));
    }
}
