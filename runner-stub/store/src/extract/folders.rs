//! Descriptors of folders, opened one name at a time below the layer's root and kept while they are in use.
//!
//! Every folder was made by us in a folder of our own that nobody else writes to, and is opened with `O_NOFOLLOW`: what the
//! kernel is asked to do can only happen inside the layer.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

use super::layout::{Layout, Place};
use crate::error::Error;
use crate::tree::{InodeId, ROOT};

/// Most descriptors that one thread keeps.
const CAPACITY: usize = 96;

/// The folders of one layer, for one thread.
pub(super) struct Folders<'a> {
    root: BorrowedFd<'a>,
    layout: &'a Layout<'a>,
    open: HashMap<InodeId, OwnedFd>,
}

impl<'a> Folders<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, layout: &'a Layout<'a>) -> Self {
        Self { root, layout, open: HashMap::new() }
    }

    /// An `O_PATH` descriptor of a folder that has been made.
    pub(super) fn get(&mut self, folder: InodeId) -> Result<BorrowedFd<'_>, Error> {
        if folder == ROOT {
            return Ok(self.root);
        }
        let mut missing = Vec::new();
        let mut current = folder;
        while current != ROOT && !self.open.contains_key(&current) {
            let Some(place) = self.layout.place(current) else { break };
            missing.push((current, place));
            current = place.folder;
        }
        for (id, place) in missing.into_iter().rev() {
            let fd = self.open_child(place)?;
            if self.open.len() >= CAPACITY {
                self.open.clear();
            }
            self.open.insert(id, fd);
        }
        Ok(self.open.get(&folder).map_or(self.root, |fd| fd.as_fd()))
    }

    fn open_child(&self, place: Place<'_>) -> Result<OwnedFd, Error> {
        let parent = self.open.get(&place.folder).map_or(self.root, |fd| fd.as_fd());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, place.name, flags, Mode::empty()).map_err(|error| Error::Disk {
            action: "open",
            path: self.layout.path(place),
            source: error.into(),
        })
    }
}
