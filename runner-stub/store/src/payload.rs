//! A payload as a source of layers.

use std::io::{self, Read, Seek, SeekFrom};

use dpack_payload::digest::DiffId;
use dpack_payload::{FrameDecoder, FrameId, LayerReader, Payload, ReadAt};

use crate::source::{Chunk, Source, Tar};

impl<R: ReadAt> Source for Payload<R> {
    type Decoder = FrameDecoder;
    type Tar<'a>
        = LayerReader<'a, R>
    where
        R: 'a;

    fn decoder(&self) -> io::Result<FrameDecoder> {
        FrameDecoder::new()
    }

    fn tar(&self, diff_id: &DiffId) -> Option<LayerReader<'_, R>> {
        self.layer(diff_id)
    }

    fn frame<'a>(&self, decoder: &'a mut FrameDecoder, frame: u32) -> io::Result<&'a [u8]> {
        Ok(self.read_frame(FrameId(frame), decoder)?)
    }
}

impl<R: ReadAt> Tar for LayerReader<'_, R> {
    fn length(&self) -> u64 {
        self.layer().tar_length
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.seek(SeekFrom::Start(position))?;
        self.read_exact(buffer)
    }

    fn body_at(&self, position: u64) -> Option<impl Iterator<Item = Chunk>> {
        let parts = LayerReader::body_at(self, position)?.parts();
        Some(parts.map(|part| Chunk {
            frame: part.frame.0,
            // Offsets in a frame are u32 in the index.
            offset: part.frame_range.start as u32,
            length: part.frame_range.len() as u32,
        }))
    }
}
