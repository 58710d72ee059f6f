//! Finds and makes mount targets inside a hostile root file system.
//!
//! What exists is found by the kernel (`openat2(RESOLVE_IN_ROOT)`). What does not is made component by component from held
//! descriptors: symlinks, dangling ones too, are followed here, clamped to the root; `..` goes back to the descriptor one
//! came from and never asks the kernel, so renaming a directory meanwhile leads nobody outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What a missing target becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// As the kernel's own limit.
const MOST_SYMLINKS: usize = 40;
/// Far deeper than any real path; bounds the descriptors held.
const DEEPEST: usize = 128;

/// Opens `path` inside `root` (O_PATH). Fails when it does not exist.
pub(crate) fn existing(root: impl AsFd, path: &str, more: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // EAGAIN: somebody renamed at the wrong moment; openat2(2) asks to try again.
    for _ in 0..16 {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens `path` inside `root` (O_PATH) and makes what is missing.
pub(super) fn target(root: &OwnedFd, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    match existing(root, path, ResolveFlags::empty()) {
        Err(Errno::NOENT) => make(root, path, kind),
        result => Ok(result?),
    }
}

fn make(root: &OwnedFd, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    let mut pending: VecDeque<OsString> = components(OsStr::new(path)).collect();
    let mut stack: Vec<OwnedFd> = vec![root.try_clone()?];
    let mut symlinks = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let here = stack.last().ok_or(Errno::NOENT)?;
        let last = pending.is_empty();
        let entry = open_or_make(here, &name, if last { kind } else { Kind::Directory })?;
        let file_type = FileType::from_raw_mode(rustix::fs::fstat(&entry)?.st_mode);
        if file_type == FileType::Symlink {
            symlinks += 1;
            if symlinks > MOST_SYMLINKS {
                return Err(Errno::LOOP.into());
            }
            let link = OsString::from_vec(rustix::fs::readlinkat(&entry, c"", Vec::new())?.into_bytes());
            if link.as_bytes().starts_with(b"/") {
                stack.truncate(1);
            }
            for component in components(&link).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(component);
            }
            continue;
        }
        if !last && file_type != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        if stack.len() >= DEEPEST {
            return Err(Errno::NAMETOOLONG.into());
        }
        stack.push(entry);
    }
    stack.pop().ok_or_else(|| Errno::NOENT.into())
}

fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
}

/// The entry itself, never what it points to.
fn open_or_make(dir: &OwnedFd, name: &OsStr, kind: Kind) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(dir, name, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        result => return Ok(result?),
    }
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => Ok(open()?),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(dir: &std::path::Path) -> OwnedFd {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn missing_targets_are_made_inside_the_root_whatever_the_links_say() {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("root");
        fs::create_dir_all(dir.join("etc")).unwrap();
        symlink("../../../outside", dir.join("etc/up")).unwrap();
        symlink("/abs/file", dir.join("etc/resolv.conf")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        let root = root(&dir);

        target(&root, "/etc/up/deep", Kind::Directory).unwrap();
        assert!(dir.join("outside/deep").is_dir());
        target(&root, "/etc/resolv.conf", Kind::File).unwrap();
        assert!(dir.join("abs/file").is_file());
        target(&root, "../../a/../b", Kind::Directory).unwrap();
        assert!(dir.join("b").is_dir());
        assert_eq!(
            target(&root, "/loop/x", Kind::Directory).unwrap_err().raw_os_error(),
            Some(nix::libc::ELOOP)
        );
        assert!(target(&root, "/abs/file/x", Kind::Directory).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "something was made outside the root");
    }
}
