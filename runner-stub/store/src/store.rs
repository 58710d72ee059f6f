//! The store.
use std::path::{Path, PathBuf};

use dpack_payload::digest::DiffId;

use crate::error::Error;
use crate::progress::Progress;
use crate::source::Source;

/// Which IDs exist in the user namespace that extracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMapKind {
    /// Many: files get the owner that the image names.
    Full,
    /// One: every file belongs to the user.
    Single,
}

/// What garbage collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers removed.
    pub layers: u64,
}

/// The extracted layers of one user with one kind of ID map.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    kind: IdMapKind,
}

impl Store {
    /// Opens `<data_dir>/layers/<kind>`, making it where it is missing.
    pub fn open(data_dir: &Path, kind: IdMapKind) -> Result<Self, Error> {
        let _ = (data_dir, kind);
        unimplemented!()
    }

    /// Where a layer lies, whether it is there or not.
    pub fn path(&self, layer: &DiffId) -> PathBuf {
        self.dir.join(layer.hex())
    }

    /// Makes sure that `layers` (lowest first) are extracted; returns the folders to stack, lowest first. These can be fewer:
    /// what lies below a layer that hides everything is left out. Runs inside the user namespace. Blocks.
    ///
    /// Whoever calls this has written down before that it needs `layers`, where the caller of [`Self::collect_garbage`] looks.
    pub fn ensure<S: Source>(
        &self,
        source: &S,
        layers: &[DiffId],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, Error> {
        let _ = (source, layers, threads, progress, self.kind);
        unimplemented!()
    }

    /// Waits until everything extracted is on the disk (seconds, on slow disks), then takes away the markers that say
    /// otherwise. For a background thread.
    pub fn settle(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Removes every layer that `used` does not name. `used` is asked while nobody can extract. Does nothing (`None`) while
    /// another process extracts or collects.
    pub fn collect_garbage(&self, used: impl FnOnce() -> Vec<DiffId>) -> Result<Option<Collected>, Error> {
        let _ = used();
        unimplemented!()
    }
}

/// Removes a folder with everything in it, however deep, never following a symbolic link. A missing one is no error.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let _ = path;
    unimplemented!()
}
