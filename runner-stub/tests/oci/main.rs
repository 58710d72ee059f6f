//! The OCI runtime command line, called as engines call it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "these are tests, though not in a function marked so"
)]

mod lifecycle;
mod support;
mod validation;
