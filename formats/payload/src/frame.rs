//! Getting a frame's bytes: read, compare with the index's hash, then decompress into exactly the length it names.

use std::io;

use crate::digest::Digest;
use crate::index::{Frame, FrameId};
use crate::read_at::ReadAt;

/// Why a frame's bytes cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// There is no such frame.
    #[error("there is no frame {}", .0.0)]
    Unknown(FrameId),
    /// The file could not be read.
    #[error("failed to read frame {}", .frame.0)]
    Read {
        /// Which frame.
        frame: FrameId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bytes in the file are not those that were written.
    #[error("frame {} is damaged: its SHA-256 is not the one in the index\nhint: copy the file again", .0.0)]
    Damaged(FrameId),
    /// The frame is no zstd frame of the length that the index names.
    #[error("frame {} does not decompress to the length in the index", .frame.0)]
    Decompress {
        /// Which frame.
        frame: FrameId,
        /// What zstd says.
        #[source]
        source: io::Error,
    },
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        let kind = match &error {
            FrameError::Read { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// Decompresses frames one after the other into buffers that it keeps. One for each thread.
pub struct FrameDecoder {
    context: zstd::bulk::Decompressor<'static>,
    stored: Vec<u8>,
    raw: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder without buffers; they grow to the largest frame seen.
    pub fn new() -> io::Result<Self> {
        Ok(Self { context: zstd::bulk::Decompressor::new()?, stored: Vec::new(), raw: Vec::new() })
    }

    /// Reads, verifies and decompresses a frame of the payload that begins at `base` in `source`.
    pub(crate) fn decode<R: ReadAt>(
        &mut self,
        source: &R,
        base: u64,
        id: FrameId,
        frame: &Frame,
    ) -> Result<&[u8], FrameError> {
        // No more than the file's frames hold: `Index::parse` checked their sum against the file.
        self.stored.resize(frame.stored_length as usize, 0);
        source
            .read_exact_at(&mut self.stored, base + frame.offset)
            .map_err(|source| FrameError::Read { frame: id, source })?;
        if Digest::of(&self.stored) != frame.digest {
            return Err(FrameError::Damaged(id));
        }
        decompress(&mut self.context, &self.stored, frame.raw_length as usize, &mut self.raw)
            .map_err(|source| FrameError::Decompress { frame: id, source })?;
        Ok(&self.raw)
    }

    /// Hands out the last frame's bytes for keeping.
    pub(crate) fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }
}

/// Decompresses exactly one zstd frame to exactly `length` bytes. What the frame's own header says of its size is compared
/// before anything is allocated.
pub(crate) fn decompress(
    context: &mut zstd::bulk::Decompressor<'_>,
    stored: &[u8],
    length: usize,
    raw: &mut Vec<u8>,
) -> io::Result<()> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    match zstd::zstd_safe::get_frame_content_size(stored) {
        Ok(Some(size)) if size == length as u64 => {}
        _ => return Err(invalid("the zstd frame has another content size")),
    }
    match zstd::zstd_safe::find_frame_compressed_size(stored) {
        Ok(size) if size == stored.len() => {}
        _ => return Err(invalid("there is more, or less, than one zstd frame")),
    }
    raw.clear();
    raw.reserve_exact(length);
    let written = context.decompress_to_buffer(stored, raw)?;
    if written == length { Ok(()) } else { Err(invalid("the zstd frame is shorter than it says")) }
}
