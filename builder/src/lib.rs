//! Turns a Compose application into one static executable per platform.
//!
//! Modules in pipeline order; each stage takes a value and returns a new one:
//!
//! ```text
//! compose -> plan -> image_tool, pull -> layers -> payload -> splice
//!                      │        │         │
//!                 credentials   └─ cache ─┘        reporter, cancel, error: used by all
//! ```
//!
//! The library never prints and never reads the user's environment: whoever calls it passes options, and a
//! [`reporter::Reporter`] that is told what happens. Only the binary knows about terminals.
#![forbid(unsafe_code)]

pub mod build;
pub mod cache;
pub mod cancel;
pub mod compose;
pub mod credentials;
pub mod error;
pub mod extract;
pub mod image_tool;
pub mod inspect;
pub mod layers;
pub mod payload;
pub mod plan;
pub mod project_files;
pub mod pull;
pub mod report;
pub mod reporter;
pub mod splice;
