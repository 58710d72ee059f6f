//! Where layers come from: what extraction asks of a payload.
//!
//! A layer reads as a tar. Most file bodies lie elsewhere, as chunks in frames (FORMAT.md, "Layers"); extraction walks the
//! headers, collects the chunks of all layers it needs, and then takes each frame once.

use std::io;

use dpack_payload::digest::DiffId;

/// What extraction needs of a payload.
pub trait Source: Sync {
    /// What one thread keeps between two frames: buffers, a decompression context.
    type Decoder: Send;
    /// A layer that is being read.
    type Tar<'a>: Tar
    where
        Self: 'a;

    /// A decoder for one thread.
    fn decoder(&self) -> io::Result<Self::Decoder>;

    /// A layer; none where the payload does not have it.
    fn tar(&self, diff_id: &DiffId) -> Option<Self::Tar<'_>>;

    /// The decompressed bytes of a frame, verified.
    fn frame<'a>(&self, decoder: &'a mut Self::Decoder, frame: u32) -> io::Result<&'a [u8]>;
}

/// A layer as a tar.
pub trait Tar {
    /// Bytes of the tar.
    fn length(&self) -> u64;

    /// Fills `buffer` from a position of the tar.
    fn read_exact_at(&mut self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// The chunks of the file body that begins at a position of the tar, in order. None where no body does: the bytes then
    /// come from [`Self::read_exact_at`].
    fn body_at(&self, position: u64) -> Option<impl Iterator<Item = Chunk>>;
}

/// A piece of a file body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The frame that holds it.
    pub frame: u32,
    /// Where it begins in the decompressed frame.
    pub offset: u32,
    /// Its length.
    pub length: u32,
}
