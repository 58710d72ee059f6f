//! Opening a payload, and getting at its frames.
//!
//! The trailer is the end of the file that dpack writes. After GNU `strip` or `objcopy` the section headers are: then the
//! payload is found as section `.dpack`. All positions count from the payload's start, so both ways lead to the same.

use std::io;
use std::sync::Arc;

use crate::application::Application;
use crate::cache::FrameCache;
use crate::digest::{DiffId, Digest};
use crate::elf::{self, Extent};
use crate::frame::{FrameDecoder, FrameError, decompress};
use crate::index::{Chunk, ChunkId, FrameId, Index, IndexError};
use crate::layer::LayerReader;
use crate::layout::{TRAILER_SIZE, Trailer, TrailerError};
use crate::read_at::ReadAt;

/// Bytes of decompressed frames that random access keeps, unless told otherwise.
const DEFAULT_CACHE: usize = 32 << 20;

/// Why a file cannot be opened as a payload.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be read.
    #[error("failed to read the payload")]
    Read(#[from] io::Error),
    /// Neither trailer nor section.
    #[error(
        "there is no payload in this file\nhint: a truncated copy looks like this; compare the file's size"
    )]
    NotFound,
    /// The section, or what the trailer says, goes beyond the file.
    #[error("the payload is cut off: {expected} bytes expected, {found} found\nhint: copy the file again")]
    Truncated {
        /// What the section or trailer says.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The trailer is unusable.
    #[error(transparent)]
    Trailer(#[from] TrailerError),
    /// The stored index is not what was written.
    #[error(
        "the payload's {0} is damaged: its SHA-256 is not the one in the trailer\nhint: copy the file again"
    )]
    Damaged(&'static str),
    /// The index does not decompress to the length in the trailer.
    #[error("the payload's index cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// The index contradicts itself.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// How the payload was found, which says who wrote the file last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The trailer ends the file: as dpack wrote it, or a payload on its own.
    AtEnd,
    /// By the section header: another tool (`strip`, `objcopy`) rewrote the file.
    BySection,
}

/// An open payload. Shared by threads; `R` is a file, memory, or an `Arc` of one.
pub struct Payload<R> {
    source: R,
    base: u64,
    found: Found,
    trailer: Trailer,
    index: Index,
    cache: FrameCache,
}

impl<R: ReadAt> Payload<R> {
    /// Finds the payload in an executable or a file of its own, verifies and parses its index. Frames are verified when
    /// they are read.
    pub fn open(source: R) -> Result<Self, OpenError> {
        let size = source.size()?;
        let (base, found, trailer) = locate(&source, size)?;
        // Bounded by the file's size, which `locate` compared with the trailer.
        let mut stored = vec![0; trailer.index_stored as usize];
        source.read_exact_at(&mut stored, base + trailer.index_offset)?;
        if Digest::of(&stored) != trailer.index_digest {
            return Err(OpenError::Damaged("index"));
        }
        let mut annex = vec![0; trailer.annex_length as usize];
        source.read_exact_at(&mut annex, base + trailer.index_offset + trailer.index_stored)?;
        if Digest::of(&annex) != trailer.annex_digest {
            return Err(OpenError::Damaged("annex"));
        }
        let mut raw = Vec::new();
        zstd::bulk::Decompressor::new()
            .and_then(|mut context| decompress(&mut context, &stored, trailer.index_raw as usize, &mut raw))
            .map_err(OpenError::Decompress)?;
        let index = Index::parse(&raw, trailer.index_offset)?;
        Ok(Self { source, base, found, trailer, index, cache: FrameCache::new(DEFAULT_CACHE) })
    }

    /// What the payload is for.
    pub fn application(&self) -> &Application {
        &self.index.application
    }

    /// The tables.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The trailer.
    pub fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// The SHA-256 of the stored index, which names everything in the payload: its identity.
    pub fn digest(&self) -> Digest {
        self.trailer.index_digest
    }

    /// Where in the file the payload begins.
    pub fn offset(&self) -> u64 {
        self.base
    }

    /// How the payload was found.
    pub fn found(&self) -> Found {
        self.found
    }

    /// The file.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// Sets how many bytes of decompressed frames random access keeps.
    pub fn set_cache_capacity(&self, bytes: usize) {
        self.cache.set_capacity(bytes);
    }

    /// Reads, verifies and decompresses a frame into the decoder's buffer, past the cache: for extraction, in which each
    /// thread has a decoder and takes each frame once.
    pub fn read_frame<'d>(&self, id: FrameId, decoder: &'d mut FrameDecoder) -> Result<&'d [u8], FrameError> {
        let frame = self.index.frames.get(id.0 as usize).ok_or(FrameError::Unknown(id))?;
        decoder.decode(&self.source, self.base, id, frame)
    }

    /// A frame's bytes by way of the cache: for random access.
    pub fn frame(&self, id: FrameId) -> Result<Arc<Vec<u8>>, FrameError> {
        if let Some(bytes) = self.cache.get(id) {
            return Ok(bytes);
        }
        let mut decoder =
            FrameDecoder::new().map_err(|source| FrameError::Decompress { frame: id, source })?;
        self.read_frame(id, &mut decoder)?;
        let bytes = Arc::new(decoder.take_raw());
        self.cache.insert(id, &bytes);
        Ok(bytes)
    }

    /// A row of the chunk table.
    pub fn chunk(&self, id: ChunkId) -> Option<&Chunk> {
        self.index.chunks.get(id.0 as usize)
    }

    /// The virtual tar of a layer.
    pub fn layer(&self, diff_id: &DiffId) -> Option<LayerReader<'_, R>> {
        self.index.layer(diff_id).map(|layer| LayerReader::new(self, layer))
    }
}

/// Where the payload begins, how it was found, and its trailer.
fn locate<R: ReadAt>(source: &R, size: u64) -> Result<(u64, Found, Trailer), OpenError> {
    match trailer_before(source, size)? {
        Ok(trailer) => {
            let base = size.checked_sub(trailer.payload_length);
            return match base {
                Some(base) => Ok((base, Found::AtEnd, trailer)),
                None => Err(OpenError::Truncated { expected: trailer.payload_length, found: size }),
            };
        }
        Err(TrailerError::Missing) => {}
        Err(error) => return Err(error.into()),
    }
    let Extent { offset, length } = elf::find_section(source, size)?.ok_or(OpenError::NotFound)?;
    let end = offset
        .checked_add(length)
        .filter(|&end| end <= size)
        .ok_or(OpenError::Truncated { expected: length, found: size.saturating_sub(offset) })?;
    let trailer = trailer_before(source, end)??;
    if trailer.payload_length == length {
        Ok((offset, Found::BySection, trailer))
    } else {
        Err(OpenError::Truncated { expected: trailer.payload_length, found: length })
    }
}

/// The trailer that ends at `end`.
fn trailer_before<R: ReadAt>(source: &R, end: u64) -> Result<Result<Trailer, TrailerError>, OpenError> {
    let Some(start) = end.checked_sub(TRAILER_SIZE as u64) else { return Ok(Err(TrailerError::Missing)) };
    let mut bytes = [0; TRAILER_SIZE];
    source.read_exact_at(&mut bytes, start)?;
    Ok(Trailer::decode(&bytes))
}
