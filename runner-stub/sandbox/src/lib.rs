//! Executes a bundle: user namespace, root file system, process, shim.
//!
//! ```text
//! role::Spawn ──> a role of this program, inside the user namespace, from a read-only clone of its own mount
//! shim::create ─> shim ──fork──> container init: namespaces, root file system, then waits
//!                   │                 │
//! Created::start ───┴──── start ──────┴──> process: IDs, capabilities, seccomp, execve
//! ```
//!
//! Everything here is synchronous and single-threaded on purpose: namespaces, credentials and `fork` belong to one thread.
//! The caller may be multi-threaded; what runs between its `fork` and `execve` allocates nothing ([`role`]).
//!
//! `unsafe` is confined to `sys`.

pub mod cgroup;
mod channel;
mod compat;
mod container;
pub mod copy;
mod error;
pub mod exec;
pub mod export;
pub mod features;
pub mod foreground;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod harden;
pub mod idmap;
pub mod ids;
pub mod input;
mod log;
mod namespaces;
pub mod oci;
pub mod packet;
mod process;
pub mod record;
mod relay;
pub mod role;
mod rootfs;
mod seccomp;
pub mod selinux;
pub mod shim;
pub mod signal;
mod spec;
mod stat;
mod sys;
mod terminal;
mod time;
mod wait;

pub use compat::{in_root, pidfd};
pub use container::Home;
pub use error::{Error, Failure};
pub use process::hard_limit;
