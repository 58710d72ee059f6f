//! The index: what frames, chunks and layers a payload has, parsed into tables that cannot contradict each other.
//!
//! ```text
//! header | frames | chunks | layers | bodies | references | application JSON
//! ```
//!
//! The tables hold lengths; every position is a sum of what stands before it, made once while parsing. Invariants of a
//! parsed index, on which the readers rely: frames tile the bytes before the stored index; the chunks of a frame tile
//! its raw bytes; every reference names a chunk; skeleton and bodies of a layer add up to its tar.

use std::collections::HashMap;
use std::ops::Range;

use crate::application::Application;
use crate::digest::{DiffId, Digest};
use crate::layout::{
    BODY_SIZE, CHUNK_SIZE, FRAME_SIZE, Fields, HEADER_SIZE, INDEX_MAGIC, LAYER_SIZE, REFERENCE_SIZE,
};
use crate::limits::{MAX_CHUNK, MAX_FRAME_RAW, MAX_FRAME_STORED, MAX_HEAD};

/// Position of a frame in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId(pub u32);

/// Position of a chunk in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u32);

/// One independent zstd frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins, from the payload's start.
    pub offset: u64,
    /// Bytes in the file.
    pub stored_length: u32,
    /// Bytes it decompresses to.
    pub raw_length: u32,
    /// Its first chunk.
    pub first_chunk: u32,
    /// How many chunks it holds.
    pub chunk_count: u32,
    /// SHA-256 of the bytes in the file.
    pub digest: Digest,
}

/// A piece of content, stored once however often it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The frame that holds it.
    pub frame: FrameId,
    /// Where it begins in the decompressed frame.
    pub offset: u32,
    /// Its length.
    pub length: u32,
    /// SHA-256 of its content.
    pub digest: Digest,
}

/// One layer: a tar cut into skeleton and bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// SHA-256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_length: u64,
    /// Rows of the reference table that make up the skeleton.
    pub(crate) skeleton: Range<u32>,
    /// Rows of the body table.
    pub(crate) bodies: Range<u32>,
}

/// A file body of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BodyRow {
    /// Where it begins in the tar.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) length: u64,
    /// Bytes of the skeleton that come before it.
    pub(crate) skeleton: u64,
    /// Rows of the reference table.
    pub(crate) references: Range<u32>,
}

/// What stood before the payload when it was spliced onto a stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length: the payload begins here.
    pub length: u64,
    /// Where the section header keeps the payload's size, which counts as zero in `digest`.
    pub size_field: u64,
    /// Bytes of that field: 4 in ELF32, 8 in ELF64.
    pub size_width: u32,
    /// SHA-256 of the head.
    pub digest: Digest,
    /// SHA-256 of what the kernel loads, which `strip` leaves as it is (FORMAT.md, "Program digest").
    pub program_digest: Digest,
}

/// Why an index is refused.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Too short, or the magic is missing.
    #[error("the index has no header")]
    Header,
    /// The tables are longer or shorter than the index.
    #[error("the index's tables do not fill it exactly")]
    Size,
    /// A table row contradicts the others.
    #[error("{table} {row} of the index is invalid: {reason}")]
    Row {
        /// Which table.
        table: &'static str,
        /// Which row.
        row: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A table has rows that nothing uses.
    #[error("the index's {0} table does not add up")]
    Sum(&'static str),
    /// The description of the head makes no sense.
    #[error("the index describes an impossible stub")]
    Head,
    /// The application is no valid JSON of its type.
    #[error("the index's application description is invalid")]
    Application(#[source] serde_json::Error),
}

/// The parsed index.
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) frames: Vec<Frame>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) bodies: Vec<BodyRow>,
    pub(crate) references: Vec<ChunkId>,
    /// Of each reference, where its chunk begins in the body or skeleton.
    pub(crate) reference_offsets: Vec<u64>,
    layer_by_diff_id: HashMap<DiffId, u32>,
    /// The application.
    pub application: Application,
    /// The stub, where the payload was spliced onto one.
    pub head: Option<Head>,
}

impl Index {
    /// Parses a decompressed index of a payload whose frames take `frames_length` bytes.
    pub fn parse(raw: &[u8], frames_length: u64) -> Result<Self, IndexError> {
        let mut fields = Fields(raw);
        if raw.len() < HEADER_SIZE || fields.bytes() != INDEX_MAGIC {
            return Err(IndexError::Header);
        }
        let [frames, chunks, layers, bodies, references, application] = [(); 6].map(|()| fields.u32());
        let head = parse_head(&mut fields)?;
        let tables = [
            (frames, FRAME_SIZE),
            (chunks, CHUNK_SIZE),
            (layers, LAYER_SIZE),
            (bodies, BODY_SIZE),
            (references, REFERENCE_SIZE),
            (application, 1),
        ];
        // u32 counts times small sizes: no overflow in u64. Nothing is allocated before this check.
        let size: u64 = tables.iter().map(|&(rows, row)| u64::from(rows) * row as u64).sum();
        if size + HEADER_SIZE as u64 != raw.len() as u64 {
            return Err(IndexError::Size);
        }
        let [frame_table, chunk_table, layer_table, body_table, reference_table, json] =
            tables.map(|(rows, row)| fields.table(rows, row));

        let frames = parse_frames(frame_table, chunks, frames_length)?;
        let chunks = parse_chunks(chunk_table, &frames)?;
        let (references, mut reference_offsets) = parse_references(reference_table, chunks.len())?;
        let (layers, bodies) =
            parse_layers(layer_table, body_table, &chunks, &references, &mut reference_offsets)?;
        let mut layer_by_diff_id = HashMap::with_capacity(layers.len());
        for (row, layer) in (0..).zip(&layers) {
            if layer_by_diff_id.insert(layer.diff_id, row).is_some() {
                return Err(IndexError::Row { table: "layer", row, reason: "its diff ID occurs twice" });
            }
        }
        let application = serde_json::from_slice(json).map_err(IndexError::Application)?;
        Ok(Self {
            frames,
            chunks,
            layers,
            bodies,
            references,
            reference_offsets,
            layer_by_diff_id,
            application,
            head,
        })
    }

    /// All frames, in the order of the file.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// All chunks, in the order of the frames.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// All layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layer with this diff ID.
    pub fn layer(&self, diff_id: &DiffId) -> Option<&Layer> {
        self.layer_by_diff_id.get(diff_id).and_then(|&row| self.layers.get(row as usize))
    }
}

fn parse_head(fields: &mut Fields<'_>) -> Result<Option<Head>, IndexError> {
    let head = Head {
        length: fields.u64(),
        size_field: fields.u64(),
        size_width: fields.u32(),
        digest: {
            let _reserved = (fields.u32(), fields.u64());
            fields.digest()
        },
        program_digest: fields.digest(),
    };
    if head.length == 0 {
        return Ok(None);
    }
    let end = head.size_field.checked_add(u64::from(head.size_width));
    let possible = head.length <= MAX_HEAD && matches!(head.size_width, 4 | 8);
    match end {
        Some(end) if possible && end <= head.length => Ok(Some(head)),
        _ => Err(IndexError::Head),
    }
}

fn parse_frames(table: &[u8], chunk_count: u32, frames_length: u64) -> Result<Vec<Frame>, IndexError> {
    let mut frames = Vec::with_capacity(table.len() / FRAME_SIZE);
    let (mut offset, mut first_chunk) = (0_u64, 0_u32);
    for (row, bytes) in (0..).zip(table.chunks_exact(FRAME_SIZE)) {
        let error = |reason| IndexError::Row { table: "frame", row, reason };
        let mut fields = Fields(bytes);
        let frame = Frame {
            offset,
            stored_length: fields.u32(),
            raw_length: fields.u32(),
            first_chunk,
            chunk_count: fields.u32(),
            digest: {
                let _reserved = fields.u32();
                fields.digest()
            },
        };
        if frame.raw_length == 0 || frame.raw_length > MAX_FRAME_RAW || frame.stored_length > MAX_FRAME_STORED
        {
            return Err(error("its length is out of bounds"));
        }
        if frame.chunk_count == 0 {
            return Err(error("it has no chunks"));
        }
        offset += u64::from(frame.stored_length);
        first_chunk = first_chunk
            .checked_add(frame.chunk_count)
            .filter(|&end| end <= chunk_count)
            .ok_or_else(|| error("it has more chunks than there are"))?;
        frames.push(frame);
    }
    if offset != frames_length || first_chunk != chunk_count {
        return Err(IndexError::Sum("frame"));
    }
    Ok(frames)
}

/// The frames' chunk counts add up to the rows of the table: `parse_frames` saw to it.
fn parse_chunks(table: &[u8], frames: &[Frame]) -> Result<Vec<Chunk>, IndexError> {
    let mut chunks = Vec::with_capacity(table.len() / CHUNK_SIZE);
    let mut rows = table.chunks_exact(CHUNK_SIZE);
    for (number, frame) in (0..).zip(frames) {
        let mut offset = 0_u32;
        for (row, bytes) in (frame.first_chunk..).zip(rows.by_ref().take(frame.chunk_count as usize)) {
            let error = |reason| IndexError::Row { table: "chunk", row, reason };
            let mut fields = Fields(bytes);
            let chunk =
                Chunk { frame: FrameId(number), offset, length: fields.u32(), digest: fields.digest() };
            if chunk.length == 0 || chunk.length > MAX_CHUNK {
                return Err(error("its length is out of bounds"));
            }
            offset = offset
                .checked_add(chunk.length)
                .filter(|&end| end <= frame.raw_length)
                .ok_or_else(|| error("it does not fit into its frame"))?;
            chunks.push(chunk);
        }
        if offset != frame.raw_length {
            return Err(IndexError::Row { table: "frame", row: number, reason: "its chunks do not fill it" });
        }
    }
    Ok(chunks)
}

fn parse_references(table: &[u8], chunk_count: usize) -> Result<(Vec<ChunkId>, Vec<u64>), IndexError> {
    let references: Vec<ChunkId> =
        table.chunks_exact(REFERENCE_SIZE).map(|bytes| ChunkId(Fields(bytes).u32())).collect();
    match references.iter().position(|chunk| chunk.0 as usize >= chunk_count) {
        Some(row) => {
            Err(IndexError::Row { table: "reference", row: row as u32, reason: "there is no such chunk" })
        }
        None => {
            let offsets = vec![0; references.len()];
            Ok((references, offsets))
        }
    }
}

/// Hands out the rows of the reference table in order.
struct References<'a> {
    chunks: &'a [Chunk],
    references: &'a [ChunkId],
    offsets: &'a mut [u64],
    next: u32,
}

impl References<'_> {
    /// Takes `count` rows and sums up their chunks' lengths.
    fn take(&mut self, count: u32) -> Option<(Range<u32>, u64)> {
        let end = self.next.checked_add(count)?;
        let rows = self.next as usize..end as usize;
        let mut length = 0_u64;
        for (chunk, offset) in self.references.get(rows.clone())?.iter().zip(self.offsets.get_mut(rows)?) {
            *offset = length;
            length = length.checked_add(u64::from(self.chunks[chunk.0 as usize].length))?;
        }
        let range = self.next..end;
        self.next = end;
        Some((range, length))
    }
}

fn parse_layers(
    layer_table: &[u8],
    body_table: &[u8],
    chunks: &[Chunk],
    references: &[ChunkId],
    offsets: &mut [u64],
) -> Result<(Vec<Layer>, Vec<BodyRow>), IndexError> {
    let mut layers = Vec::with_capacity(layer_table.len() / LAYER_SIZE);
    let mut bodies = Vec::with_capacity(body_table.len() / BODY_SIZE);
    let mut body_rows = body_table.chunks_exact(BODY_SIZE);
    let mut references = References { chunks, references, offsets, next: 0 };
    for (row, bytes) in (0..).zip(layer_table.chunks_exact(LAYER_SIZE)) {
        let error = |reason| IndexError::Row { table: "layer", row, reason };
        let mut fields = Fields(bytes);
        let diff_id = fields.digest();
        let (tar_length, body_count, skeleton_count) = (fields.u64(), fields.u32(), fields.u32());
        let (skeleton, skeleton_length) = references
            .take(skeleton_count)
            .ok_or_else(|| error("its skeleton has more chunks than there are"))?;
        let first_body = bodies.len() as u32;
        if body_count as usize > body_rows.len() {
            return Err(error("it has more bodies than there are"));
        }
        // `before` counts the skeleton, `offset` the tar.
        let (mut before, mut offset) = (0_u64, 0_u64);
        for bytes in body_rows.by_ref().take(body_count as usize) {
            let error = |reason| IndexError::Row { table: "body", row: bodies.len() as u32, reason };
            let mut fields = Fields(bytes);
            let (gap, count) = (fields.u64(), fields.u32());
            let (rows, length) = references
                .take(count)
                .filter(|(rows, _)| !rows.is_empty())
                .ok_or_else(|| error("it has no chunks, or more than there are"))?;
            before = before
                .checked_add(gap)
                .filter(|&before| before <= skeleton_length)
                .ok_or_else(|| error("it lies behind the skeleton's end"))?;
            offset = offset.checked_add(gap).ok_or_else(|| error("it lies behind the tar's end"))?;
            let body = BodyRow { offset, length, skeleton: before, references: rows };
            offset = offset.checked_add(length).ok_or_else(|| error("it ends behind the tar's end"))?;
            bodies.push(body);
        }
        if offset.checked_add(skeleton_length - before) != Some(tar_length) {
            return Err(error("skeleton and bodies do not add up to its tar"));
        }
        layers.push(Layer { diff_id, tar_length, skeleton, bodies: first_body..bodies.len() as u32 });
    }
    if body_rows.len() != 0 {
        return Err(IndexError::Sum("body"));
    }
    if references.next as usize != references.references.len() {
        return Err(IndexError::Sum("reference"));
    }
    Ok((layers, bodies))
}
