//! The short forms of the specification, each as a pure function from a string to its parts.

pub(crate) mod command;
pub(crate) mod mount;
pub(crate) mod port;
pub(crate) mod size;
pub(crate) mod time;

#[cfg(test)]
mod tests;
