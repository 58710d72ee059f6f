//! Compressing one frame.

use std::io;

use zstd::zstd_safe::CParameter;

use super::plan::{FramePlan, PlannedChunk};
use crate::digest::Digest;

/// A compressed frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFrame {
    /// SHA-256 of the frame, then the frame.
    sealed: Vec<u8>,
    raw_length: u32,
}

/// Why a frame could not be compressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The caller could not deliver a chunk.
    #[error("failed to read chunk {digest} of layer {layer}")]
    Fetch {
        /// The chunk.
        digest: Digest,
        /// The layer that should have it.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller delivered other bytes than were planned.
    #[error("the content of layer {layer} changed while it was read: chunk {digest} is another one")]
    Changed {
        /// The chunk.
        digest: Digest,
        /// The layer that should have it.
        layer: Digest,
    },
    /// zstd failed.
    #[error("failed to compress a frame")]
    Zstd(#[source] io::Error),
}

/// Compresses a frame. `fetch` fills a buffer with a chunk's content; it is compared with the chunk's digest. May run in
/// several threads at once, one frame each.
pub fn compress_frame(
    plan: &FramePlan,
    mut fetch: impl FnMut(&PlannedChunk, &mut [u8]) -> io::Result<()>,
) -> Result<StoredFrame, CompressError> {
    let mut raw = vec![0; plan.raw_length as usize];
    let mut rest = raw.as_mut_slice();
    for chunk in &plan.chunks {
        let (digest, layer) = (chunk.digest, chunk.source.layer);
        let (content, after) = rest
            .split_at_mut_checked(chunk.length as usize)
            .ok_or(CompressError::Changed { digest, layer })?;
        fetch(chunk, content).map_err(|source| CompressError::Fetch { digest, layer, source })?;
        if Digest::of(content) != digest {
            return Err(CompressError::Changed { digest, layer });
        }
        rest = after;
    }
    let frame = compress(&raw, i32::from(plan.level.get())).map_err(CompressError::Zstd)?;
    Ok(StoredFrame {
        sealed: [Digest::of(&frame).as_bytes().as_slice(), &frame].concat(),
        raw_length: plan.raw_length,
    })
}

/// One zstd frame with its content size and without a checksum: the index has a better one.
pub(super) fn compress(raw: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut context = zstd::bulk::Compressor::new(level)?;
    // The whole frame is the window: a frame is decompressed in one go, so a large window costs the reader nothing.
    let window = (raw.len().max(1 << 10) - 1).ilog2() + 1;
    if level >= 17 {
        context.set_parameter(CParameter::WindowLog(window))?;
    }
    context.set_parameter(CParameter::ContentSizeFlag(true))?;
    context.set_parameter(CParameter::ChecksumFlag(false))?;
    context.compress(raw)
}

impl StoredFrame {
    /// Bytes for a cache: they carry their own checksum.
    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// Takes bytes from a cache. `None` where they are damaged.
    pub fn from_sealed(sealed: Vec<u8>) -> Option<Self> {
        let (digest, frame) = sealed.split_at_checked(32)?;
        if Digest::of(frame).as_bytes() != digest {
            return None;
        }
        let raw_length = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten()?;
        Some(Self { raw_length: u32::try_from(raw_length).ok()?, sealed })
    }

    /// Bytes before compression.
    pub fn raw_length(&self) -> u32 {
        self.raw_length
    }

    /// The zstd frame.
    pub fn bytes(&self) -> &[u8] {
        &self.sealed[32..]
    }

    /// SHA-256 of the zstd frame.
    pub(super) fn digest(&self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(&self.sealed[..32]);
        Digest::from_bytes(digest)
    }
}
