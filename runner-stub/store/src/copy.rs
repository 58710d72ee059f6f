//! The layers of an image as one tree, without overlayfs: merged from the top down while it is copied.
//!
//! The layers are those of a store for [`Driver::Copy`](crate::Driver): what they hide stands as in OCI archives, `.wh.NAME` and
//! `.wh..wh..opq`. They are trusted as far as extraction went: folders of ours, in which no process of a container ever was.
//! The copy lies in a folder that nobody else knows yet.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fgetxattr, flistxattr, fsetxattr, futimens, ioctl_ficlone, linkat, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::Error;

/// Prefix of names that stand for what is hidden.
pub(crate) const HIDDEN: &[u8] = b".wh.";
/// Hides everything of lower layers.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Deepest folder: more than any image has, less than the stack and the descriptors take.
const DEEPEST: usize = 256;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files whose blocks are shared with the layer's.
    pub shared: u64,
    /// Files that are the layer's own.
    pub linked: u64,
    /// Files that were copied byte by byte.
    pub copied: u64,
}

/// Merges `layers` (lowest first) into the empty folder `target`. With `read_only` nothing can ever be written there, so files
/// are hard links to the layers'.
pub fn copy_layers(layers: &[PathBuf], target: &Path, read_only: bool) -> Result<Copied, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| rustix::fs::open(path, flags, Mode::empty()).map_err(Error::disk("open", path));
    let sources = layers.iter().rev().map(|layer| open(layer)).collect::<Result<Vec<_>, _>>()?;
    let (root, folder) = (open(target)?, open(target)?);
    let mut copy = Copy { links: HashMap::new(), shares: true, read_only, root, done: Copied::default() };
    copy.folder(&sources, &folder, Path::new(""))?;
    Ok(copy.done)
}

struct Copy {
    /// Where a file with several names has its first, from the root.
    links: HashMap<(u64, u64), PathBuf>,
    /// Whether the file system may share blocks.
    shares: bool,
    read_only: bool,
    root: OwnedFd,
    done: Copied,
}

/// What the layers make of a name.
enum Entry {
    /// A layer hides it before any has it.
    Hidden,
    /// Of that source.
    Other(usize, FileType),
    /// Of these sources; those below have no part in it any more when it is closed.
    Folder { sources: Vec<usize>, closed: bool },
}

/// What the layers make of a folder. By name, so that the copy is made in the same order everywhere.
fn merge(sources: &[OwnedFd], path: &Path) -> Result<BTreeMap<CString, Entry>, Error> {
    let mut entries: BTreeMap<CString, Entry> = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let (mut opaque, mut hidden) = (false, Vec::new());
        for entry in Dir::read_from(source).map_err(Error::disk("read", path))? {
            let entry = entry.map_err(Error::disk("read", path))?;
            let name = entry.file_name();
            match name.to_bytes() {
                b"." | b".." => continue,
                OPAQUE => opaque = true,
                bytes if bytes.starts_with(HIDDEN) => hidden.extend(CString::new(&bytes[HIDDEN.len()..])),
                _ => {
                    let kind = match entry.file_type() {
                        FileType::Unknown => kind(&status(source, name, path)?),
                        kind => kind,
                    };
                    add(&mut entries, name, number, kind);
                }
            }
        }
        for name in hidden {
            match entries.get_mut(&name) {
                None => drop(entries.insert(name, Entry::Hidden)),
                Some(Entry::Folder { closed, .. }) => *closed = true,
                Some(_) => {}
            }
        }
        if opaque {
            break;
        }
    }
    Ok(entries)
}

fn add(entries: &mut BTreeMap<CString, Entry>, name: &CStr, number: usize, kind: FileType) {
    let is_folder = kind == FileType::Directory;
    match entries.get_mut(name) {
        None if is_folder => {
            entries.insert(name.to_owned(), Entry::Folder { sources: vec![number], closed: false });
        }
        None => drop(entries.insert(name.to_owned(), Entry::Other(number, kind))),
        Some(Entry::Folder { sources, closed: false }) if is_folder => sources.push(number),
        Some(Entry::Folder { closed, .. }) => *closed = true,
        Some(_) => {}
    }
}

impl Copy {
    /// Fills `target` from `sources`, topmost first, and gives it what the topmost says of the folder.
    fn folder(&mut self, sources: &[OwnedFd], target: &OwnedFd, path: &Path) -> Result<(), Error> {
        if path.components().count() > DEEPEST {
            return Err(Error::disk("copy", path)(Errno::NAMETOOLONG));
        }
        for (name, entry) in merge(sources, path)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            match entry {
                Entry::Hidden => {}
                Entry::Other(number, kind) => self.entry(&sources[number], target, &name, kind, &path)?,
                Entry::Folder { sources: numbers, .. } => {
                    let open = |folder: &OwnedFd| {
                        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        openat(folder, &name, flags, Mode::empty()).map_err(Error::disk("open", &path))
                    };
                    let below: Vec<OwnedFd> =
                        numbers.into_iter().map(|number| open(&sources[number])).collect::<Result<_, _>>()?;
                    mkdirat(target, &name, Mode::RWXU).map_err(Error::disk("create", &path))?;
                    self.folder(&below, &open(target)?, &path)?;
                }
            }
        }
        let Some(top) = sources.first() else { return Ok(()) };
        let status = rustix::fs::fstat(top).map_err(Error::disk("read", path))?;
        finish(top.as_fd(), target.as_fd(), &status).map_err(Error::disk("copy", path))
    }

    fn entry(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &CStr,
        kind: FileType,
        path: &Path,
    ) -> Result<(), Error> {
        let failed = |error: Errno| Error::disk("copy", path)(error);
        match kind {
            FileType::RegularFile if self.read_only => {
                match linkat(source, name, target, name, AtFlags::empty()) {
                    Ok(()) => {
                        self.done.linked += 1;
                        return Ok(());
                    }
                    // As many names as the file system has for one file, or a container on another one.
                    Err(Errno::MLINK | Errno::XDEV | Errno::PERM) => self.file(source, target, name, path)?,
                    Err(error) => return Err(failed(error)),
                }
            }
            FileType::RegularFile => self.file(source, target, name, path)?,
            FileType::Symlink => {
                let link = readlinkat(source, name, Vec::new()).map_err(failed)?;
                symlinkat(link.as_c_str(), target, name).map_err(failed)?;
                self.finish_at(source, target, name, path)?;
            }
            FileType::Fifo => {
                mknodat(target, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(failed)?;
                self.finish_at(source, target, name, path)?;
                let mode = Mode::from_raw_mode(status(source, name, path)?.st_mode);
                chmodat(target, name, mode, AtFlags::empty()).map_err(failed)?;
            }
            // Extraction makes nothing else.
            _ => {}
        }
        Ok(())
    }

    fn file(&mut self, source: &OwnedFd, target: &OwnedFd, name: &CStr, path: &Path) -> Result<(), Error> {
        let failed = |error: Errno| Error::disk("copy", path)(error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let from = openat(source, name, flags, Mode::empty()).map_err(failed)?;
        let status = rustix::fs::fstat(&from).map_err(failed)?;
        if status.st_nlink > 1 {
            // In a store layers have no file in common, but a read-only container may have links to it.
            match self.links.get(&identity(&status)) {
                Some(first) => {
                    return linkat(&self.root, first, target, name, AtFlags::empty()).map_err(failed);
                }
                None => drop(self.links.insert(identity(&status), path.to_owned())),
            }
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(target, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let (from, mut to) = (File::from(from), File::from(to));
        if self.shares && status.st_size > 0 {
            self.shares = ioctl_ficlone(&to, &from).is_ok();
        }
        match self.shares {
            true => self.done.shared += 1,
            false => {
                std::io::copy(&mut &from, &mut to).map_err(Error::disk("copy", path))?;
                self.done.copied += 1;
            }
        }
        finish(from.as_fd(), to.as_fd(), &status).map_err(failed)
    }

    /// Owner and time of what cannot be opened.
    fn finish_at(&self, source: &OwnedFd, target: &OwnedFd, name: &CStr, path: &Path) -> Result<(), Error> {
        let status = status(source, name, path)?;
        chown_at(target, name, &status).map_err(Error::disk("change the owner of", path))?;
        utimensat(target, name, &times(&status), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::disk("set the time of", path))
    }
}

/// Owner, mode, attributes, times: in this order, since each takes something of the later ones away.
fn finish(source: BorrowedFd<'_>, target: BorrowedFd<'_>, status: &Stat) -> Result<(), Errno> {
    let have = rustix::fs::fstat(target)?;
    if (have.st_uid, have.st_gid) != (status.st_uid, status.st_gid) {
        fchown(target, Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))?;
    }
    fchmod(target, Mode::from_raw_mode(status.st_mode))?;
    attributes(source, target)?;
    futimens(target, &times(status))
}

fn chown_at(target: &OwnedFd, name: &CStr, status: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// What extraction gave it: `user.*` and file capabilities.
fn attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = [0_u8; 64 << 10];
    let length = match flistxattr(source, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut value = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !name.to_bytes().starts_with(b"user.") && name != c"security.capability" {
            continue;
        }
        value.resize(64 << 10, 0);
        let length = fgetxattr(source, name, &mut value[..])?;
        match fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn status(folder: &OwnedFd, name: &CStr, path: &Path) -> Result<Stat, Error> {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::disk("read", path))
}

fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

#[allow(clippy::useless_conversion, reason = "32-bit machines have narrower fields")]
fn identity(status: &Stat) -> (u64, u64) {
    (u64::from(status.st_dev), u64::from(status.st_ino))
}

#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the width differs between machines")]
fn times(status: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: i64::from(status.st_mtime), tv_nsec: status.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}
