//! Splitting a tar stream into skeleton and bodies.

use std::io::{self, Read};

use fastcdc::v2020::StreamCDC;
use sha2::{Digest as _, Sha256};

use super::recipe::{BodyRecipe, ChunkRecipe, LayerRecipe};
use super::tar_header::{BLOCK, Header, Kind, pax_overrides, text};
use crate::digest::Digest;

/// Bodies below this stay in the skeleton: a chunk of its own costs more in the index than it can save.
const INLINE_BELOW: u64 = 96;

/// Bodies above this are cut by content; others are one chunk, so that equal files are equal chunks.
const WHOLE_UP_TO: u64 = 1 << 20;

/// Content-defined cuts: smallest, usual and largest chunk.
const CUTS: (usize, usize, usize) = (256 << 10, 1 << 20, 4 << 20);

/// PAX records and long names above this are treated as bodies, so that no header makes us hold much.
const METADATA_UP_TO: u64 = 1 << 20;

/// Zero blocks above this are treated as a body, likewise.
const ZEROS_UP_TO: usize = 64 << 10;

/// Reads a tar to its end and cuts it up. Any bytes at all are accepted, and come back as they were; what does not look
/// like tar is cut by content. Memory: the skeleton (about 0.5 to 1 KiB for each entry) and one chunk.
pub fn split(tar: impl Read) -> io::Result<LayerRecipe> {
    let mut splitter = Splitter {
        tar: Hashing { inner: tar, hash: Sha256::new(), position: 0 },
        skeleton: Vec::new(),
        bodies: Vec::new(),
    };
    splitter.run()?;
    let Splitter { tar, skeleton, bodies } = splitter;
    let mut skeleton_chunks = Vec::new();
    for chunk in StreamCDC::new(skeleton.as_slice(), CUTS.0, CUTS.1, CUTS.2) {
        skeleton_chunks.push(chunk_of(&chunk?.data));
    }
    Ok(LayerRecipe {
        diff_id: Digest::from_bytes(tar.hash.finalize().into()),
        tar_length: tar.position,
        skeleton_chunks,
        bodies,
        skeleton: skeleton.into(),
    })
}

/// Hashes and counts what is read.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    position: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

struct Splitter<R> {
    tar: Hashing<R>,
    skeleton: Vec<u8>,
    bodies: Vec<BodyRecipe>,
}

impl<R: Read> Splitter<R> {
    fn run(&mut self) -> io::Result<()> {
        let mut zeros = 0;
        // What metadata entries said of the entry after them.
        let (mut next_path, mut next_size) = (None, None);
        while let Some(block) = self.block()? {
            if block == [0; BLOCK] {
                zeros += BLOCK;
                if zeros > ZEROS_UP_TO {
                    return self.body(u64::MAX, b"");
                }
                continue;
            }
            zeros = 0;
            let Some(header) = Header::parse(&block) else { return self.body(u64::MAX, b"") };
            let metadata = matches!(header.kind, Kind::Pax | Kind::LongName | Kind::Metadata);
            if metadata && header.size <= METADATA_UP_TO {
                let start = self.skeleton.len();
                self.keep(header.size)?;
                let content = &self.skeleton[start..];
                match header.kind {
                    Kind::Pax => {
                        let (path, size) = pax_overrides(content);
                        next_path = path.or(next_path);
                        next_size = size.or(next_size);
                    }
                    Kind::LongName => next_path = Some(text(content).to_vec()),
                    _ => {}
                }
                self.pad(header.size)?;
                continue;
            }
            let path = next_path.take().unwrap_or(header.path);
            let size = next_size.take().unwrap_or(header.size);
            match header.kind {
                Kind::Bare => continue,
                Kind::SparseExtended => self.sparse_map()?,
                _ => {}
            }
            self.body(size, &path)?;
            self.pad(size)?;
        }
        Ok(())
    }

    /// The next block, which goes to the skeleton. `None` at the end; what is left of a cut-off block is kept.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let start = self.skeleton.len();
        self.keep(BLOCK as u64)?;
        Ok(self.skeleton[start..].try_into().ok())
    }

    /// Moves bytes to the skeleton, fewer at the end of the tar.
    fn keep(&mut self, length: u64) -> io::Result<()> {
        (&mut self.tar).take(length).read_to_end(&mut self.skeleton)?;
        Ok(())
    }

    /// Moves what fills the last block of `size` bytes to the skeleton.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.keep(size.wrapping_neg() % BLOCK as u64)
    }

    /// Further blocks of an old GNU sparse map; byte 504 says whether another one follows.
    fn sparse_map(&mut self) -> io::Result<()> {
        while let Some(block) = self.block()? {
            if block[504] == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Cuts a body into chunks. It may be shorter than its header says, where the tar is cut off.
    fn body(&mut self, size: u64, path: &[u8]) -> io::Result<()> {
        let offset = self.tar.position;
        let mut body = (&mut self.tar).take(size);
        let mut head = Vec::new();
        (&mut body).take(WHOLE_UP_TO).read_to_end(&mut head)?;
        if (head.len() as u64) < INLINE_BELOW {
            self.skeleton.extend_from_slice(&head);
            return Ok(());
        }
        let path = String::from_utf8_lossy(path).into_owned();
        let kind = kind_of(&path, &head);
        let mut chunks = Vec::new();
        if size > WHOLE_UP_TO && head.len() as u64 == WHOLE_UP_TO {
            for chunk in StreamCDC::new(head.as_slice().chain(body), CUTS.0, CUTS.1, CUTS.2) {
                chunks.push(chunk_of(&chunk?.data));
            }
        } else {
            chunks.push(chunk_of(&head));
        }
        self.bodies.push(BodyRecipe { offset, path, kind, chunks });
        Ok(())
    }
}

fn chunk_of(data: &[u8]) -> ChunkRecipe {
    // No chunk is longer than `CUTS.2`.
    ChunkRecipe { digest: Digest::of(data), length: data.len() as u32 }
}

/// What sort of file this is, cheaply: by its magic, then its extension.
fn kind_of(path: &str, head: &[u8]) -> String {
    if let [0x7f, b'E', b'L', b'F', .., machine, _] = head[..head.len().min(20)] {
        return format!("elf-{machine}");
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    match extension {
        Some(extension) if extension.len() <= 12 && !extension.bytes().all(|c| c.is_ascii_digit()) => {
            extension.to_ascii_lowercase()
        }
        _ if head.starts_with(b"#!") => "script".to_owned(),
        _ => String::new(),
    }
}
