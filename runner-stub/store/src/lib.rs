//! Extracted layers on the device: written aside, renamed, shared by all projects of a user.
//!
//! ```text
//! Source ──plan──> Tree, pieces by frame ──extract──> tmp.…/ ──Store──> <diff id>/
//! ```
//!
//! - [`source`]: what is asked of a payload; `payload` answers it for `dpack_payload`.
//! - `tar`, `tree`, `plan`: from headers to a list of what to write. No disk; everything hostile is refused here.
//! - `extract`: writes it, several threads at once.
//! - `store`: names, locks, power cuts, garbage.
//!
//! - `driver`, `copy`: what becomes of the layers where overlayfs cannot be mounted.
//!
//! Absent on purpose: mounting but for a trial (the sandbox does it), waiting for the disk before a layer is used, device nodes.

#![forbid(unsafe_code)]

mod copy;
pub mod driver;
mod error;
mod extract;
pub mod ids;
mod lock;
mod marker;
mod payload;
mod plan;
mod progress;
mod remove;
pub mod source;
mod space;
mod store;
mod tar;
mod tree;

pub use copy::{Copied, copy_layers};
pub use driver::Driver;
pub use error::{Error, LayerError, is_full};
pub use progress::{Progress, Silent};
pub use remove::remove_tree;
pub use store::{Collected, IdMapKind, Store};
