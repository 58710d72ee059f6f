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

pub use group::Group;
pub use place::{Lack, Place, Unmet};
pub use resources::Resources;
pub use statistics::{Statistics, processes};
pub use systemd::is_there as is_managed;
