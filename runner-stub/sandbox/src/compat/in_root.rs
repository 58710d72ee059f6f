//! Opens paths inside a root that is not trusted: by the kernel (`openat2(RESOLVE_IN_ROOT)`, Linux 5.6) or, without that
//! call and where something is to be made on the way, component by component from held descriptors.
//!
//! Symlinks are followed here and clamped to the root; `..` goes back to the descriptor one came from and never asks the
//! kernel, so renaming a directory meanwhile leads nobody outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// As the kernel's own limit.
const MOST_SYMLINKS: usize = 40;
/// Far deeper than any real path; bounds the descriptors held.
const DEEPEST: usize = 128;

/// Opens what is there. `more` restricts the way further.
pub fn open(root: impl AsFd, path: impl AsRef<OsStr>, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let flags = flags | OFlags::CLOEXEC;
    // EAGAIN: somebody renamed at the wrong moment; openat2(2) asks to try again.
    for _ in 0..16 {
        match rustix::fs::openat2(&root, path.as_ref(), flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            Err(Errno::NOSYS) => return by_hand(root.as_fd(), path.as_ref(), flags, more),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// What [`open`] does, without openat2(2).
fn by_hand(root: impl AsFd, path: &OsStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let mut refuse_mounts = None;
    if resolve.contains(ResolveFlags::NO_XDEV) {
        refuse_mounts = Some(mount_id(&root)?);
    }
    // A link is followed where something comes after it, were it only a slash.
    let on = path.as_bytes().ends_with(b"/") || path.as_bytes().ends_with(b"/.");
    let keep_link = flags.contains(OFlags::NOFOLLOW) && !on;
    let found = walk(&root, path, keep_link, &mut |here, name, last| {
        let entry = open_entry(here, name)?;
        let kept = last && keep_link && flags.contains(OFlags::PATH);
        if resolve.contains(ResolveFlags::NO_SYMLINKS) && !kept && kind(&entry)? == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        match refuse_mounts {
            Some(id) if mount_id(&entry)? != id => Err(Errno::XDEV),
            _ => Ok(entry),
        }
    })?;
    let kind = kind(&found)?;
    let folder = flags.contains(OFlags::DIRECTORY) || path.as_bytes().ends_with(b"/");
    if folder && kind != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    if flags.contains(OFlags::PATH) {
        return Ok(found);
    }
    if kind == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    rustix::fs::openat(CWD, by_number(found.as_fd()), flags - OFlags::NOFOLLOW, Mode::empty())
}

/// What leads to an open file, for calls that take paths only.
pub(crate) fn by_number(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The entry itself (O_PATH), never what it points to.
pub(crate) fn open_entry(folder: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    rustix::fs::openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Follows a path; `step` opens the entry of a folder (O_PATH) and is told whether it is the last one.
pub(crate) fn walk(
    root: impl AsFd,
    path: &OsStr,
    keep_last_link: bool,
    step: &mut dyn FnMut(&OwnedFd, &OsStr, bool) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let mut pending: VecDeque<OsString> = components(path).collect();
    // Not `dup`: the status flags would be those of the caller's descriptor.
    let here =
        rustix::fs::openat(root, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut stack: Vec<OwnedFd> = vec![here];
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
        let entry = step(here, &name, last)?;
        let kind = kind(&entry)?;
        if kind == FileType::Symlink && !(last && keep_last_link) {
            symlinks += 1;
            if symlinks > MOST_SYMLINKS {
                return Err(Errno::LOOP);
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
        if !last && kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        if stack.len() >= DEEPEST {
            return Err(Errno::NAMETOOLONG);
        }
        stack.push(entry);
    }
    stack.pop().ok_or(Errno::NOENT)
}

fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
}

pub(crate) fn kind(fd: impl AsFd) -> Result<FileType> {
    rustix::fs::fstat(fd).map(|status| FileType::from_raw_mode(status.st_mode))
}

/// The mount that a descriptor lies on (proc_pid_fdinfo(5); statx(2) tells it since Linux 5.8 only).
pub(crate) fn mount_id(fd: impl AsFd) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    number.and_then(|number| number.trim().parse().ok()).ok_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    /// The kernel's own answer is the judge.
    #[test]
    fn by_hand_finds_what_the_kernel_finds() {
        let outside = tempfile::tempdir().unwrap();
        let dir = outside.path().join("root");
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/file"), "inside").unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        for (target, link) in [
            ("/a/file", "absolute"),
            ("../../../../secret", "up"),
            ("../secret", "a/up"),
            ("b/..", "a/back"),
            ("loop", "loop"),
            ("nowhere", "dangling"),
            ("a", "folder"),
        ] {
            symlink(target, dir.join(link)).unwrap();
        }
        let root = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let paths = [
            "",
            "/",
            ".",
            "..",
            "a",
            "/a/",
            "a/file",
            "a/file/",
            "a/file/x",
            "absolute",
            "folder/.",
            "absolute/",
            "folder/.",
            "up",
            "a/up",
            "a/back",
            "a/back/file",
            "loop",
            "dangling",
            "folder",
            "folder/",
            "folder/file",
            "../../a/../a/b/../file",
            "nothing",
            "nothing/x",
            "secret",
            "/../secret",
        ];
        let all_flags = [
            OFlags::PATH,
            OFlags::PATH | OFlags::NOFOLLOW,
            OFlags::PATH | OFlags::DIRECTORY,
            OFlags::RDONLY,
            OFlags::RDONLY | OFlags::NOFOLLOW,
            OFlags::RDONLY | OFlags::DIRECTORY,
        ];
        let all_resolve = [ResolveFlags::empty(), ResolveFlags::NO_SYMLINKS, ResolveFlags::NO_XDEV];
        let told = |result: Result<OwnedFd>| {
            result.map(|fd| {
                let file = fs::File::from(fd).metadata().unwrap();
                (file.dev(), file.ino())
            })
        };
        let mut compared = 0;
        for path in paths {
            for flags in all_flags {
                for more in all_resolve {
                    let kernel = told(open(&root, path, flags, more));
                    let hand = told(by_hand(&root, OsStr::new(path), flags | OFlags::CLOEXEC, more));
                    assert_eq!(kernel, hand, "{path:?} {flags:?} {more:?}");
                    compared += 1;
                }
            }
        }
        assert_eq!(compared, paths.len() * 18);
    }

    #[test]
    fn by_hand_does_not_cross_mounts_when_told() {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let hand = |path: &str, more| by_hand(&root, OsStr::new(path), OFlags::PATH | OFlags::CLOEXEC, more);
        assert_eq!(hand("/proc/uptime", ResolveFlags::NO_XDEV).unwrap_err(), Errno::XDEV);
        assert!(hand("/proc/uptime", ResolveFlags::empty()).is_ok());
    }
}
