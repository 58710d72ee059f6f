//! What a layer's tar was split into: enough to plan frames and write the layer's tables without the tar at hand.

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};

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
    pub skeleton: Vec<u8>,
}

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

/// First bytes of an encoded recipe; the number changes whenever splitting does.
const MAGIC: [u8; 8] = *b"DPRECIP1";

impl LayerRecipe {
    /// As bytes for a cache: magic, SHA-256 of the rest, then zstd of JSON and skeleton.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut raw = Vec::with_capacity(8 + json.len() + self.skeleton.len());
        raw.extend_from_slice(&(json.len() as u64).to_le_bytes());
        raw.extend_from_slice(&json);
        raw.extend_from_slice(&self.skeleton);
        let packed = zstd::bulk::compress(&raw, 3)?;
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
        let raw = zstd::stream::decode_all(packed).ok()?;
        let (length, rest) = raw.split_first_chunk()?;
        let (json, skeleton) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let mut recipe: Self = serde_json::from_slice(json).ok()?;
        recipe.skeleton = skeleton.to_vec();
        Some(recipe)
    }
}
