//! A new named volume starts with what the image has at its mount point, as in Docker.
//!
//! Copied aside, synced, then renamed onto the empty folder: a power cut leaves either an empty volume or a whole one. A lock
//! on the folder of volumes lets only one container at a time do so. A volume that was emptied is filled again, as in Docker.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec,
    Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::resolve;
use crate::{Error, selinux};

/// Deeper than any image; bounds recursion and descriptors.
const DEEPEST: usize = 200;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Fills the folder `volume` when it is empty and the image has a folder at `target`.
pub(super) fn copy_up(root: &OwnedFd, target: &str, volume: &Path) -> Result<(), Error> {
    copy(root, target, volume).map_err(|source| Error::CopyUp {
        target: target.to_owned(),
        volume: volume.to_owned(),
        source,
    })
}

fn copy(root: &OwnedFd, target: &str, volume: &Path) -> io::Result<()> {
    if !is_empty(&super::open_outside(volume, DIRECTORY)?)? {
        return Ok(());
    }
    let image = match resolve::existing(root, target, ResolveFlags::empty()) {
        Ok(image) => image,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let status = rustix::fs::fstat(&image)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Ok(());
    }
    let image = rustix::fs::openat(&image, c".", DIRECTORY, Mode::empty())?;

    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (parent, name) = (volume.parent().ok_or_else(invalid)?, volume.file_name().ok_or_else(invalid)?);
    let parent = super::open_outside(parent, DIRECTORY)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&parent, FlockOperation::LockExclusive))?;
    let place = super::open_outside(volume, DIRECTORY)?;
    if !is_empty(&place)? {
        return Ok(());
    }
    // `+` is in no volume's name.
    let mut aside = std::ffi::OsString::from("+copyup+");
    aside.push(name);
    remove(&parent, &aside)?;
    rustix::fs::mkdirat(&parent, aside.as_os_str(), Mode::RWXU)?;
    let copy = rustix::fs::openat(&parent, aside.as_os_str(), DIRECTORY, Mode::empty())?;
    // What is made below has the type of its folder.
    let labelled = match selinux::label_of(&place) {
        Some(label) if selinux::label_of(&copy).as_ref() != Some(&label) => selinux::set_label(&copy, &label),
        _ => Ok(()),
    };
    let result = labelled.and_then(|()| directory(&image, &copy, &status, 0)).and_then(|()| {
        rustix::fs::syncfs(&copy)?;
        Ok(rustix::fs::renameat_with(&parent, aside.as_os_str(), &parent, name, RenameFlags::empty())?)
    });
    if result.is_err() {
        let _ = remove(&parent, &aside);
    }
    result
}

/// Copies what the folder `image` holds into the empty folder `to`, and with `attributes` also the folder's own mode, owner
/// and times.
pub(crate) fn fill(image: &OwnedFd, to: &OwnedFd, attributes: bool) -> io::Result<()> {
    let image = rustix::fs::openat(image, c".", DIRECTORY, Mode::empty())?;
    let to = rustix::fs::openat(to, c".", DIRECTORY, Mode::empty())?;
    let status = rustix::fs::fstat(&image)?;
    entries(&image, &to, &status, 0)?;
    if attributes { self::attributes(&image, &to, &status) } else { Ok(()) }
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !is_dot(entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Copies what `from` holds into `to`, then the folder's own attributes.
fn directory(from: &OwnedFd, to: &OwnedFd, own: &Stat, depth: usize) -> io::Result<()> {
    entries(from, to, own, depth)?;
    attributes(from, to, own)
}

fn entries(from: &OwnedFd, to: &OwnedFd, own: &Stat, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        let status = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            // What is mounted on the image is not the image's: with a target that is a link to `/` that is all of `/proc`.
            FileType::Directory if status.st_dev != own.st_dev => {}
            FileType::Directory => {
                let source = rustix::fs::openat(from, name, DIRECTORY, Mode::empty())?;
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let copy = rustix::fs::openat(to, name, DIRECTORY, Mode::empty())?;
                directory(&source, &copy, &status, depth + 1)?;
            }
            FileType::RegularFile => {
                // Another container can put a pipe there when this is a volume that it shares.
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
                let mut copy = File::from(rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut source, &mut copy)?;
                attributes(&source, &copy, &status)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(link.as_c_str(), to, name)?;
                owner_of_link(to, name, &status)?;
            }
            FileType::Fifo => {
                let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
                rustix::fs::mknodat(to, name, FileType::Fifo, mode, 0)?;
                owner_of_link(to, name, &status)?;
            }
            // A socket is of no use without its server; a device cannot be made by an ordinary user.
            _ => {}
        }
    }
    Ok(())
}

fn owner_of_link(directory: &OwnedFd, name: &CStr, status: &Stat) -> io::Result<()> {
    let (user, group) = owner(status);
    existing_owner(rustix::fs::chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW))
}

/// An owner that the user namespace does not have cannot be given: the copy stays root's.
fn existing_owner(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

fn owner(status: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (Some(rustix::fs::Uid::from_raw(status.st_uid)), Some(rustix::fs::Gid::from_raw(status.st_gid)))
}

/// Owner before mode (a change of owner clears setuid bits), times last.
#[allow(clippy::unnecessary_cast, reason = "32-bit machines have other widths")]
fn attributes(from: impl AsFd, to: impl AsFd, status: &Stat) -> io::Result<()> {
    let (user, group) = owner(status);
    existing_owner(rustix::fs::fchown(&to, user, group))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(status.st_mode & 0o7777))?;
    extended_attributes(&from, &to)?;
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds as _, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(status.st_atime as i64, status.st_atime_nsec as u64),
        last_modification: time(status.st_mtime as i64, status.st_mtime_nsec as u64),
    };
    Ok(rustix::fs::futimens(&to, &times)?)
}

/// All but the overlay's own and SELinux's; what the volume's file system cannot hold is left out.
fn extended_attributes(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let mut names = vec![0_u8; 16 * 1024];
    let length = match rustix::fs::flistxattr(&from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::RANGE) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0_u8; 64 * 1024];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // A label is that of the place.
        let label = name == selinux::ATTRIBUTE.as_bytes();
        if label || name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.") {
            continue;
        }
        let Ok(length) = rustix::fs::fgetxattr(&from, name, &mut value) else { continue };
        match rustix::fs::fsetxattr(&to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Removes a copy that was interrupted.
fn remove(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let directory = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    clear(&directory, 0)?;
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn clear(directory: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    rustix::fs::fchmod(directory, Mode::RWXU)?;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            clear(&rustix::fs::openat(directory, name, DIRECTORY, Mode::empty())?, depth + 1)?;
            rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
