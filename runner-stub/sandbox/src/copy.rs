//! Copies files between a container and the device, by descriptors.
//!
//! What a container holds is hostile, and it may change while it is looked at. So every path inside is looked up by the
//! kernel from the container's root (`openat2(RESOLVE_IN_ROOT)`, CVE-2018-15664: a link that was exchanged at the right moment
//! led Docker outside), below that nothing follows a link, and no code of the container is loaded or executed
//! (CVE-2019-14271: Docker's helper loaded the container's libraries). The caller is in the user namespace, so that all
//! owners of the container are there.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::compat::in_root;
use crate::spec::Bundle;
use crate::{Error, record, rootfs, signal};

/// Deeper trees are no files that anybody wants.
const DEEPEST: usize = 200;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Out of the container.
    Out,
    /// Into it.
    In,
}

/// What is copied.
#[derive(Debug)]
pub struct CopyOptions<'a> {
    /// The container's folder.
    pub container_dir: &'a Path,
    /// Path inside of it.
    pub inside: &'a str,
    /// Absolute path on the device.
    pub outside: &'a str,
    /// From where to where.
    pub direction: Direction,
    /// A link as source stands for what it leads to.
    pub follow: bool,
    /// Owners are kept.
    pub archive: bool,
}

/// What went wrong with a copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The container's root cannot be had.
    #[error(transparent)]
    Root(#[from] Error),
    /// A file.
    #[error("failed to {what} `{path}`")]
    File {
        /// What was tried.
        what: &'static str,
        /// On which.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The kinds of source and destination do not fit together.
    #[error("`{path}`: {why}")]
    Misfit {
        /// Which.
        path: String,
        /// Why.
        why: &'static str,
    },
}

/// Where paths of one end start.
enum End {
    Container(OwnedFd),
    Device,
}

/// An entry of a folder: nothing is looked up again but its name.
struct Place {
    folder: OwnedFd,
    name: CString,
}

struct Copier {
    direction: Direction,
    archive: bool,
    skipped: Vec<String>,
}

/// Copies; the paths of what is neither file, folder, link nor FIFO and was passed over come back.
pub fn copy(options: &CopyOptions<'_>) -> Result<Vec<String>, CopyError> {
    let (root, _claim) = root(options.container_dir)?;
    let (container, device) = (End::Container(root), End::Device);
    let (from, to, source, target) = match options.direction {
        Direction::Out => (&container, &device, options.inside, options.outside),
        Direction::In => (&device, &container, options.outside, options.inside),
    };
    let mut copier = Copier { direction: options.direction, archive: options.archive, skipped: Vec::new() };
    let contents = source.ends_with("/.") || source == ".";
    let follow = options.follow || contents || source.ends_with('/');
    let place = from.place(source, follow)?;
    let status = place.status().map_err(|e| failed("find", source, e))?;
    let is_folder = kind(&status) == FileType::Directory;
    if source.ends_with('/') && !is_folder {
        return Err(CopyError::Misfit { path: source.to_owned(), why: "it is no folder" });
    }
    let destination = match to.open(target, OFlags::PATH) {
        Ok(there) => Some((rustix::fs::fstat(&there).map_err(|e| failed("find", target, e))?, there)),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(failed("find", target, error)),
    };
    match destination {
        Some((there, folder)) if kind(&there) == FileType::Directory => {
            let folder = reopen(&folder).map_err(|e| failed("open", target, e))?;
            if is_folder && contents {
                let opened = place.open_folder().map_err(|e| failed("open", source, e))?;
                copier.folder(&opened, &folder, source, 0)?;
            } else {
                let name = place.base_name(source);
                copier.entry(&place, &Place { folder, name }, source, 0)?;
            }
        }
        Some(_) if is_folder => {
            return Err(CopyError::Misfit { path: target.to_owned(), why: "a folder cannot replace a file" });
        }
        None if target.ends_with('/') && !is_folder => {
            return Err(CopyError::Misfit { path: target.to_owned(), why: "there is no such folder" });
        }
        _ => {
            let target_place = to.place(target.trim_end_matches('/'), false)?;
            copier.entry(&place, &target_place, source, 0)?;
        }
    }
    Ok(copier.skipped)
}

/// The root of a container that runs, or of one that does not, mounted in this process's own mount namespace. The claim
/// keeps it from being started meanwhile.
fn root(container_dir: &Path) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    if let Some(init) = signal::live_init(container_dir)? {
        let path = format!("/proc/{}/root", init.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        let opened = opened.map_err(|e| Error::Read { path: path.into(), source: e.into() })?;
        return Ok((opened, None));
    }
    let claim = record::claim(container_dir)?;
    Ok((rootfs::assemble(&Bundle::load(container_dir)?)?, Some(claim)))
}

impl End {
    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        match self {
            End::Device => rustix::fs::openat(CWD, path, flags, Mode::empty()),
            End::Container(root) => in_root::open(root, path, flags, ResolveFlags::empty()),
        }
    }

    /// The folder of a path, opened, and its last name. With `follow`, what a link at the end leads to.
    fn place(&self, path: &str, follow: bool) -> Result<Place, CopyError> {
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed
            .rsplit_once('/')
            .map_or((".", trimmed), |(parent, name)| (if parent.is_empty() { "/" } else { parent }, name));
        let whole = name.is_empty() || name == "." || name == "..";
        let name = CString::new(name).map_err(|_| failed("find", path, Errno::INVAL))?;
        let is_link = || -> rustix::io::Result<bool> {
            let folder = self.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            let status = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(kind(&status) == FileType::Symlink)
        };
        if whole || (follow && is_link().unwrap_or(false)) {
            // It is its own folder; the empty name stands for itself.
            let there = self.open(path, OFlags::PATH).map_err(|e| failed("find", path, e))?;
            return Ok(Place { folder: there, name: CString::default() });
        }
        let folder = self.open(parent, OFlags::PATH | OFlags::DIRECTORY);
        Ok(Place { folder: folder.map_err(|e| failed("open the folder of", path, e))?, name })
    }
}

impl Place {
    fn status(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)
    }

    fn open(&self, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.name.is_empty() {
            // By its descriptor, which names the file itself and no path.
            use std::os::fd::AsRawFd as _;
            let own = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
            return rustix::fs::open(own, flags, mode);
        }
        rustix::fs::openat(&self.folder, &self.name, flags | OFlags::NOFOLLOW, mode)
    }

    fn open_folder(&self) -> rustix::io::Result<OwnedFd> {
        self.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// The name that the source has in another folder.
    fn base_name(&self, path: &str) -> CString {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let last = path.trim_end_matches('/').rsplit('/').find(|part| !matches!(*part, "" | "." | ".."));
        CString::new(last.unwrap_or("root")).unwrap_or_default()
    }
}

impl Copier {
    fn entry(&mut self, from: &Place, to: &Place, path: &str, depth: usize) -> Result<(), CopyError> {
        if depth > DEEPEST {
            return Err(CopyError::Misfit { path: path.to_owned(), why: "folders are nested too deeply" });
        }
        let status = from.status().map_err(|e| failed("find", path, e))?;
        match kind(&status) {
            FileType::Directory => {
                let source = from.open_folder().map_err(|e| failed("open", path, e))?;
                let target = make_folder(to).map_err(|e| failed("create", path, e))?;
                self.folder(&source, &target, path, depth)?;
                self.finish(&target, &status).map_err(|e| failed("copy", path, e))
            }
            FileType::RegularFile => self.file(from, to).map_err(|e| CopyError::File {
                what: "copy",
                path: path.to_owned(),
                source: e,
            }),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&from.folder, &from.name, Vec::new());
                let link = link.map_err(|e| failed("read", path, e))?;
                make_way(to)
                    .and_then(|()| rustix::fs::symlinkat(&link, &to.folder, &to.name))
                    .map_err(|e| failed("create", path, e))
            }
            FileType::Fifo => make_way(to)
                .and_then(|()| {
                    rustix::fs::mknodat(&to.folder, &to.name, FileType::Fifo, self.mode(&status), 0)
                })
                .map_err(|e| failed("create", path, e)),
            _ => {
                self.skipped.push(path.to_owned());
                Ok(())
            }
        }
    }

    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, path: &str, depth: usize) -> Result<(), CopyError> {
        let error = |e| failed("read", path, e);
        // All names first: the copy may lie inside of what is copied.
        let mut names = Vec::new();
        for entry in Dir::read_from(from).map_err(error)? {
            names.push(entry.map_err(error)?.file_name().to_owned());
        }
        for name in names {
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let below = format!("{}/{}", path.trim_end_matches('/'), text(&name));
            let clone = |fd: &OwnedFd| {
                fd.try_clone().map_err(|source| CopyError::File { what: "open", path: below.clone(), source })
            };
            let place = |folder| Place { folder, name: name.clone() };
            let (from, to) = (place(clone(from)?), place(clone(to)?));
            self.entry(&from, &to, &below, depth + 1)?;
        }
        Ok(())
    }

    fn file(&self, from: &Place, to: &Place) -> io::Result<()> {
        // A FIFO that took the file's place must not make us wait.
        let mut source =
            File::from(from.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?);
        let status = rustix::fs::fstat(&source)?;
        if kind(&status) != FileType::RegularFile {
            return Err(io::Error::other("it has changed into something else"));
        }
        make_way(to)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let target = to.open(flags, Mode::RUSR | Mode::WUSR)?;
        let mut target = File::from(target);
        io::copy(&mut source, &mut target)?;
        Ok(self.finish(&OwnedFd::from(target), &status)?)
    }

    fn finish(&self, target: &OwnedFd, status: &Stat) -> rustix::io::Result<()> {
        if self.archive {
            let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
            rustix::fs::fchown(target, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(target, self.mode(status))?;
        let time = Timespec { tv_sec: status.st_mtime as _, tv_nsec: status.st_mtime_nsec as _ };
        rustix::fs::futimens(target, &Timestamps { last_access: time, last_modification: time })
    }

    /// Outside, a set-user-ID file of the container would be one of the user.
    fn mode(&self, status: &Stat) -> Mode {
        let kept: RawMode = if self.direction == Direction::Out { 0o1777 } else { 0o7777 };
        Mode::from_raw_mode(status.st_mode as RawMode & kept)
    }
}

/// What is there and no folder goes: a link is replaced and never followed.
fn make_way(place: &Place) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(&place.folder, &place.name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// The folder, made when it is missing.
fn make_folder(place: &Place) -> rustix::io::Result<OwnedFd> {
    if place.status().is_ok_and(|status| kind(&status) != FileType::Directory) {
        make_way(place)?;
    }
    match rustix::fs::mkdirat(&place.folder, &place.name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => place.open_folder(),
        Err(error) => Err(error),
    }
}

/// A folder that was opened as a path only, opened to be read.
fn reopen(folder: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, c".", flags, Mode::empty())
}

fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode as RawMode)
}

fn text(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

fn failed(what: &'static str, path: &str, source: Errno) -> CopyError {
    CopyError::File { what, path: path.to_owned(), source: source.into() }
}
