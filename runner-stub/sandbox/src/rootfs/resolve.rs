//! Finds and makes mount targets inside a hostile root file system.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::compat::in_root::{self, open_entry};

/// What a missing target becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens `path` inside `root` (O_PATH). Fails when it does not exist.
pub(crate) fn existing(root: impl AsFd, path: &str, more: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    in_root::open(root, path, OFlags::PATH, more)
}

/// Opens `path` inside `root` (O_PATH) and makes what is missing; what dangling links lead to, too.
pub(super) fn target(root: &OwnedFd, path: &str, kind: Kind) -> io::Result<OwnedFd> {
    match existing(root, path, ResolveFlags::empty()) {
        Err(Errno::NOENT) => {
            let mut step = |folder: &OwnedFd, name: &OsStr, last: bool| {
                open_or_make(folder, name, if last { kind } else { Kind::Directory })
            };
            Ok(in_root::walk(root, OsStr::new(path), false, &mut step)?)
        }
        result => Ok(result?),
    }
}

/// The entry itself, never what it points to.
fn open_or_make(folder: &OwnedFd, name: &OsStr, kind: Kind) -> rustix::io::Result<OwnedFd> {
    match open_entry(folder, name) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let made = match kind {
        Kind::Directory => rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => open_entry(folder, name),
        Err(error) => Err(error),
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
