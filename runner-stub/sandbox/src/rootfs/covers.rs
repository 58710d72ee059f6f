//! Masked paths (covered by nothing) and read-only paths, mostly parts of `/proc` and `/sys` that know no namespaces.
//!
//! Covered before the pivot, while no process of the container exists and the host's `/dev/null` is at hand: the
//! container's own could be a link to anything (CVE-2025-31133).

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::options::{CONTEXT, READ_ONLY};
use super::resolve;
use crate::Error;
use crate::compat::mounts::{attach, clone_tree, new_file_system, set_attributes};
use crate::spec::Spec;
use crate::sys::MountAttributes;

/// Covers what exists; a path that is missing needs no cover.
pub(super) fn cover(root: &OwnedFd, spec: &Spec) -> Result<(), Error> {
    let failed = |path: &String| {
        let path = path.clone();
        move |source| Error::Cover { path, source }
    };
    for path in &spec.linux.readonly_paths {
        make_read_only(root, path).map_err(failed(path))?;
    }
    let mut empty = Empty { label: spec.mount_label(), ..Empty::default() };
    for path in &spec.linux.masked_paths {
        mask(root, path, &mut empty).map_err(failed(path))?;
    }
    Ok(())
}

fn find(root: &OwnedFd, path: &str) -> io::Result<Option<OwnedFd>> {
    match resolve::existing(root, path, ResolveFlags::NO_SYMLINKS) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        // An image that has a link in place of such a folder has nothing there that needs a cover.
        Err(Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_read_only(root: &OwnedFd, path: &str) -> io::Result<()> {
    let Some(target) = find(root, path)? else { return Ok(()) };
    let tree = clone_tree(&target, true)?;
    set_attributes(&tree, true, &MountAttributes { set: READ_ONLY, ..Default::default() })?;
    Ok(attach(&tree, &target)?)
}

/// What lies over masked paths, made when first needed.
#[derive(Default)]
struct Empty<'a> {
    label: Option<&'a str>,
    file: Option<OwnedFd>,
    directory: Option<OwnedFd>,
}

fn mask(root: &OwnedFd, path: &str, empty: &mut Empty<'_>) -> io::Result<()> {
    let Some(target) = find(root, path)? else { return Ok(()) };
    let status = rustix::fs::fstat(&target)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        let null = match &mut empty.file {
            Some(file) => file,
            none => none.insert(super::open_outside(Path::new("/dev/null"), OFlags::PATH)?),
        };
        let cover = clone_tree(null, false)?;
        set_attributes(&cover, false, &MountAttributes { set: READ_ONLY, ..Default::default() })?;
        return Ok(attach(cover, &target)?);
    }
    // One empty tmpfs serves all: the first cover stays attached, the others are clones of it.
    match &empty.directory {
        Some(directory) => Ok(attach(clone_tree(directory, false)?, &target)?),
        None => {
            let option = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
            let mut data = vec![option("size", "4k"), option("mode", "555")];
            data.extend(empty.label.map(|label| option(CONTEXT, label)));
            let mount = new_file_system("tmpfs", "tmpfs", &data, READ_ONLY).map_err(|(error, _)| error)?;
            attach(&mount, &target)?;
            empty.directory = Some(mount);
            Ok(())
        }
    }
}
