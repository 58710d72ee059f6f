//! Reading a layer's tar entry by entry, with file bodies left where they are.
//!
//! Own code instead of the `tar` crate's: bodies are not read but located, every number is checked against the tar's length,
//! and nothing is allocated that a header merely claims.

mod header;
mod pax;

use std::io;

pub(crate) use header::BLOCK;
pub(crate) use pax::Time;

use crate::error::LayerError;
use crate::source::Tar;

/// Most bytes of one extended header or long name.
const MAX_EXTENSION: u64 = 1 << 20;

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Name as written; neither empty nor with a NUL.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry makes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A regular file; its body lies within the tar.
    File {
        position: u64,
        size: u64,
    },
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    /// A character or block device.
    Device,
}

/// Why the next entry cannot be had.
#[derive(Debug)]
pub(crate) enum EntryError {
    Layer(LayerError),
    Read(io::Error),
}

impl From<LayerError> for EntryError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

/// Walks the entries of a tar.
pub(crate) struct Entries<'t, T> {
    tar: &'t mut T,
    length: u64,
    position: u64,
}

impl<'t, T: Tar> Entries<'t, T> {
    pub(crate) fn new(tar: &'t mut T) -> Self {
        let length = tar.length();
        Self { tar, length, position: 0 }
    }

    /// The next entry; none at the end marker, or where the tar ends between two entries.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, EntryError> {
        let (mut pax, mut long_name, mut long_link) = (pax::Pax::default(), None, None);
        loop {
            let at = self.position;
            let invalid = |reason| EntryError::Layer(LayerError::Header { at, reason });
            let Some(block) = self.block()? else { return Ok(None) };
            let header = header::parse(&block).map_err(invalid)?;
            match header.type_flag {
                b'x' => pax = pax::parse(&self.extension(header.size)?).map_err(invalid)?,
                b'L' => long_name = Some(self.long_name(header.size)?),
                b'K' => long_link = Some(self.long_name(header.size)?),
                // Defaults for all entries: Docker passes over them too.
                b'g' => {
                    self.body(header.size)?;
                }
                _ => {
                    let entry = self.entry(header, pax, long_name, long_link);
                    return entry.map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        header: header::Header,
        pax: pax::Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, EntryError> {
        let path = long_name.or(pax.path).unwrap_or(header.name);
        let link = long_link.or(pax.link_path).unwrap_or(header.link_name);
        let refuse = |reason| LayerError::Entry { path: path.escape_ascii().to_string(), reason };
        if path.is_empty() {
            return Err(refuse("its name is empty").into());
        }
        let size = pax.size.unwrap_or(header.size);
        let kind = match header.type_flag {
            0 if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => {
                let position = self.body(size)?;
                EntryKind::File { position, size }
            }
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' | b'4' => EntryKind::Device,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(refuse("sparse entries are not supported").into()),
            _ => return Err(refuse("its type is unknown").into()),
        };
        let id = |id: u64| {
            u32::try_from(id)
                .ok()
                .filter(|&id| id != u32::MAX)
                .ok_or_else(|| refuse("its owner is out of range"))
        };
        Ok(Entry {
            kind,
            mode: header.mode,
            uid: id(pax.uid.unwrap_or(header.uid))?,
            gid: id(pax.gid.unwrap_or(header.gid))?,
            mtime: pax.mtime.unwrap_or(Time { seconds: header.mtime, nanoseconds: 0 }),
            xattrs: pax.xattrs,
            path,
        })
    }

    /// The next header; none at the end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, EntryError> {
        if self.position == self.length {
            return Ok(None);
        }
        let at = self.position;
        let position = self.advance(BLOCK as u64)?;
        let mut block = [0; BLOCK];
        self.read(&mut block, position)?;
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        // Two empty blocks end a tar; a lone one at the very end does too, as in Go and GNU tar.
        if self.position != self.length {
            let position = self.advance(BLOCK as u64)?;
            self.read(&mut block, position)?;
            if block != [0; BLOCK] {
                return Err(LayerError::Header { at, reason: "an empty block stands before it" }.into());
            }
        }
        self.position = self.length;
        Ok(None)
    }

    /// Passes over a body and its padding; its position.
    fn body(&mut self, size: u64) -> Result<u64, EntryError> {
        let start = self.advance(size)?;
        // The padding of the last body may be missing.
        let padding = size.wrapping_neg() % BLOCK as u64;
        self.position += padding.min(self.length - self.position);
        Ok(start)
    }

    fn advance(&mut self, by: u64) -> Result<u64, EntryError> {
        let start = self.position;
        self.position = start
            .checked_add(by)
            .filter(|&end| end <= self.length)
            .ok_or(EntryError::Layer(LayerError::Truncated(start)))?;
        Ok(start)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, EntryError> {
        if size > MAX_EXTENSION {
            let reason = "its extended header is too long";
            return Err(LayerError::Header { at: self.position, reason }.into());
        }
        let position = self.body(size)?;
        let mut bytes = vec![0; size as usize];
        self.read(&mut bytes, position)?;
        Ok(bytes)
    }

    /// GNU long names end with a NUL.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, EntryError> {
        let mut name = self.extension(size)?;
        if let Some(end) = name.iter().position(|&byte| byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8], position: u64) -> Result<(), EntryError> {
        self.tar.read_exact_at(buffer, position).map_err(EntryError::Read)
    }

    /// The tar, to ask for bodies between two entries.
    pub(crate) fn tar(&self) -> &T {
        self.tar
    }
}
