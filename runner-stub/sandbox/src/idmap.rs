//! Which user and group IDs a user namespace of this user can have.
//!
//! *Full*: `newuidmap` and a subordinate range are there; 0 is the user, 1 and up the whole range.
//! *Single*: only 0 exists and is the user; a seccomp filter makes changes of owner and user succeed without effect.

use std::path::PathBuf;

/// The ID map that a new user namespace gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMap {
    /// Many IDs.
    Full(Full),
    /// One ID.
    Single {
        /// Why there is no full map, for `doctor`.
        reason: String,
    },
}

/// The two halves of a full map and how they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// User IDs.
    pub uids: Vec<Range>,
    /// Group IDs.
    pub gids: Vec<Range>,
    /// `newuidmap` and `newgidmap`; none when we may write the maps ourselves (root).
    pub helpers: Option<(PathBuf, PathBuf)>,
}

/// One line of `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First ID inside.
    pub inside: u32,
    /// First ID outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// Finds out what this user can have. Reads `/etc/subuid`, `/etc/subgid` and `PATH`; executes nothing.
    pub fn detect() -> Self {
        unimplemented!()
    }

    /// `full` or `single`: the word used in the store's folder names.
    pub fn kind(&self) -> &'static str {
        match self {
            IdMap::Full(_) => "full",
            IdMap::Single { .. } => "single",
        }
    }
}
