//! Why layers cannot be had.

use std::io;
use std::path::{Path, PathBuf};

use dpack_payload::digest::DiffId;

use crate::ids::Shortage;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer's content is not what a layer may be.
    #[error("layer {layer} cannot be extracted")]
    Layer {
        /// Which layer.
        layer: DiffId,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// The payload does not have the layer.
    #[error("layer {0} is not in the payload")]
    Missing(DiffId),
    /// The payload could not be read.
    #[error("failed to read layer {layer} from the payload")]
    Read {
        /// Which layer.
        layer: DiffId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A frame of the payload could not be read.
    #[error("failed to read frame {frame} of the payload")]
    Frame {
        /// Which frame.
        frame: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is full, or would be.
    #[error(
        "no space for layers on the file system of `{}`: {} MB needed, {} MB free\n\
         hint: free some space, or set DPACK_DATA_DIR to a folder on a larger disk",
        .path.display(),
        .needed.div_ceil(1_000_000),
        .free / 1_000_000
    )]
    NoSpace {
        /// The store's folder.
        path: PathBuf,
        /// Bytes that the missing layers take.
        needed: u64,
        /// Bytes that are free for an ordinary user.
        free: u64,
    },
    /// The disk has no inodes left, or would not have.
    #[error(
        "no inodes for layers on the file system of `{}`: {needed} needed, {free} free\n\
         hint: remove some files, or set DPACK_DATA_DIR to a folder on another disk",
        .path.display()
    )]
    NoInodes {
        /// The store's folder.
        path: PathBuf,
        /// Files and folders of the missing layers.
        needed: u64,
        /// Inodes that are free.
        free: u64,
    },
    /// An ID of the image does not exist in this user namespace.
    #[error("the image has files of users or groups that do not exist here: {0}")]
    TooFewIds(#[from] Shortage),
    /// The file system has no extended attributes for an opaque directory.
    #[error(
        "the layer's folder `{path}` hides all of lower layers, which needs user extended attributes; the file system of \
         the data folder has none\n\
         hint: set DPACK_DATA_DIR to a folder on ext4, xfs or btrfs"
    )]
    NoAttributes {
        /// Path inside the layer.
        path: String,
    },
    /// An operation on the disk failed.
    #[error("failed to {action} `{path}`")]
    Disk {
        /// What was attempted, such as `create`.
        action: &'static str,
        /// On what: a path of the device, or one inside the layer.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn disk<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Disk { action, path: path.display().to_string(), source: source.into() }
    }

    /// Whether the executable is at fault, and not the device.
    pub fn is_input(&self) -> bool {
        matches!(self, Self::Layer { .. } | Self::Missing(_) | Self::Read { .. } | Self::Frame { .. })
    }

    /// Whether a file system without space is the cause.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Disk { source, .. } if is_full(source))
    }
}

/// No space on a file system, or none for this user.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What is wrong with a layer's tar.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayerError {
    /// It ends in the middle of something.
    #[error("its tar ends early: something at byte {0} goes beyond its end")]
    Truncated(u64),
    /// A header is damaged.
    #[error("the tar header at byte {at} is invalid: {reason}")]
    Header {
        /// Where in the tar the header begins.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// An entry is not allowed.
    #[error("its entry `{path}` is refused: {reason}")]
    Entry {
        /// The entry's name, control characters escaped.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A hard link leads nowhere.
    #[error("its hard link `{path}` leads to `{target}`, which is not in the layer")]
    HardLink {
        /// The entry's name.
        path: String,
        /// Where it leads.
        target: String,
    },
}
