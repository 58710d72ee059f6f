//! From a service and an image config to an OCI runtime-spec bundle, as a pure function.
//!
//! ```text
//! Service  ImageConfig  passwd, group  paths  ──spec()──> Spec ──> config.json
//! ```
//!
//! Nothing here touches the disk or asks the system: the caller reads what is needed and writes the result. The rules are
//! those of Docker Engine, so that an image finds what it was made for; each module names them.

#![forbid(unsafe_code)]

pub mod annotation;
pub mod files;
pub mod image;
mod input;
pub mod label;
mod log;
pub mod mounts;
pub mod portable;
pub mod process;
pub mod resources;
pub mod seccomp;
mod security;
pub mod spec;
pub mod users;

pub use input::{BundleError, BundleInput, Host, JOINED, spec};
pub use security::{SecurityError, all_capabilities};
