//! Checking all of a file: every byte of it is covered by some hash (FORMAT.md, "What is covered by what").

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::digest::{DiffId, Digest};
use crate::elf::{Extent, hash_masked, program_digest};
use crate::frame::{FrameDecoder, FrameError};
use crate::index::{ChunkId, FrameId, Head};
use crate::payload::{Found, Payload};
use crate::read_at::ReadAt;

/// Bytes of a tar that are put together in memory at once.
const WINDOW: u64 = 32 << 20;

/// What stands before the payload, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadState {
    /// Byte for byte as it was written.
    Intact,
    /// Another tool (`strip`, `objcopy`) rewrote the file, but what the kernel loads is what was written.
    Rewritten,
    /// There is none: the payload is a file of its own.
    Absent,
}

/// Why a file is not what dpack wrote.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file could not be read, or the output not written.
    #[error("failed to read the file, or to write what it holds")]
    Read(#[from] io::Error),
    /// The ELF part was changed.
    #[error("the runner in front of the payload is damaged\nhint: copy the file again")]
    Head,
    /// A frame is damaged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A chunk is not the one it is said to be.
    #[error("chunk {} is damaged: its SHA-256 is not the one in the index", .0.0)]
    Chunk(ChunkId),
    /// A layer's tar is not the one it is said to be.
    #[error("layer {0} is damaged: its tar has another SHA-256")]
    Layer(DiffId),
}

impl<R: ReadAt> Payload<R> {
    /// Compares what stands before the payload with what the index says of it.
    pub fn verify_head(&self) -> Result<HeadState, VerifyError> {
        let Some(head) = self.index().head else {
            return if self.offset() == 0 { Ok(HeadState::Absent) } else { Err(VerifyError::Head) };
        };
        if self.offset() == 0 {
            return Ok(HeadState::Absent);
        }
        if self.offset() == head.length && self.head_is_intact(&head)? {
            return Ok(HeadState::Intact);
        }
        let rewritten = self.found() == Found::BySection
            && program_digest(self.source(), self.source().size()?)? == Some(head.program_digest);
        if rewritten { Ok(HeadState::Rewritten) } else { Err(VerifyError::Head) }
    }

    fn head_is_intact(&self, head: &Head) -> io::Result<bool> {
        let size_field = Extent { offset: head.size_field, length: u64::from(head.size_width) };
        // The field itself is known: it is the payload's length.
        let mut size = [0; 8];
        self.source().read_exact_at(&mut size[..head.size_width as usize], head.size_field)?;
        let mut hash = Sha256::new();
        hash_masked(&mut hash, self.source(), Extent { offset: 0, length: head.length }, &[size_field])?;
        let digest = Digest::from_bytes(hash.finalize().into());
        Ok(digest == head.digest && u64::from_le_bytes(size) == self.trailer().payload_length)
    }

    /// Verifies one frame and the chunks in it. Frames are independent: threads may share them out.
    pub fn verify_frame(&self, id: FrameId, decoder: &mut FrameDecoder) -> Result<(), VerifyError> {
        let raw = self.read_frame(id, decoder)?;
        let frame = &self.index().frames()[id.0 as usize];
        let first = frame.first_chunk as usize;
        let chunks = &self.index().chunks()[first..first + frame.chunk_count as usize];
        for (number, chunk) in (frame.first_chunk..).zip(chunks) {
            let start = chunk.offset as usize;
            if Digest::of(&raw[start..start + chunk.length as usize]) != chunk.digest {
                return Err(VerifyError::Chunk(ChunkId(number)));
            }
        }
        Ok(())
    }

    /// Puts a layer's tar together and compares it with its diff ID. Decompresses each frame once for every
    /// 32 MiB of tar.
    pub fn verify_layer(&self, diff_id: &DiffId) -> Result<(), VerifyError> {
        self.write_tar(diff_id, io::sink())
    }

    /// Writes out a layer's tar, in order and byte for byte as it was, and compares it with its diff ID at the end.
    pub fn write_tar(&self, diff_id: &DiffId, mut out: impl Write) -> Result<(), VerifyError> {
        let layer = self.layer(diff_id).ok_or(VerifyError::Layer(*diff_id))?;
        let length = layer.layer().tar_length;
        let mut window = vec![0; WINDOW.min(length) as usize];
        let mut decoder = FrameDecoder::new()?;
        let mut hash = Sha256::new();
        let mut position = 0;
        while position < length {
            let filled = layer.read_bulk(&mut window, position, &mut decoder)?;
            if filled == 0 {
                return Err(VerifyError::Layer(*diff_id));
            }
            hash.update(&window[..filled]);
            out.write_all(&window[..filled])?;
            position += filled as u64;
        }
        if Digest::from_bytes(hash.finalize().into()) == *diff_id {
            Ok(())
        } else {
            Err(VerifyError::Layer(*diff_id))
        }
    }

    /// Verifies head, frames and chunks: with the index, which `open` verified, every byte of the file. That the tables
    /// put the chunks together to the right tars was the writer's business; `verify_layer` checks it.
    pub fn verify(&self) -> Result<HeadState, VerifyError> {
        let head = self.verify_head()?;
        let mut decoder = FrameDecoder::new()?;
        for id in 0..self.index().frames().len() as u32 {
            self.verify_frame(FrameId(id), &mut decoder)?;
        }
        Ok(head)
    }
}
