//! What the store tells about itself while it works.

use dpack_payload::digest::DiffId;

/// Told about extraction. Called from several threads; must return quickly.
pub trait Progress: Sync {
    /// Another process extracts layers; we wait for it.
    fn waiting(&self) {}

    /// `layers` are missing and will be extracted: so many bytes of file content, so many entries.
    fn begin(&self, layers: &[DiffId], bytes: u64, entries: u64) {
        let _ = (layers, bytes, entries);
    }

    /// So much more is done.
    fn advance(&self, bytes: u64, entries: u64) {
        let _ = (bytes, entries);
    }

    /// Everything is in place. `skipped` counts device nodes, which an ordinary user cannot make.
    fn end(&self, skipped: u64) {
        let _ = skipped;
    }
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
