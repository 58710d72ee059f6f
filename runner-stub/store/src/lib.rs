//! Extracted layers on the device: written aside, renamed, shared by all projects of a user.

#![forbid(unsafe_code)]

mod error;
mod progress;
pub mod source;
mod store;

pub use error::{Error, LayerError};
pub use progress::{Progress, Silent};
pub use store::{Collected, IdMapKind, Store, remove_tree};
