//! The fixed byte layouts of FORMAT.md: trailer, index header, table rows. All little-endian.
//!
//! Nothing here says where a thing lies if it can be derived: frames, chunks, bodies are tables of *lengths* in order, so
//! overlaps and holes cannot be written down.

use crate::digest::Digest;
use crate::limits::{MAX_ANNEX, MAX_INDEX_RAW, MAX_INDEX_STORED};

/// First bytes of a trailer; with the high bit and both line ends of PNG's, so that text-mode transfers are noticed.
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"\x89DPACK\r\n";
/// First bytes of a raw index.
pub(crate) const INDEX_MAGIC: [u8; 8] = *b"DPACKIDX";
/// Version of the format.
pub const VERSION: u32 = 1;
/// Incompatible feature bits that this reader knows; any other bit makes it refuse the payload.
pub(crate) const INCOMPATIBLE: u64 = 0;

/// Size of the trailer.
pub const TRAILER_SIZE: usize = 176;
/// Size of the index header.
pub(crate) const HEADER_SIZE: usize = 128;
/// Size of a row of the frame table.
pub(crate) const FRAME_SIZE: usize = 48;
/// Size of a row of the chunk table.
pub(crate) const CHUNK_SIZE: usize = 36;
/// Size of a row of the layer table.
pub(crate) const LAYER_SIZE: usize = 48;
/// Size of a row of the body table.
pub(crate) const BODY_SIZE: usize = 16;
/// Size of a row of the reference table.
pub(crate) const REFERENCE_SIZE: usize = 4;

/// Reads fields one after the other from a slice whose length was checked before.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    // Called for each row of the tables, by each command: a call of a function costs more than the field.
    #[inline(always)]
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }

    #[inline(always)]
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    #[inline(always)]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    #[inline(always)]
    pub(crate) fn digest(&mut self) -> Digest {
        Digest::from_bytes(self.bytes())
    }

    /// Takes a table of `rows` rows.
    pub(crate) fn table(&mut self, rows: u32, row: usize) -> &'a [u8] {
        let (table, rest) = self.0.split_at((rows as usize).saturating_mul(row).min(self.0.len()));
        self.0 = rest;
        table
    }
}

/// The last bytes of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Feature bits of which a reader must know every one that is set.
    pub incompatible: u64,
    /// Feature bits that a reader may ignore.
    pub compatible: u64,
    /// Bytes of the payload, trailer included.
    pub payload_length: u64,
    /// Where the index begins, from the payload's start; the frames fill everything before it.
    pub index_offset: u64,
    /// Bytes of the index in the file.
    pub index_stored: u64,
    /// Bytes of the index once decompressed.
    pub index_raw: u64,
    /// Bytes between index and trailer for additions that old readers may ignore, such as a signature; 0 in version 1.
    pub annex_length: u64,
    /// SHA-256 of the stored index.
    pub index_digest: Digest,
    /// SHA-256 of the annex.
    pub annex_digest: Digest,
}

/// Why some bytes are no trailer that can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrailerError {
    /// The magic is missing.
    #[error("the payload's trailer is missing: the file is damaged or cut off\nhint: copy the file again")]
    Missing,
    /// The checksum is wrong.
    #[error("the payload's trailer is damaged\nhint: copy the file again")]
    Damaged,
    /// Written by a later dpack.
    #[error(
        "payload format version {0} is unknown to this reader (it knows version {VERSION})\nhint: use a newer dpack"
    )]
    Version(u32),
    /// Written by a later dpack, with features this reader must know.
    #[error(
        "the payload needs features that this reader does not know (bits {0:#x})\nhint: use a newer dpack"
    )]
    Features(u64),
    /// The fields contradict each other.
    #[error("the payload's trailer contradicts itself")]
    Inconsistent,
}

impl Trailer {
    /// The bytes of FORMAT.md, "Trailer".
    #[cfg(feature = "write")]
    pub(crate) fn encode(&self) -> [u8; TRAILER_SIZE] {
        let mut bytes = Vec::with_capacity(TRAILER_SIZE);
        bytes.extend_from_slice(&TRAILER_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(TRAILER_SIZE as u32).to_le_bytes());
        for field in [
            self.incompatible,
            self.compatible,
            self.payload_length,
            self.index_offset,
            self.index_stored,
            self.index_raw,
            self.annex_length,
            0,
        ] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(self.index_digest.as_bytes());
        bytes.extend_from_slice(self.annex_digest.as_bytes());
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        let mut trailer = [0; TRAILER_SIZE];
        trailer.copy_from_slice(&bytes);
        trailer
    }

    /// Parses and checks a trailer; what it says about the file is checked by who knows the file.
    pub fn decode(bytes: &[u8; TRAILER_SIZE]) -> Result<Self, TrailerError> {
        let mut fields = Fields(bytes);
        if fields.bytes() != TRAILER_MAGIC {
            return Err(TrailerError::Missing);
        }
        if Digest::of(&bytes[..TRAILER_SIZE - 32]).as_bytes() != &bytes[TRAILER_SIZE - 32..] {
            return Err(TrailerError::Damaged);
        }
        let version = fields.u32();
        if version != VERSION {
            return Err(TrailerError::Version(version));
        }
        let size = fields.u32();
        let trailer = Self {
            incompatible: fields.u64(),
            compatible: fields.u64(),
            payload_length: fields.u64(),
            index_offset: fields.u64(),
            index_stored: fields.u64(),
            index_raw: fields.u64(),
            annex_length: fields.u64(),
            index_digest: {
                let _reserved = fields.u64();
                fields.digest()
            },
            annex_digest: fields.digest(),
        };
        let unknown = trailer.incompatible & !INCOMPATIBLE;
        if unknown != 0 {
            return Err(TrailerError::Features(unknown));
        }
        let end = trailer
            .index_offset
            .checked_add(trailer.index_stored)
            .and_then(|end| end.checked_add(trailer.annex_length))
            .and_then(|end| end.checked_add(TRAILER_SIZE as u64));
        let consistent = size as usize == TRAILER_SIZE
            && end == Some(trailer.payload_length)
            && trailer.index_stored <= MAX_INDEX_STORED
            && trailer.index_raw <= MAX_INDEX_RAW
            && trailer.annex_length <= MAX_ANNEX;
        if consistent { Ok(trailer) } else { Err(TrailerError::Inconsistent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer() -> Trailer {
        Trailer {
            incompatible: 0,
            compatible: 6,
            payload_length: 100 + 50 + TRAILER_SIZE as u64,
            index_offset: 100,
            index_stored: 50,
            index_raw: 400,
            annex_length: 0,
            index_digest: Digest::of(b"index"),
            annex_digest: Digest::of(b""),
        }
    }

    #[test]
    fn trailer_round_trips_and_every_flipped_bit_is_noticed() {
        let bytes = trailer().encode();
        assert_eq!(Trailer::decode(&bytes), Ok(trailer()));
        for bit in 0..TRAILER_SIZE * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn unknown_features_and_contradictions_are_refused() {
        let decode = |change: fn(&mut Trailer)| {
            let mut trailer = trailer();
            change(&mut trailer);
            Trailer::decode(&trailer.encode())
        };
        assert_eq!(decode(|t| t.incompatible = 4), Err(TrailerError::Features(4)));
        assert_eq!(decode(|t| t.index_offset = u64::MAX), Err(TrailerError::Inconsistent));
        assert_eq!(decode(|t| t.annex_length = 1), Err(TrailerError::Inconsistent));
        assert_eq!(decode(|t| t.index_raw = u64::MAX), Err(TrailerError::Inconsistent));
    }
}
