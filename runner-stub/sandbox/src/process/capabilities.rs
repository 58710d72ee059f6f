//! Capability sets by name, and how a process comes down to them.

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::confine;
use crate::Error;
use crate::spec::Capabilities;

/// In the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
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

/// All capabilities that are known, with their prefix.
pub(crate) fn names() -> Vec<String> {
    NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}

/// The five sets of capabilities(7) as bits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    /// Absent means none.
    pub(super) fn parse(capabilities: Option<&Capabilities>) -> Result<Self, Error> {
        let Some(capabilities) = capabilities else { return Ok(Sets::default()) };
        Ok(Sets {
            bounding: bits("bounding", &capabilities.bounding)?,
            effective: bits("effective", &capabilities.effective)?,
            permitted: bits("permitted", &capabilities.permitted)?,
            inheritable: bits("inheritable", &capabilities.inheritable)?,
            ambient: bits("ambient", &capabilities.ambient)?,
        })
    }

    /// Takes away what is not in the bounding set, for good. Newer kernels may know more than this list: those go too.
    pub(super) fn drop_bounding(&self) -> Result<(), Error> {
        for number in 0..64 {
            let one = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding & (1 << number) != 0 {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // The first number that the kernel does not know.
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(confine("drop capabilities from the bounding set")(error)),
            }
        }
        Ok(())
    }

    /// After the change of user: exactly what is asked for.
    pub(super) fn apply(&self) -> Result<(), Error> {
        rustix::thread::clear_ambient_capability_set().map_err(confine("clear ambient capabilities"))?;
        let sets = CapabilitySets {
            effective: CapabilitySet::from_bits_retain(self.effective),
            permitted: CapabilitySet::from_bits_retain(self.permitted),
            inheritable: CapabilitySet::from_bits_retain(self.inheritable),
        };
        rustix::thread::set_capabilities(None, sets).map_err(confine("set capabilities"))?;
        for number in (0..64).filter(|number| self.ambient & (1 << number) != 0) {
            let one = CapabilitySet::from_bits_retain(1 << number);
            rustix::thread::configure_capability_in_ambient_set(one, true)
                .map_err(confine("raise ambient capabilities"))?;
        }
        Ok(())
    }
}

fn bits(set: &str, names: &[String]) -> Result<u64, Error> {
    names.iter().try_fold(0, |bits, name| {
        let known = name.strip_prefix("CAP_").and_then(|name| NAMES.iter().position(|known| *known == name));
        match known {
            Some(number) => Ok(bits | (1 << number)),
            None => Err(Error::Invalid {
                property: format!("process.capabilities.{set}"),
                reason: format!("`{name}` is not a capability"),
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(bits("x", &names(&["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"])).unwrap(), 1 | 1 << 40);
        assert_eq!(bits("x", &names(&["CAP_SYS_ADMIN"])).unwrap(), 1 << 21);
        assert!(bits("x", &names(&["CHOWN"])).is_err());
    }
}
