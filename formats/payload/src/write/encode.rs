//! The index as bytes: the mirror of `Index::parse`.

use crate::digest::Digest;
use crate::index::Head;
use crate::layout::{
    BODY_SIZE, CHUNK_SIZE, FRAME_SIZE, HEADER_SIZE, INDEX_MAGIC, LAYER_SIZE, REFERENCE_SIZE,
};

/// The tables while they grow.
#[derive(Default)]
pub(super) struct Tables {
    frames: Vec<u8>,
    chunks: Vec<u8>,
    layers: Vec<u8>,
    bodies: Vec<u8>,
    references: Vec<u8>,
}

impl Tables {
    pub(super) fn frame(&mut self, stored_length: u32, raw_length: u32, chunk_count: u32, digest: &Digest) {
        for field in [stored_length, raw_length, chunk_count, 0] {
            self.frames.extend_from_slice(&field.to_le_bytes());
        }
        self.frames.extend_from_slice(digest.as_bytes());
    }

    pub(super) fn chunk(&mut self, length: u32, digest: &Digest) {
        self.chunks.extend_from_slice(&length.to_le_bytes());
        self.chunks.extend_from_slice(digest.as_bytes());
    }

    pub(super) fn layer(&mut self, diff_id: &Digest, tar_length: u64, body_count: u32, skeleton_count: u32) {
        self.layers.extend_from_slice(diff_id.as_bytes());
        self.layers.extend_from_slice(&tar_length.to_le_bytes());
        self.layers.extend_from_slice(&body_count.to_le_bytes());
        self.layers.extend_from_slice(&skeleton_count.to_le_bytes());
    }

    pub(super) fn body(&mut self, gap: u64, reference_count: u32) {
        self.bodies.extend_from_slice(&gap.to_le_bytes());
        self.bodies.extend_from_slice(&reference_count.to_le_bytes());
        self.bodies.extend_from_slice(&0_u32.to_le_bytes());
    }

    pub(super) fn reference(&mut self, chunk: u32) {
        self.references.extend_from_slice(&chunk.to_le_bytes());
    }

    /// Header, tables, application. `None` where a table has more rows than a u32 counts.
    pub(super) fn encode(&self, application: &[u8], head: Option<&Head>) -> Option<Vec<u8>> {
        let tables: [(&[u8], usize); 6] = [
            (&self.frames, FRAME_SIZE),
            (&self.chunks, CHUNK_SIZE),
            (&self.layers, LAYER_SIZE),
            (&self.bodies, BODY_SIZE),
            (&self.references, REFERENCE_SIZE),
            (application, 1),
        ];
        let mut raw =
            Vec::with_capacity(HEADER_SIZE + tables.iter().map(|(table, _)| table.len()).sum::<usize>());
        raw.extend_from_slice(&INDEX_MAGIC);
        for (table, row) in tables {
            raw.extend_from_slice(&u32::try_from(table.len() / row).ok()?.to_le_bytes());
        }
        let nothing = Digest::from_bytes([0; 32]);
        let (length, size_field, size_width) =
            head.map_or((0, 0, 0), |head| (head.length, head.size_field, head.size_width));
        raw.extend_from_slice(&length.to_le_bytes());
        raw.extend_from_slice(&size_field.to_le_bytes());
        raw.extend_from_slice(&size_width.to_le_bytes());
        raw.extend_from_slice(&[0; 12]);
        raw.extend_from_slice(head.map_or(&nothing, |head| &head.digest).as_bytes());
        raw.extend_from_slice(head.map_or(&nothing, |head| &head.program_digest).as_bytes());
        debug_assert_eq!(raw.len(), HEADER_SIZE);
        for (table, _) in tables {
            raw.extend_from_slice(table);
        }
        Some(raw)
    }
}
