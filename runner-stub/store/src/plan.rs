//! From a layer's tar to what has to be written: the tree, and for each frame the pieces of files that lie in it.

use crate::error::LayerError;
use crate::source::{Chunk, Tar};
use crate::tar::{Entries, Entry, EntryError, EntryKind};
use crate::tree::{Directory, InodeId, Kind, Metadata, Tree, printable};

/// Most entries of one layer; the largest images have about a million.
const MAX_ENTRIES: u64 = 8 << 20;
/// Longest target of a symbolic link.
const MAX_TARGET: usize = 4095;

/// One layer, ready to be written.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tree: Tree,
    /// Pieces of files, in the order of the tar.
    pub(crate) pieces: Vec<Piece>,
    /// Small files whose content lies among the headers.
    pub(crate) inline: Vec<(InodeId, Box<[u8]>)>,
    /// Files of which the builder's tar parser thought otherwise than ours: no chunks of their own, copied from the tar.
    pub(crate) strays: Vec<Stray>,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Entries of the tar.
    pub(crate) entries: u64,
    /// Device nodes.
    pub(crate) skipped: u64,
}

/// A run of bytes of a frame that is a run of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) inode: InodeId,
    pub(crate) frame: u32,
    /// Where in the frame.
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// Where in the file.
    pub(crate) position: u64,
}

/// A file's bytes as a part of the tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) inode: InodeId,
    /// Where in the tar.
    pub(crate) position: u64,
    pub(crate) size: u64,
}

/// Largest file whose content is kept in memory; the builder leaves bodies below 96 bytes among the headers.
const MAX_INLINE: u64 = 4096;

/// Reads all headers of a layer.
pub(crate) fn plan<T: Tar>(tar: &mut T) -> Result<Plan, EntryError> {
    let mut plan = Plan {
        tree: Tree::new(),
        pieces: Vec::new(),
        inline: Vec::new(),
        strays: Vec::new(),
        bytes: 0,
        entries: 0,
        skipped: 0,
    };
    let mut entries = Entries::new(tar);
    while let Some(entry) = entries.next()? {
        plan.entries += 1;
        if plan.entries > MAX_ENTRIES {
            let path = printable(&entry.path);
            return Err(LayerError::Entry { path, reason: "the layer has too many entries" }.into());
        }
        plan.add(entry, &mut entries)?;
    }
    Ok(plan)
}

impl Plan {
    fn add<T: Tar>(&mut self, entry: Entry, entries: &mut Entries<'_, T>) -> Result<(), EntryError> {
        let Entry { path, kind, mode, uid, gid, mtime, xattrs } = entry;
        let metadata = Metadata { mode, uid, gid, mtime, xattrs };
        let kind = match kind {
            EntryKind::HardLink(target) => {
                self.tree.link(&path, &target, metadata)?;
                return Ok(());
            }
            EntryKind::File { position, size } => {
                if let Some(inode) = self.tree.insert(&path, Kind::File { size }, metadata)? {
                    self.body(inode, position, size, entries)?;
                }
                return Ok(());
            }
            EntryKind::Directory => Kind::Directory(Directory::default()),
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Device => {
                self.skipped += 1;
                Kind::Device
            }
            EntryKind::Symlink(target) => {
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                    let reason = "its symbolic link has an invalid target";
                    return Err(LayerError::Entry { path: printable(&path), reason }.into());
                }
                Kind::Symlink(target)
            }
        };
        self.tree.insert(&path, kind, metadata)?;
        Ok(())
    }

    /// Finds the bytes of a file.
    fn body<T: Tar>(
        &mut self,
        inode: InodeId,
        position: u64,
        size: u64,
        entries: &mut Entries<'_, T>,
    ) -> Result<(), EntryError> {
        self.bytes = self.bytes.checked_add(size).ok_or(LayerError::Truncated(position))?;
        if size == 0 {
            return Ok(());
        }
        let pieces = self.pieces.len();
        if self.chunks(inode, size, entries.tar().body_at(position)).is_some() {
            return Ok(());
        }
        self.pieces.truncate(pieces);
        if size <= MAX_INLINE {
            let mut content = vec![0; size as usize].into_boxed_slice();
            entries.read(&mut content, position)?;
            self.inline.push((inode, content));
        } else {
            self.strays.push(Stray { inode, position, size });
        }
        Ok(())
    }

    /// Takes over the chunks of a body; none when they are not exactly the file's bytes.
    fn chunks(
        &mut self,
        inode: InodeId,
        size: u64,
        chunks: Option<impl Iterator<Item = Chunk>>,
    ) -> Option<()> {
        let first = self.pieces.len();
        let mut done = 0_u64;
        for chunk in chunks? {
            let piece = Piece {
                inode,
                frame: chunk.frame,
                offset: chunk.offset,
                length: chunk.length,
                position: done,
            };
            done = done
                .checked_add(u64::from(chunk.length))
                .filter(|&done| done <= size && chunk.length != 0)?;
            match self.pieces[first..].last_mut() {
                Some(last) if last.is_followed_by(&piece) => last.length += piece.length,
                _ => self.pieces.push(piece),
            }
        }
        (done == size).then_some(())
    }
}

impl Piece {
    fn is_followed_by(&self, next: &Piece) -> bool {
        self.inode == next.inode
            && self.frame == next.frame
            && self.position + u64::from(self.length) == next.position
            && self.offset.checked_add(self.length) == Some(next.offset)
            && self.length.checked_add(next.length).is_some()
    }
}
