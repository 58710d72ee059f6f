//! Signals by name and number, sent to a container's PID 1 by pidfd.

use std::path::Path;
use std::str::FromStr;

use crate::Error;

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// Not a signal.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a signal")]
pub struct ParseSignalError(String);

impl FromStr for Signal {
    type Err = ParseSignalError;
    /// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
    fn from_str(_text: &str) -> Result<Self, Self::Err> {
        unimplemented!()
    }
}

/// Signals the container's PID 1. False when the container does not run.
pub fn send(_container_dir: &Path, _signal: Signal) -> Result<bool, Error> {
    unimplemented!()
}
