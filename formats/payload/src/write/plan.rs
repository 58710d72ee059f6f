//! Planning frames: which chunks go together, in which order.
//!
//! Skeletons come first, in frames of their own, so that a layer's entries can be listed from few bytes. Bodies follow,
//! like beside like. Frames end where the content says so, not at round sizes: then a changed file changes its frame and
//! leaves the others as they were, for the frame cache and for deltas.

use std::collections::HashSet;

use super::level::Level;
use super::recipe::{ChunkRecipe, LayerRecipe};
use crate::digest::{DiffId, Digest};
use crate::layout::VERSION;

/// A frame to be compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramePlan {
    /// Names the compressed result: digest of level, zstd's version, format version and chunks. A cache may keep
    /// `StoredFrame::sealed` under it.
    pub key: Digest,
    /// The level.
    pub level: Level,
    /// Bytes before compression.
    pub raw_length: u32,
    /// The chunks in order.
    pub chunks: Vec<PlannedChunk>,
}

/// A chunk in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedChunk {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Length of the content.
    pub length: u32,
    /// Where to get the content: the first of the places that have it.
    pub source: ChunkSource,
}

/// Where a chunk's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSource {
    /// The layer.
    pub layer: DiffId,
    /// Where in it.
    pub place: Place,
}

/// A position in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `LayerRecipe::skeleton`.
    Skeleton(u64),
    /// In the tar.
    Tar(u64),
}

/// A chunk before it has a frame.
struct Candidate<'a> {
    chunk: PlannedChunk,
    kind: &'a str,
    path: &'a str,
}

impl<'a> Candidate<'a> {
    fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Sorts the chunks of all layers into frames, each chunk once.
pub fn plan_frames<'a>(recipes: impl IntoIterator<Item = &'a LayerRecipe>, level: Level) -> Vec<FramePlan> {
    let recipes: Vec<_> = recipes.into_iter().collect();
    let mut seen = HashSet::new();
    let mut skeletons = Vec::new();
    for recipe in &recipes {
        collect(&mut skeletons, &mut seen, &recipe.skeleton_chunks, 0, |place| {
            (ChunkSource { layer: recipe.diff_id, place: Place::Skeleton(place) }, "", "")
        });
    }
    let mut bodies = Vec::new();
    for recipe in &recipes {
        for body in &recipe.bodies {
            collect(&mut bodies, &mut seen, &body.chunks, body.offset, |place| {
                (ChunkSource { layer: recipe.diff_id, place: Place::Tar(place) }, &body.kind, &body.path)
            });
        }
    }
    // By name before path: `__init__.py` is most like other `__init__.py`, and a library like its other version. Stable, so
    // the pieces of one file and equal paths stay in the order of the layers.
    bodies.sort_by_cached_key(|body| (body.kind, body.name(), body.path));

    let mut frames = Vec::new();
    for group in [skeletons, bodies] {
        cut(&mut frames, &group, level);
    }
    frames
}

fn collect<'a>(
    candidates: &mut Vec<Candidate<'a>>,
    seen: &mut HashSet<Digest>,
    chunks: &[ChunkRecipe],
    mut offset: u64,
    describe: impl Fn(u64) -> (ChunkSource, &'a str, &'a str),
) {
    for &ChunkRecipe { digest, length } in chunks {
        if seen.insert(digest) {
            let (source, kind, path) = describe(offset);
            candidates.push(Candidate { chunk: PlannedChunk { digest, length, source }, kind, path });
        }
        offset += u64::from(length);
    }
}

/// Cuts a sequence into frames of half to one and a half times the target.
fn cut(frames: &mut Vec<FramePlan>, candidates: &[Candidate<'_>], level: Level) {
    let target = level.frame_target();
    let (least, most) = (target / 2, target + target / 2);
    let (mut chunks, mut raw_length) = (Vec::new(), 0_u32);
    for candidate in candidates {
        let chunk = candidate.chunk;
        if raw_length + chunk.length > most && !chunks.is_empty() {
            frames.push(FramePlan::new(level, raw_length, std::mem::take(&mut chunks)));
            raw_length = 0;
        }
        chunks.push(chunk);
        raw_length += chunk.length;
        if raw_length >= least && ends_frame(&chunk, least) {
            frames.push(FramePlan::new(level, raw_length, std::mem::take(&mut chunks)));
            raw_length = 0;
        }
    }
    if !chunks.is_empty() {
        frames.push(FramePlan::new(level, raw_length, chunks));
    }
}

/// Whether a chunk is of those that end a frame: once in `distance` bytes on average, decided by its digest alone.
fn ends_frame(chunk: &PlannedChunk, distance: u32) -> bool {
    let [a, b, c, d, ..] = *chunk.digest.as_bytes();
    let chance = u64::from(chunk.length) * (u64::from(u32::MAX) + 1) / u64::from(distance);
    u64::from(u32::from_le_bytes([a, b, c, d])) < chance
}

impl FramePlan {
    fn new(level: Level, raw_length: u32, chunks: Vec<PlannedChunk>) -> Self {
        let mut text = Vec::with_capacity(16 + chunks.len() * 32);
        text.extend_from_slice(&VERSION.to_le_bytes());
        text.extend_from_slice(&zstd::zstd_safe::version_number().to_le_bytes());
        text.push(level.get());
        for chunk in &chunks {
            text.extend_from_slice(chunk.digest.as_bytes());
        }
        Self { key: Digest::of(&text), level, raw_length, chunks }
    }
}
