//! Writing a payload as a stream: frames, then layers, then index and trailer.

use std::collections::{HashMap, HashSet};
use std::io::{self, Seek, SeekFrom, Write};

use super::compress::{StoredFrame, compress};
use super::encode::Tables;
use super::level::Level;
use super::plan::FramePlan;
use super::recipe::{ChunkRecipe, LayerRecipe};
use super::splice::StubHead;
use crate::application::Application;
use crate::digest::{DiffId, Digest};
use crate::layout::{TRAILER_SIZE, Trailer};
use crate::limits::{MAX_FRAME_RAW, MAX_FRAME_STORED, MAX_INDEX_RAW};

/// Why a payload could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output could not be written.
    #[error("failed to write the payload")]
    Write(#[from] io::Error),
    /// The compressed frame is not the planned one.
    #[error("a compressed frame does not belong to its plan")]
    Frame,
    /// A layer needs a chunk that no frame holds.
    #[error("chunk {chunk} of layer {layer} is in none of the frames")]
    Chunk {
        /// The layer.
        layer: DiffId,
        /// The chunk.
        chunk: Digest,
    },
    /// An image needs a layer that was not written.
    #[error("layer {layer} of image `{image}` was not written")]
    Layer {
        /// The image's reference.
        image: String,
        /// The layer.
        layer: DiffId,
    },
    /// A recipe whose bodies overlap or do not fill the tar.
    #[error("the recipe of layer {0} contradicts itself")]
    Recipe(DiffId),
    /// The application cannot be serialised.
    #[error("failed to serialise the application description")]
    Application(#[source] serde_json::Error),
    /// More of something than the format can count.
    #[error(
        "the index of this payload is too large: {0} bytes of {MAX_INDEX_RAW}\nhint: build fewer images into one file"
    )]
    IndexTooLarge(u64),
    /// ELF32 counts sizes in 32 bits.
    #[error(
        "the payload has {0} bytes; a 32-bit executable holds less than 4 GiB\nhint: build fewer images into one file"
    )]
    TooLargeForElf32(u64),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the file: head and payload.
    pub file_length: u64,
    /// Bytes of the payload.
    pub payload_length: u64,
    /// Bytes of the compressed index.
    pub index_stored: u64,
    /// Bytes of all frames before compression: unique content.
    pub raw_length: u64,
    /// Bytes of all tars: content with its repetitions.
    pub tar_length: u64,
    /// Frames written.
    pub frames: u32,
    /// Chunks written.
    pub chunks: u32,
    /// SHA-256 of the stored index: the payload's identity.
    pub digest: Digest,
}

/// Writes one payload. Nothing but the tables is held in memory.
pub struct PayloadWriter<W> {
    out: W,
    head: Option<StubHead>,
    level: Level,
    tables: Tables,
    chunks: HashMap<Digest, (u32, u32)>,
    layers: HashSet<DiffId>,
    frames_length: u64,
    raw_length: u64,
    tar_length: u64,
    frames: u32,
}

impl<W: Write + Seek> PayloadWriter<W> {
    /// Begins a payload: behind a stub's head, or on its own. `out` must be empty.
    pub fn new(mut out: W, head: Option<StubHead>, level: Level) -> Result<Self, WriteError> {
        if let Some(head) = &head {
            out.write_all(head.bytes())?;
        }
        Ok(Self {
            out,
            head,
            level,
            tables: Tables::default(),
            chunks: HashMap::new(),
            layers: HashSet::new(),
            frames_length: 0,
            raw_length: 0,
            tar_length: 0,
            frames: 0,
        })
    }

    /// Appends a frame.
    pub fn frame(&mut self, plan: &FramePlan, stored: &StoredFrame) -> Result<(), WriteError> {
        let length = u32::try_from(stored.bytes().len()).ok().filter(|&length| length <= MAX_FRAME_STORED);
        let sum: u64 = plan.chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
        let belongs = stored.raw_length() == plan.raw_length && sum == u64::from(plan.raw_length);
        let (Some(length), Ok(count)) = (length, u32::try_from(plan.chunks.len())) else {
            return Err(WriteError::Frame);
        };
        if !belongs || plan.raw_length > MAX_FRAME_RAW || count == 0 {
            return Err(WriteError::Frame);
        }
        self.tables.frame(length, plan.raw_length, count, &stored.digest());
        for chunk in &plan.chunks {
            let id = u32::try_from(self.chunks.len()).map_err(|_| WriteError::IndexTooLarge(u64::MAX))?;
            if self.chunks.insert(chunk.digest, (id, chunk.length)).is_some() {
                return Err(WriteError::Frame);
            }
            self.tables.chunk(chunk.length, &chunk.digest);
        }
        self.out.write_all(stored.bytes())?;
        self.frames += 1;
        self.frames_length += u64::from(length);
        self.raw_length += u64::from(plan.raw_length);
        Ok(())
    }

    /// Adds a layer whose chunks are all in frames that were appended. A layer that is there already is left out.
    pub fn layer(&mut self, recipe: &LayerRecipe) -> Result<(), WriteError> {
        if !self.layers.insert(recipe.diff_id) {
            return Ok(());
        }
        let contradiction = || WriteError::Recipe(recipe.diff_id);
        let count = |length: usize| u32::try_from(length).map_err(|_| WriteError::IndexTooLarge(u64::MAX));
        let (bodies, skeleton_chunks) = (count(recipe.bodies.len())?, count(recipe.skeleton_chunks.len())?);
        let mut length = self.references(recipe, &recipe.skeleton_chunks)?;
        let mut end = 0;
        for body in &recipe.bodies {
            let gap = body.offset.checked_sub(end).ok_or_else(contradiction)?;
            let body_length = self.references(recipe, &body.chunks)?;
            self.tables.body(gap, count(body.chunks.len())?);
            end = body.offset + body_length;
            length += body_length;
        }
        if length != recipe.tar_length || end > length {
            return Err(contradiction());
        }
        self.tables.layer(&recipe.diff_id, recipe.tar_length, bodies, skeleton_chunks);
        self.tar_length += recipe.tar_length;
        Ok(())
    }

    /// Writes index and trailer, and the payload's size into the section header.
    pub fn finish(self, application: &Application) -> Result<(W, Summary), WriteError> {
        let Self {
            mut out,
            head,
            level,
            tables,
            chunks,
            layers,
            frames_length,
            raw_length,
            tar_length,
            frames,
        } = self;
        for image in &application.images {
            if let Some(layer) = image.layers.iter().find(|layer| !layers.contains(*layer)) {
                return Err(WriteError::Layer { image: image.reference.clone(), layer: *layer });
            }
        }
        let json = serde_json::to_vec(application).map_err(WriteError::Application)?;
        let raw = tables
            .encode(&json, head.as_ref().map(StubHead::description))
            .ok_or(WriteError::IndexTooLarge(u64::MAX))?;
        if raw.len() as u64 > MAX_INDEX_RAW {
            return Err(WriteError::IndexTooLarge(raw.len() as u64));
        }
        let (tail, trailer) = seal(&raw, frames_length, level)?;
        let Trailer { payload_length, index_stored, .. } = trailer;
        out.write_all(&tail)?;
        let mut file_length = payload_length;
        if let Some(head) = &head {
            file_length += head.bytes().len() as u64;
            let (offset, size) =
                head.size_patch(payload_length).ok_or(WriteError::TooLargeForElf32(payload_length))?;
            out.seek(SeekFrom::Start(offset))?;
            out.write_all(&size)?;
            out.seek(SeekFrom::End(0))?;
        }
        out.flush()?;
        let summary = Summary {
            file_length,
            payload_length,
            index_stored,
            raw_length,
            tar_length,
            frames,
            chunks: chunks.len() as u32,
            digest: trailer.index_digest,
        };
        Ok((out, summary))
    }

    /// Appends references to chunks; returns their length.
    fn references(&mut self, recipe: &LayerRecipe, chunks: &[ChunkRecipe]) -> Result<u64, WriteError> {
        let mut length = 0;
        for &ChunkRecipe { digest, length: chunk_length } in chunks {
            match self.chunks.get(&digest) {
                Some(&(id, known)) if known == chunk_length => self.tables.reference(id),
                _ => return Err(WriteError::Chunk { layer: recipe.diff_id, chunk: digest }),
            }
            length += u64::from(chunk_length);
        }
        Ok(length)
    }
}

/// The stored index and the trailer for frames of this length. Public so that tests can seal indexes that no writer would
/// write.
pub fn seal(raw_index: &[u8], frames_length: u64, level: Level) -> io::Result<(Vec<u8>, Trailer)> {
    let mut tail = compress(raw_index, i32::from(level.get()))?;
    let index_stored = tail.len() as u64;
    let trailer = Trailer {
        incompatible: 0,
        compatible: 0,
        payload_length: frames_length + index_stored + TRAILER_SIZE as u64,
        index_offset: frames_length,
        index_stored,
        index_raw: raw_index.len() as u64,
        annex_length: 0,
        index_digest: Digest::of(&tail),
        annex_digest: Digest::of(b""),
    };
    tail.extend_from_slice(&trailer.encode());
    Ok((tail, trailer))
}
