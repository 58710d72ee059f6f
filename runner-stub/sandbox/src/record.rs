//! What a shim leaves on disk: `running.json` at start, `exit.json` at the end.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Number in the host's PID namespace.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start_time: u64,
}

/// `running.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The container's PID 1.
    pub init: ProcessId,
    /// Its parent.
    pub shim: ProcessId,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// RFC 3339.
    pub started_at: String,
}

/// `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status; 128 + signal when a signal ended it; 126 or 127 when it could not be executed.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// RFC 3339; absent when it could not be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: String,
}

/// State of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not started yet.
    Created,
    /// PID 1 is alive.
    Running(Running),
    /// It ended and the shim saw it.
    Exited(Exit),
    /// It was running, and neither it nor a record of its end is there: the shim was killed, or the machine went down.
    Dead(Running),
}

/// State by the records and `/proc`; needs nobody alive.
pub fn state(_container_dir: &Path) -> Result<State, Error> {
    unimplemented!()
}

impl ProcessId {
    /// The live process `pid`; none when there is none.
    pub fn of(_pid: i32) -> Option<Self> {
        unimplemented!()
    }
    /// Whether this very process is alive (a zombie is not). The boot has to be the same.
    pub fn is_alive(&self) -> bool {
        unimplemented!()
    }
}
