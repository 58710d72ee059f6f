//! The Compose model: load, merge, interpolate, validate.

pub mod project;
