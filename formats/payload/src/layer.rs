//! A layer as the tar it was: reading, seeking, and where each file's bytes lie.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use crate::frame::{FrameDecoder, FrameError};
use crate::index::{BodyRow, ChunkId, FrameId, Layer};
use crate::payload::Payload;
use crate::read_at::ReadAt;

/// Pieces that one bulk read puts together, so that a layer of single bytes does not fill the memory.
const MAX_PIECES: usize = 1 << 18;

/// The virtual tar of one layer. Only the frames that hold what is read are decompressed: `tar::Archive::entries_with_seek`
/// walks all entries by the skeleton's frames alone.
pub struct LayerReader<'a, R> {
    payload: &'a Payload<R>,
    layer: &'a Layer,
    position: u64,
    /// The frame read last, so that reads in a row do without the cache's lock.
    frame: Option<(FrameId, Arc<Vec<u8>>)>,
}

/// A file body of a layer.
#[derive(Clone)]
pub struct Body<'a, R> {
    payload: &'a Payload<R>,
    row: &'a BodyRow,
}

/// A piece of a body: `frame[frame_range]` is `body[offset..]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The chunk.
    pub chunk: ChunkId,
    /// The frame that holds it.
    pub frame: FrameId,
    /// Where in the decompressed frame.
    pub frame_range: Range<usize>,
    /// Where in the body.
    pub offset: u64,
}

impl<'a, R: ReadAt> LayerReader<'a, R> {
    pub(crate) fn new(payload: &'a Payload<R>, layer: &'a Layer) -> Self {
        Self { payload, layer, position: 0, frame: None }
    }

    /// The layer's row in the index.
    pub fn layer(&self) -> &'a Layer {
        self.layer
    }

    /// All bodies, in the order of the tar.
    pub fn bodies(&self) -> impl ExactSizeIterator<Item = Body<'a, R>> + use<'a, R> {
        let payload = self.payload;
        self.rows().iter().map(move |row| Body { payload, row })
    }

    /// The body that begins at this position of the tar (`tar::Entry::raw_file_position`). None for a file whose bytes
    /// are so few that they stay in the skeleton; those are read through the `LayerReader`.
    pub fn body_at(&self, offset: u64) -> Option<Body<'a, R>> {
        let rows = self.rows();
        let row = rows.binary_search_by_key(&offset, |row| row.offset).ok()?;
        Some(Body { payload: self.payload, row: &rows[row] })
    }

    /// Reads from a position of the tar without moving this reader's own; the number of bytes is 0 only at the end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FrameError> {
        let Some(place) = self.place(offset) else { return Ok(0) };
        let frame = self.payload.frame(place.frame)?;
        Ok(place.copy(&frame, buffer))
    }

    /// Fills the buffer from a position of the tar, decompressing each frame that has a part in it once, past the cache:
    /// for reading all of a layer in few large steps. Bodies lie in frames in another order than in the tar, so reading
    /// in order would decompress frames again and again. Returns the number of
    /// bytes: 0 only at the end of the tar, fewer than asked for there or in a layer of very small pieces.
    pub fn read_bulk(
        &self,
        buffer: &mut [u8],
        offset: u64,
        decoder: &mut FrameDecoder,
    ) -> Result<usize, FrameError> {
        let mut pieces = Vec::new();
        let mut filled = 0;
        while let Some(mut place) = self.place(offset.saturating_add(filled as u64)) {
            let length = place.range.len().min(buffer.len() - filled);
            if length == 0 || pieces.len() == MAX_PIECES {
                break;
            }
            place.range.end = place.range.start + length;
            pieces.push((place, filled));
            filled += length;
        }
        pieces.sort_unstable_by_key(|(place, at)| (place.frame, *at));
        for run in pieces.chunk_by(|(a, _), (b, _)| a.frame == b.frame) {
            let frame = self.payload.read_frame(run[0].0.frame, decoder)?;
            for (place, at) in run {
                place.copy(frame, &mut buffer[*at..]);
            }
        }
        Ok(filled)
    }

    fn rows(&self) -> &'a [BodyRow] {
        let Range { start, end } = self.layer.bodies;
        &self.payload.index().bodies[start as usize..end as usize]
    }

    /// What lies at a position of the tar, up to the end of the chunk or, in the skeleton, the next body.
    fn place(&self, offset: u64) -> Option<Place> {
        if offset >= self.layer.tar_length {
            return None;
        }
        let rows = self.rows();
        let next = rows.partition_point(|row| row.offset <= offset);
        let before = next.checked_sub(1).map(|row| &rows[row]);
        if let Some(body) = before.filter(|body| offset - body.offset < body.length) {
            return Place::find(self.payload, &body.references, offset - body.offset, u64::MAX);
        }
        let end = rows.get(next).map_or(self.layer.tar_length, |row| row.offset);
        let skeleton = match before {
            Some(body) => body.skeleton + (offset - body.offset - body.length),
            None => offset,
        };
        Place::find(self.payload, &self.layer.skeleton, skeleton, end - offset)
    }
}

/// Where some bytes lie.
struct Place {
    frame: FrameId,
    range: Range<usize>,
}

impl Place {
    /// The part of the chunk that holds `offset` of a run of references, from there on, at most `limit` bytes.
    fn find<R: ReadAt>(payload: &Payload<R>, run: &Range<u32>, offset: u64, limit: u64) -> Option<Self> {
        let index = payload.index();
        let rows = run.start as usize..run.end as usize;
        let offsets = index.reference_offsets.get(rows.clone())?;
        let row = offsets.partition_point(|&start| start <= offset).checked_sub(1)?;
        let chunk = payload.chunk(*index.references.get(rows.start + row)?)?;
        let skip = u32::try_from(offset - offsets[row]).ok().filter(|&skip| skip < chunk.length)?;
        let length = u64::from(chunk.length - skip).min(limit);
        let start = (chunk.offset + skip) as usize;
        Some(Self { frame: chunk.frame, range: start..start + length as usize })
    }

    fn copy(&self, frame: &[u8], buffer: &mut [u8]) -> usize {
        let bytes = &frame[self.range.clone()];
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        length
    }
}

impl<R: ReadAt> Read for LayerReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(place) = self.place(self.position) else { return Ok(0) };
        let frame = match &self.frame {
            Some((id, frame)) if *id == place.frame => frame,
            _ => &self.frame.insert((place.frame, self.payload.frame(place.frame)?)).1,
        };
        let length = place.copy(frame, buffer);
        self.position += length as u64;
        Ok(length)
    }
}

impl<R: ReadAt> Seek for LayerReader<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.layer.tar_length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of a layer"))?;
        Ok(self.position)
    }
}

impl<'a, R: ReadAt> Body<'a, R> {
    /// Where it begins in the tar.
    pub fn offset(&self) -> u64 {
        self.row.offset
    }

    /// Its length.
    pub fn length(&self) -> u64 {
        self.row.length
    }

    /// Its pieces in order. To extract a layer, sort all parts of all bodies by frame and decompress each frame once.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = Part> + use<'a, R> {
        let index = self.payload.index();
        let rows = self.row.references.start as usize..self.row.references.end as usize;
        let offsets = &index.reference_offsets[rows.clone()];
        index.references[rows].iter().zip(offsets).map(move |(&id, &offset)| {
            let chunk = &index.chunks[id.0 as usize];
            let start = chunk.offset as usize;
            Part { chunk: id, frame: chunk.frame, frame_range: start..start + chunk.length as usize, offset }
        })
    }

    /// Reads from a position of the body; the number of bytes is 0 only at its end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FrameError> {
        if offset >= self.row.length {
            return Ok(0);
        }
        let Some(place) = Place::find(self.payload, &self.row.references, offset, u64::MAX) else {
            return Ok(0);
        };
        let frame = self.payload.frame(place.frame)?;
        Ok(place.copy(&frame, buffer))
    }
}
