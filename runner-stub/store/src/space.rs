//! Whether the layers fit, asked before anything is written, and again when the disk is full all the same.

use std::path::Path;

use rustix::fs::statvfs;

use crate::error::Error;

/// What missing layers will take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Needed {
    /// Adds a layer's files: half a block of each is lost on average, and folders and inodes take some.
    pub(crate) fn add(&mut self, bytes: u64, entries: u64) {
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(entries.saturating_mul(2560));
        self.inodes = self.inodes.saturating_add(entries);
    }

    /// Refuses to start what cannot end.
    pub(crate) fn check(self, dir: &Path) -> Result<(), Error> {
        let free = Free::of(dir)?;
        if self.bytes > free.bytes {
            return Err(Error::NoSpace { path: dir.to_owned(), needed: self.bytes, free: free.bytes });
        }
        match free.inodes {
            Some(free) if self.inodes > free => {
                Err(Error::NoInodes { path: dir.to_owned(), needed: self.inodes, free })
            }
            _ => Ok(()),
        }
    }

    /// Says how much is missing where a write has failed for want of space.
    pub(crate) fn explain(self, dir: &Path, error: Error) -> Error {
        if !error.is_full() {
            return error;
        }
        match Free::of(dir) {
            Ok(Free { inodes: Some(0), .. }) => {
                Error::NoInodes { path: dir.to_owned(), needed: self.inodes, free: 0 }
            }
            Ok(Free { bytes, .. }) => {
                Error::NoSpace { path: dir.to_owned(), needed: self.bytes, free: bytes }
            }
            Err(_) => error,
        }
    }
}

struct Free {
    bytes: u64,
    /// None where the file system makes inodes as they are needed (btrfs).
    inodes: Option<u64>,
}

impl Free {
    fn of(dir: &Path) -> Result<Self, Error> {
        let stat = statvfs(dir).map_err(Error::disk("look at the file system of", dir))?;
        Ok(Self {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: (stat.f_files != 0).then_some(stat.f_favail),
        })
    }
}
