//! What a layer's tar was split into: enough to plan frames and write the layer's tables without the tar at hand.

use std::io;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::read_at::ReadAt as _;

/// A layer cut into skeleton and bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecipe {
    /// SHA-256 of the tar.
    pub diff_id: DiffId,
    /// Bytes of the tar.
    pub tar_length: u64,
    /// The chunks of the skeleton.
    pub skeleton_chunks: Vec<ChunkRecipe>,
    /// The bodies, in the order of the tar.
    pub bodies: Vec<BodyRecipe>,
    /// All bytes of the tar that belong to no body.
    #[serde(skip)]
    pub skeleton: Skeleton,
}

/// Bytes of a skeleton. Those from a cache are decompressed when they are first asked for: a build that finds all its frames
/// never asks, and they are most of a recipe.
#[derive(Clone, Debug, Default)]
pub struct Skeleton {
    packed: Vec<u8>,
    raw: OnceLock<Option<Vec<u8>>>,
}

impl Skeleton {
    fn packed(packed: &[u8]) -> Self {
        Self { packed: packed.to_vec(), raw: OnceLock::new() }
    }

    /// Fills `buffer` from `offset` on. Fails when there are not so many bytes, or what was in the cache is no zstd frame.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.bytes().ok_or(io::ErrorKind::InvalidData)?.read_exact_at(buffer, offset)
    }

    fn bytes(&self) -> Option<&[u8]> {
        self.raw.get_or_init(|| unpack(&self.packed)).as_deref()
    }
}

impl From<Vec<u8>> for Skeleton {
    fn from(raw: Vec<u8>) -> Self {
        Self { packed: Vec::new(), raw: OnceLock::from(Some(raw)) }
    }
}

impl PartialEq for Skeleton {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Skeleton {}

/// One file body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRecipe {
    /// Where it begins in the tar.
    pub offset: u64,
    /// Path in the tar, lossily as text; only the order of chunks in frames depends on it.
    pub path: String,
    /// What sort of file it is, such as `py` or `elf-62`; like is compressed with like.
    pub kind: String,
    /// Its chunks in order.
    pub chunks: Vec<ChunkRecipe>,
}

/// A chunk's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecipe {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Length of the content; never 0.
    pub length: u32,
}

/// Why some bytes are no recipe.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Not what `encode` wrote, or of another version.
    #[error("the cached layer recipe is damaged or of another version")]
    Damaged,
}

impl BodyRecipe {
    /// Its length.
    pub fn length(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.length)).sum()
    }
}

/// First bytes of an encoded recipe; the number changes whenever splitting or encoding does.
const MAGIC: [u8; 8] = *b"DPRECIP2";

impl LayerRecipe {
    /// As bytes for a cache: magic, SHA-256 of the rest, length of the first of two zstd frames, JSON and skeleton in them.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let skeleton = self.skeleton.bytes().ok_or(io::ErrorKind::InvalidData)?;
        let json = zstd::bulk::compress(&serde_json::to_vec(self)?, 3)?;
        let length = (json.len() as u64).to_le_bytes();
        let packed = [&length[..], &json, &zstd::bulk::compress(skeleton, 3)?].concat();
        Ok([&MAGIC[..], Digest::of(&packed).as_bytes(), &packed].concat())
    }

    /// The inverse. A cache is not trusted to be undamaged, but to be one's own: sizes are not bounded.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecipeError> {
        Self::try_decode(bytes).ok_or(RecipeError::Damaged)
    }

    fn try_decode(bytes: &[u8]) -> Option<Self> {
        let (digest, packed) = bytes.strip_prefix(&MAGIC)?.split_at_checked(32)?;
        if Digest::of(packed).as_bytes() != digest {
            return None;
        }
        let (length, frames) = packed.split_first_chunk()?;
        let (json, skeleton) = frames.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let mut recipe: Self = serde_json::from_slice(&unpack(json)?).ok()?;
        recipe.skeleton = Skeleton::packed(skeleton);
        Some(recipe)
    }
}

/// What is in a zstd frame that says how much that is.
fn unpack(frame: &[u8]) -> Option<Vec<u8>> {
    let length = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten()?;
    zstd::bulk::decompress(frame, usize::try_from(length).ok()?).ok()
}
