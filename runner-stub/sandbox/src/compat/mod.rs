//! What newer kernels have in one call, for those that lack it; Linux 4.19 is the floor.
//!
//! | call | since | without |
//! |---|---|---|
//! | `openat2` | 5.6 | [`in_root`]: the path is followed here, component by component, from held descriptors |
//! | `pidfd_open`, `pidfd_send_signal` | 5.3, 5.1 | [`pidfd`]: the process's folder in `/proc`, held open |
//! | `setns` on a pidfd | 5.8 | [`pidfd`]: one namespace after the other |
//! | `open_tree`, `move_mount`, `fsopen` | 5.2 | [`mounts`]: mounted aside in the same mount namespace, then moved |
//! | `mount_setattr` | 5.12 | [`mounts`]: remounted, a tree mount by mount |
//! | `close_range` | 5.9, 5.11 | `sys::close_from`: what `/proc/self/fd` lists |
//!
//! The call itself is always tried first: no version is compared, because vendors carry calls back and filters take them away.

pub mod in_root;
pub(crate) mod mounts;
pub mod pidfd;
