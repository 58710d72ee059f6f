//! A layer's files as a tree in memory: what is left when every entry of the tar has had its say.
//!
//! Names are resolved here, never by the kernel: the tree is then made folder by folder with single names below folders
//! that we made ourselves, so no name and no symbolic link of a hostile layer can lead anywhere else. The rules are those of
//! Docker's extraction inside its chroot:
//!
//! - A leading `/` means the layer's root. `..` is taken out by text; a name that then leads above the root is refused.
//! - A symbolic link on the way is followed inside the layer's root; one that leads to something that is no folder is refused.
//!   Missing folders on the way are made.
//! - The last entry of a name wins. Only a folder entry on a folder keeps what is in it.
//! - Hard links lead to entries that came before. They are names of the same inode; a later entry replaces the name alone.
//! - `.wh.NAME` hides `NAME` of lower layers, `.wh..wh..opq` all of its folder's; neither hides anything of its own layer
//!   (OCI image-spec, layer.md, "Whiteouts"). Other `.wh..wh.` names are bookkeeping of AUFS and passed over.
//! - Device nodes are counted and not made: an ordinary user cannot.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::LayerError;
use crate::tar::Time;

/// Longest path, as the kernel's `PATH_MAX` without the NUL.
const MAX_PATH: usize = 4095;
/// Longest name (`NAME_MAX`).
const MAX_NAME: usize = 255;
/// Most inodes of one layer. One entry can ask for 2,000 folders on its way, and they are memory before they are files.
const MAX_INODES: u32 = if cfg!(test) { 1 << 16 } else { 8 << 20 };
/// Symbolic links followed in one name, as in the kernel.
const MAX_LINKS: usize = 40;

/// Position in [`Tree::inodes`].
pub(crate) type InodeId = u32;

/// The root folder.
pub(crate) const ROOT: InodeId = 0;

/// Everything in a layer.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) inodes: Vec<Inode>,
}

/// One file, folder, link or pipe.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
}

/// What goes with an inode.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Kinds of inodes.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory(Directory),
    File {
        size: u64,
    },
    Symlink(Vec<u8>),
    Fifo,
    /// Not made.
    Device,
}

/// What is in a folder.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) children: BTreeMap<Box<[u8]>, InodeId>,
    /// Names hidden in lower layers.
    pub(crate) whiteouts: BTreeSet<Box<[u8]>>,
    /// Everything of lower layers is hidden.
    pub(crate) opaque: bool,
}

/// Where an entry goes.
enum Place {
    Root,
    Name(InodeId, Box<[u8]>),
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            inodes: vec![Inode {
                kind: Kind::Directory(Directory::default()),
                metadata: Metadata::implicit(),
            }],
        }
    }

    /// Adds an entry; what had the name before loses it. The inode that now has it, or none for a whiteout.
    pub(crate) fn insert(
        &mut self,
        path: &[u8],
        kind: Kind,
        metadata: Metadata,
    ) -> Result<Option<InodeId>, LayerError> {
        let Some(parts) = split(path)? else { return Ok(None) };
        if let Some((last, folder)) = parts.split_last()
            && let Some(hidden) = last.strip_prefix(b".wh.")
        {
            self.white_out(path, folder, hidden)?;
            return Ok(None);
        }
        let is_directory = matches!(kind, Kind::Directory(_));
        match self.place(path, &parts)? {
            Place::Root if is_directory => {
                self.inodes[ROOT as usize].metadata = metadata;
                Ok(Some(ROOT))
            }
            Place::Root => Err(refuse(path, "it would replace the root")),
            Place::Name(folder, name) => {
                let existing = self.directory(folder).and_then(|folder| folder.children.get(&name).copied());
                if let Some(id) = existing.filter(|&id| is_directory && self.directory(id).is_some()) {
                    self.inodes[id as usize].metadata = metadata;
                    return Ok(Some(id));
                }
                self.add(path, folder, name, Inode { kind, metadata }).map(Some)
            }
        }
    }

    /// Gives an inode that is there already one more name; its metadata becomes the link's, as in Docker.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8], metadata: Metadata) -> Result<(), LayerError> {
        let Some(parts) = split(path)? else { return Ok(()) };
        if parts.last().is_some_and(|name| name.starts_with(b".wh.")) {
            return Err(refuse(path, "a whiteout cannot be a hard link"));
        }
        let missing = || LayerError::HardLink { path: printable(path), target: printable(target) };
        // a target that is no name at all is not in the layer either, and the entry is what the reader can look for
        let target_parts = split(target).map_err(|_| missing())?.filter(|parts| !parts.is_empty());
        let target_parts = target_parts.ok_or_else(missing)?;
        let id = self.find(target, &target_parts)?.ok_or_else(missing)?;
        if self.directory(id).is_some() {
            return Err(refuse(path, "it is a hard link to a folder"));
        }
        let Place::Name(folder, name) = self.place(path, &parts)? else {
            return Err(refuse(path, "it would replace the root"));
        };
        let inode = &mut self.inodes[id as usize].metadata;
        *inode = Metadata { xattrs: std::mem::take(&mut inode.xattrs), ..metadata };
        if let Some(folder) = self.directory_mut(folder) {
            folder.children.insert(name, id);
        }
        Ok(())
    }

    pub(crate) fn directory(&self, id: InodeId) -> Option<&Directory> {
        match &self.inodes[id as usize].kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, id: InodeId) -> Option<&mut Directory> {
        match &mut self.inodes[id as usize].kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn white_out(&mut self, path: &[u8], folder: &[&[u8]], hidden: &[u8]) -> Result<(), LayerError> {
        let folder = self.walk(path, folder)?;
        let Some(directory) = self.directory_mut(folder) else { return Ok(()) };
        match hidden {
            b".wh..opq" => directory.opaque = true,
            b"" | b"." | b".." => return Err(refuse(path, "it hides no valid name")),
            name => {
                directory.whiteouts.insert(name.into());
            }
        }
        Ok(())
    }

    fn place(&mut self, path: &[u8], parts: &[&[u8]]) -> Result<Place, LayerError> {
        match parts.split_last() {
            None => Ok(Place::Root),
            Some((name, folders)) => Ok(Place::Name(self.walk(path, folders)?, (*name).into())),
        }
    }

    /// Goes down from the root, making folders that are missing.
    fn walk(&mut self, path: &[u8], parts: &[&[u8]]) -> Result<InodeId, LayerError> {
        let mut walk = Walk::new(parts);
        while let Some(name) = walk.next_name() {
            let folder = walk.folder();
            match self.step(path, &mut walk, &name)? {
                true => {}
                false => {
                    let kind = Kind::Directory(Directory::default());
                    let id = self.add(path, folder, name, Inode { kind, metadata: Metadata::implicit() })?;
                    walk.stack.push(id);
                }
            }
        }
        Ok(walk.folder())
    }

    /// Finds what a hard link leads to, without making anything and without following a link that is the last part.
    fn find(&self, path: &[u8], parts: &[&[u8]]) -> Result<Option<InodeId>, LayerError> {
        let Some((last, folders)) = parts.split_last() else { return Ok(None) };
        let mut walk = Walk::new(folders);
        while let Some(name) = walk.next_name() {
            if !self.step(path, &mut walk, &name)? {
                return Ok(None);
            }
        }
        Ok(self.directory(walk.folder()).and_then(|folder| folder.children.get(*last).copied()))
    }

    /// One name further; false where there is nothing of that name.
    fn step(&self, path: &[u8], walk: &mut Walk, name: &[u8]) -> Result<bool, LayerError> {
        let Some(&id) = self.directory(walk.folder()).and_then(|folder| folder.children.get(name)) else {
            return Ok(false);
        };
        match &self.inodes[id as usize].kind {
            Kind::Directory(_) => walk.stack.push(id),
            Kind::Symlink(target) => {
                walk.follow(target).ok_or_else(|| refuse(path, "its way has too many symbolic links"))?;
            }
            _ => return Err(refuse(path, "something on its way is no folder")),
        }
        Ok(true)
    }

    fn add(
        &mut self,
        path: &[u8],
        folder: InodeId,
        name: Box<[u8]>,
        inode: Inode,
    ) -> Result<InodeId, LayerError> {
        let id = InodeId::try_from(self.inodes.len())
            .ok()
            .filter(|&id| id < MAX_INODES)
            .ok_or_else(|| refuse(path, "the layer has too many entries"))?;
        self.inodes.push(inode);
        if let Some(folder) = self.directory_mut(folder) {
            folder.children.insert(name, id);
        }
        Ok(id)
    }
}

impl Metadata {
    /// Of a folder that no entry describes.
    fn implicit() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: Time::default(), xattrs: Vec::new() }
    }
}

/// A way down the tree.
struct Walk {
    /// Folders from the root down.
    stack: Vec<InodeId>,
    /// Names still to go, the next one last.
    names: Vec<Box<[u8]>>,
    links: usize,
}

impl Walk {
    fn new(parts: &[&[u8]]) -> Self {
        Self { stack: vec![ROOT], names: parts.iter().rev().map(|&part| part.into()).collect(), links: 0 }
    }

    fn folder(&self) -> InodeId {
        self.stack.last().copied().unwrap_or(ROOT)
    }

    /// The next name; `.` and `..` of a link's target are done here. `..` of the root is the root.
    fn next_name(&mut self) -> Option<Box<[u8]>> {
        loop {
            match self.names.pop()? {
                name if name.is_empty() || *name == *b"." => {}
                name if *name == *b".." => {
                    self.stack.truncate((self.stack.len() - 1).max(1));
                }
                name => return Some(name),
            }
        }
    }

    fn follow(&mut self, target: &[u8]) -> Option<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return None;
        }
        if target.starts_with(b"/") {
            self.stack.truncate(1);
        }
        self.names.extend(target.split(|&byte| byte == b'/').rev().map(Box::from));
        Some(())
    }
}

/// Checks a name and cuts it into its parts, `.` and `..` taken out; none for AUFS bookkeeping.
fn split(path: &[u8]) -> Result<Option<Vec<&[u8]>>, LayerError> {
    if path.contains(&0) {
        return Err(refuse(path, "it has a NUL byte"));
    }
    if path.len() > MAX_PATH {
        return Err(refuse(path, "its name is too long"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(|| refuse(path, "it leads out of the layer"))?;
            }
            part if part.len() > MAX_NAME => return Err(refuse(path, "its name is too long")),
            part => parts.push(part),
        }
    }
    let Some((last, folders)) = parts.split_last() else { return Ok(Some(parts)) };
    if folders.iter().any(|part| part.starts_with(b".wh..wh."))
        || (last.starts_with(b".wh..wh.") && *last != b".wh..wh..opq")
    {
        return Ok(None);
    }
    if folders.iter().any(|part| part.starts_with(b".wh.")) {
        return Err(refuse(path, "it lies in a whiteout"));
    }
    Ok(Some(parts))
}

fn refuse(path: &[u8], reason: &'static str) -> LayerError {
    LayerError::Entry { path: printable(path), reason }
}

/// A name for an error text: short, without control characters.
pub(crate) fn printable(path: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&path[..path.len().min(300)]).escape_debug().to_string();
    if path.len() > 300 {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
