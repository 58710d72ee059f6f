//! A blob as the tar it holds.
//!
//! The first bytes say how it is compressed. Media types are wrong often enough (uncompressed layers pushed as gzip), and
//! whatever comes out is compared with the diff ID.

use std::fs::File;
use std::io::{self, BufReader, Read};

use dpack_payload::digest::Digest;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

/// Bytes that are read and hashed at a time.
pub(super) const BUFFER: usize = 256 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A zstd stream may begin with a skippable frame (RFC 8878, section 3.1.2): 0x184D2A50 to 0x184D2A5F.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A blob, hashed while it is read.
pub(super) struct Blob {
    reader: BufReader<Hashing>,
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Tar,
    Gzip,
    Zstd,
}

struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl Blob {
    /// Looks at the first bytes of `file`.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(BUFFER, Hashing { file, hasher: Sha256::new() });
        let start = io::BufRead::fill_buf(&mut reader)?;
        let format = match start {
            [a, b, ..] if [*a, *b] == GZIP => Format::Gzip,
            [a, b, c, d, ..] if [*a, *b, *c, *d] == ZSTD => Format::Zstd,
            [0x50..=0x5f, b, c, d, ..] if [*b, *c, *d] == ZSTD_SKIPPABLE => Format::Zstd,
            _ => Format::Tar,
        };
        Ok(Self { reader, format })
    }

    /// False when the blob is the tar itself.
    pub(super) fn is_compressed(&self) -> bool {
        self.format != Format::Tar
    }

    /// The tar.
    pub(super) fn tar(&mut self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self.format {
            Format::Tar => Box::new(&mut self.reader),
            // pigz and estargz write several members in a row.
            Format::Gzip => Box::new(MultiGzDecoder::new(&mut self.reader)),
            Format::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(&mut self.reader)?),
        })
    }

    /// Reads what the decompressor left, and gives the digest of all of it.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self.reader, &mut io::sink())?;
        Ok(Digest::from_bytes(self.reader.into_inner().hasher.finalize().into()))
    }
}
