//! Control groups: limits, counting and freezing of whole containers, as far as the kernel lets an ordinary user.
//!
//! ```text
//! Place::prepare ─> Place ── Group::create(name, resources) ──> Group: enter, freeze, statistics, remove
//! ```
//!
//! The supervisor finds the [`Place`] once; each container's shim makes one [`Group`] in it, its PID 1 enters before it makes
//! its cgroup namespace, and the shim removes it at the end. Others find the group again by `/proc/PID/cgroup`: nothing about
//! it is written down.
//!
//! A limit that is asked for is enforced or refused. Versions 1 and 2 and both beside each other are served; device rules are
//! left out, because a user namespace has no devices but those given to it.

mod dbus;
mod group;
mod hierarchy;
mod place;
mod processors;
mod resources;
mod statistics;
mod systemd;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use checked::{folders, limits, message};
pub use group::Group;
pub(crate) use hierarchy::mounts;
pub(crate) use place::step_down;
pub use place::{Lack, Place, Unmet};
pub use resources::Resources;
pub use statistics::{Statistics, processes};
pub use systemd::{is_there as is_managed, keeps_runtime_folder};

/// What is true of whatever the parsers read. Each panics when it is not.
#[cfg(any(test, feature = "fuzzing"))]
mod checked {
    use std::path::Component;

    use super::{Resources, dbus, hierarchy};

    /// A D-Bus message from whoever listens on the path of systemd's socket.
    pub(crate) fn message(bytes: &[u8]) {
        if let Ok(message) = dbus::parse(bytes) {
            let strings = message.strings.iter().chain([&message.member, &message.error]);
            assert!(strings.map(String::len).sum::<usize>() <= bytes.len(), "more than there was");
        }
    }

    /// `/proc/PID/cgroup` and `/proc/self/mountinfo`: a folder lies below its mount.
    pub(crate) fn folders(cgroup: &str, mountinfo: &str) {
        let folders = hierarchy::parse(cgroup, mountinfo);
        for folder in folders.v2.iter().chain(folders.v1.values()) {
            assert!(folder.own.starts_with(&folder.mount), "{folder:?}");
            assert!(folder.own.components().all(|part| part != Component::ParentDir), "{folder:?}");
        }
    }

    /// Limits are written to files of the group and of no other folder.
    pub(crate) fn limits(resources: &Resources) {
        for setting in resources.settings().into_iter().flatten() {
            for file in [&setting.v2, &setting.v2_else, &setting.v1].into_iter().flatten() {
                assert!(!file.name.contains('/') && file.name.contains('.'), "{}", file.name);
                assert_ne!(file.controller, "cgroup");
            }
        }
    }
}
