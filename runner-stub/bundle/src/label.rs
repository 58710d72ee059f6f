//! SELinux labels, `user:role:type:level`: those of a container, and those of its files.
//!
//! As podman and Docker (opencontainers/selinux: `go-selinux`): what the device's policy has for containers, with a level of
//! two categories that no other container has, so that it can use neither the files nor the processes of another.

use std::fmt;
use std::path::Path;

use dpack_compose::project::{Ipc, SecurityOption, Service};

/// The categories are c0 to c1023, in all policies that have them.
const CATEGORIES: u64 = 1024;
/// What every container may use.
const SHARED_LEVEL: &str = "s0";
/// The option that takes the labels away.
const DISABLE: &str = "disable";

/// A label taken apart. Without levels in the policy there is none in the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl Label {
    /// Takes a label apart; the level has colons of its own.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let label =
            Self { user: parts.next()?, role: parts.next()?, kind: parts.next()?, level: parts.next() };
        let whole = [&label.user, &label.role, &label.kind].into_iter().all(|part| !part.is_empty());
        whole.then_some(label)
    }

    /// Sensitivity and categories, where there are any.
    pub fn level(&self) -> Option<&str> {
        self.level.as_deref()
    }

    /// The type, which decides first.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The same at another level, where there are levels.
    fn at(&self, level: &str) -> Self {
        Self { level: self.level.as_ref().map(|_| level.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.iter().try_for_each(|level| write!(f, ":{level}"))
    }
}

/// What processes and files of containers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Of processes.
    pub process: Label,
    /// Of files.
    pub file: Label,
    /// Of files that no container writes, and all may read.
    pub read_only: Label,
}

impl Labels {
    /// What a policy has for containers: `process`, `file` and `ro_file` of its `lxc_contexts` (lxc_contexts(5)).
    pub fn of_policy(lxc_contexts: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut lines = lxc_contexts.lines().map(str::trim).filter(|line| !line.starts_with([';', '#']));
            lines.find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| Label::parse(value.trim().trim_matches('"')))?
            })
        };
        let file = value("file")?;
        Some(Self {
            process: value("process")?,
            read_only: value("ro_file").unwrap_or_else(|| file.clone()),
            file,
        })
    }

    /// Those of one container alone.
    pub fn at(&self, level: &str) -> Self {
        Self { process: self.process.at(level), file: self.file.at(level), ..self.clone() }
    }

    /// Of files that all containers may use.
    pub fn shared_files(&self) -> Label {
        self.file.at(SHARED_LEVEL)
    }

    /// What a service makes of them; none when it wants none. As in moby (`daemon/create.go`, `generateSecurityOpt`) that is
    /// the default of a container that sees the device as it is.
    pub fn of_service(&self, service: &Service) -> Option<Self> {
        let options = options(service);
        if options.is_empty() {
            let open = service.privileged || service.ipc == Some(Ipc::Host);
            return (!open).then(|| self.clone());
        }
        if options.contains(&DISABLE) {
            return None;
        }
        let mut labels = self.clone();
        for option in options {
            let (part, value) = option.split_once(':')?;
            let value = value.to_owned();
            match part {
                "user" => (labels.process.user, labels.file.user) = (value.clone(), value),
                "role" => labels.process.role = value,
                "type" => labels.process.kind = value,
                "filetype" => labels.file.kind = value,
                _ => (labels.process.level, labels.file.level) = (Some(value.clone()), Some(value)),
            }
        }
        Some(labels)
    }
}

fn options(service: &Service) -> Vec<&str> {
    let options = service.security_opt.iter().filter_map(|option| match option {
        SecurityOption::Label(text) => Some(text.as_str()),
        _ => None,
    });
    options.collect()
}

/// A service asks for labels, which a device without SELinux cannot give it.
pub fn is_asked_for(service: &Service) -> bool {
    let options = options(service);
    !options.is_empty() && !options.contains(&DISABLE)
}

/// The level of a container by a number; as many different ones as there are pairs of categories.
pub fn level(number: u64) -> String {
    let number = number % (CATEGORIES * (CATEGORIES - 1) / 2);
    // Each pair once: a category, and how far after it on a circle of all the other one lies, at most half of it.
    let (row, column) = (number / CATEGORIES, number % CATEGORIES);
    let other = (column + row + 1) % CATEGORIES;
    format!("s0:c{},c{}", column.min(other), column.max(other))
}

/// Folders of a device that nothing relabels: it would no longer start, or let nobody in (`go-selinux`, `rchcon`).
const SYSTEM: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Whether a path of the device, without links and `..`, may get another label with all that is below it.
pub fn may_relabel(path: &Path, home: Option<&Path>) -> bool {
    // The home too: keys for ssh would be read no longer.
    let holds_home = home.is_some_and(|home| home.starts_with(path));
    !holds_home && !SYSTEM.iter().any(|folder| path == Path::new(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const CONTEXTS: &str = "; comment\nprocess = \"system_u:system_r:container_t:s0\"\n#\ncontent = \"x\"\n\
                            file=\"system_u:object_r:container_file_t:s0\"\nro_file = \"a:b:c:s0\"\n";

    fn labels() -> Labels {
        Labels::of_policy(CONTEXTS).unwrap().at("s0:c1,c2")
    }

    #[test]
    fn a_policy_names_what_containers_are() {
        let labels = labels();
        assert_eq!(labels.process.to_string(), "system_u:system_r:container_t:s0:c1,c2");
        assert_eq!(labels.file.to_string(), "system_u:object_r:container_file_t:s0:c1,c2");
        assert_eq!(labels.shared_files().to_string(), "system_u:object_r:container_file_t:s0");
        assert_eq!(Labels::of_policy("process = \"a:b:c\"\n"), None, "no files");
        assert_eq!(Labels::of_policy("process = \"a:b\"\nfile = \"a:b:c\"\n"), None, "no type");
        let without = Labels::of_policy("process = \"a:b:c\"\nfile = a:b:d").unwrap().at("s0:c1,c2");
        assert_eq!(without.process.to_string(), "a:b:c", "a policy without levels");
    }

    #[test]
    fn a_service_changes_its_labels() {
        let of = |options: &[&str], change: fn(&mut Service)| {
            let options = options.iter().map(|&option| SecurityOption::Label(option.to_owned()));
            let mut service = Service { security_opt: options.collect(), ..Service::default() };
            change(&mut service);
            let changed = labels().of_service(&service);
            changed.map(|labels| (labels.process.to_string(), labels.file.to_string()))
        };
        let whole = |process: &str, file: &str| Some((process.to_owned(), file.to_owned()));
        let (process, file) =
            ("system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2");
        assert_eq!(of(&[], |_| {}), whole(process, file));
        assert_eq!(of(&["disable"], |_| {}), None);
        assert_eq!(of(&["type:a_t", "disable"], |_| {}), None);
        assert_eq!(of(&[], |service| service.privileged = true), None);
        assert_eq!(of(&[], |service| service.ipc = Some(Ipc::Host)), None);
        assert_eq!(
            of(&["type:spc_t", "filetype:f_t", "role:r_r"], |service| service.privileged = true),
            whole("system_u:r_r:spc_t:s0:c1,c2", "system_u:object_r:f_t:s0:c1,c2"),
            "what is asked for is given"
        );
        assert_eq!(
            of(&["level:s0:c5", "user:u_u"], |_| {}),
            whole("u_u:system_r:container_t:s0:c5", "u_u:object_r:container_file_t:s0:c5")
        );
    }

    #[test]
    fn no_two_numbers_have_one_level() {
        let all = CATEGORIES * (CATEGORIES - 1) / 2;
        let levels: BTreeSet<String> = (0..all).map(level).collect();
        assert_eq!(levels.len() as u64, all);
        assert_eq!((level(0), level(all - 1)), ("s0:c0,c1".to_owned(), "s0:c511,c1023".to_owned()));
        assert_eq!(level(all), level(0));
    }

    #[test]
    fn what_the_device_needs_keeps_its_labels() {
        let may = |path: &str| may_relabel(Path::new(path), Some(Path::new("/home/user")));
        for path in ["/", "/usr", "/etc", "/etc/shadow", "/home", "/home/user", "/root", "/var/lib", "/tmp"] {
            assert!(!may(path), "{path}");
        }
        for path in ["/srv/data", "/home/user/data", "/home/other/x", "/etc/app", "/opt/app"] {
            assert!(may(path), "{path}");
        }
    }
}
