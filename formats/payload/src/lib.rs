//! The dpack payload format.

pub mod application;
pub mod digest;
pub mod platform;
