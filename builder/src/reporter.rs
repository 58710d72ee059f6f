//! What the library tells while it works. It never prints: a [`Reporter`] decides what becomes of an event.

use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;

/// One thing that happened. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An image is about to be made by another program.
    BuildStarted {
        /// The program.
        tool: String,
        /// Where the Compose file says so.
        place: String,
        /// Platform asked for.
        platform: Platform,
    },
    /// That program wrote a line.
    Output(String),
    /// An image reference was resolved for one platform.
    Resolved {
        /// Reference as the Compose file has it.
        image: String,
        /// Platform asked for.
        platform: Platform,
        /// Digest of the platform's manifest.
        digest: Digest,
    },
    /// A blob is about to be downloaded or imported.
    PullStarted {
        /// The blob.
        digest: Digest,
        /// Image it belongs to.
        image: String,
        /// Its size.
        size: u64,
    },
    /// More of a blob is there.
    PullProgress {
        /// The blob.
        digest: Digest,
        /// Bytes received so far; falls back when a download starts again.
        received: u64,
    },
    /// A blob is complete, verified and in the cache.
    PullFinished {
        /// The blob.
        digest: Digest,
    },
    /// A layer is about to be decompressed and cut.
    LayerStarted {
        /// Diff ID of the layer.
        diff_id: Digest,
        /// Image it was found in first.
        image: String,
    },
    /// A layer was verified and cut.
    LayerFinished {
        /// Diff ID of the layer.
        diff_id: Digest,
        /// Size of its tar.
        size: u64,
    },
    /// Frames will be compressed for one executable.
    CompressStarted {
        /// Platform of the executable.
        platform: Platform,
        /// Uncompressed bytes that are not in the cache.
        total: u64,
    },
    /// More bytes were compressed.
    CompressProgress {
        /// Platform of the executable.
        platform: Platform,
        /// Uncompressed bytes done so far.
        done: u64,
    },
    /// An executable is complete and in place.
    Written {
        /// Platform of the executable.
        platform: Platform,
        /// Its path.
        path: std::path::PathBuf,
        /// Its size.
        size: u64,
    },
    /// Something is tried again after a pause.
    Retry {
        /// What failed and why.
        reason: String,
        /// Length of the pause.
        pause: std::time::Duration,
    },
    /// Something odd that does not stop the build.
    Warning(String),
}

/// Is told about events, from any thread.
pub trait Reporter: Send + Sync {
    /// Takes one event; must not block for long.
    fn report(&self, event: Event);
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: Event) {}
}
