//! Removing folders with everything in them, whatever a container has put there.
//!
//! Symbolic links are never followed. However deep the folders go, few descriptors are open and the stack does not grow:
//! what lies deeper than [`DEPTH`] is moved up into the folder being removed, under names that are free, and removed in turn.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::error::Error;

/// Folders open at once.
const DEPTH: usize = 64;

/// Removes a folder, or anything else of that name. A missing one is no error. Runs where its content may be removed: for
/// what containers have made, inside the user namespace.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    remove(path).map_err(Error::disk("remove", path))
}

fn remove(path: &Path) -> Result<(), Errno> {
    let top = match open_folder(CWD, path) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(CWD, path, AtFlags::empty()),
        Err(error) => return Err(error),
    };
    let mut removal = Removal { top: top.as_fd(), moved: 0 };
    loop {
        let before = removal.moved;
        removal.empty(top.as_fd(), DEPTH)?;
        // What was moved up may have been missed.
        if removal.moved == before {
            return unlinkat(CWD, path, AtFlags::REMOVEDIR);
        }
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    moved: u64,
}

impl Removal<'_> {
    /// Removes what is in a folder.
    fn empty(&mut self, folder: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || remove_simple(folder, name, entry.file_type())? {
                continue;
            }
            if depth == 0 {
                self.move_up(folder, name)?;
            } else {
                self.empty(open_folder(folder, name)?.as_fd(), depth - 1)?;
                unlinkat(folder, name, AtFlags::REMOVEDIR)?;
            }
        }
        Ok(())
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let free = format!(".dpack-removed-{}", self.moved);
            match renameat_with(folder, name, self.top, free, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                result => return result,
            }
        }
    }
}

/// Removes a file or an empty folder; false for a folder with something in it.
fn remove_simple(folder: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<bool, Errno> {
    if kind != FileType::Directory {
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(true),
            // The file system does not tell the type; POSIX has EPERM for a folder.
            Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => {}
            Err(error) => return Err(error),
        }
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn open_folder(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_links_lead_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, gone) = (dir.path().join("kept"), dir.path().join("gone"));
        fs::create_dir_all(kept.join("x")).unwrap();
        fs::create_dir_all(gone.join("a/b")).unwrap();
        fs::write(gone.join("a/file"), "x").unwrap();
        symlink(&kept, gone.join("a/b/link")).unwrap();
        symlink(&kept, dir.path().join("link")).unwrap();
        for name in ["gone", "link", "missing"] {
            remove_tree(&dir.path().join(name)).unwrap();
        }
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(kept.join("x").is_dir());
    }

    #[test]
    fn folders_deeper_than_any_path_or_descriptor_table_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let mut folder = open_folder(CWD, &gone).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&folder, "deep", Mode::RWXU).unwrap();
            openat(&folder, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            folder = open_folder(&folder, "deep").unwrap();
        }
        fs::write(gone.join(".dpack-removed-1"), "").unwrap();
        remove_tree(&gone).unwrap();
        assert!(!gone.exists());
    }
}
