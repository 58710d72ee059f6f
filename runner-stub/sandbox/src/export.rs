//! Writes the root file system of a container that does not run into a folder, for other runtimes.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::Error;
use crate::rootfs::{self, copyup, resolve};
use crate::spec::Bundle;

/// A folder that gets what the image has at a path.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// In the image; when it is no folder there, nothing is copied.
    pub image_path: &'a str,
    /// On the device, absolute and empty.
    pub folder: PathBuf,
}

/// Copies the root file system of the container in `container_dir` to the empty folder `target`, and parts of it to folders of
/// their own. Owners, modes, times and extended attributes are kept; hard links become files of their own. The caller is in the
/// user namespace, with one thread, and its working directory changes.
pub fn export(container_dir: &Path, target: &Path, parts: &[Part<'_>]) -> Result<(), Error> {
    let bundle = Bundle::load(container_dir)?;
    let root = rootfs::image(&bundle)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Export { path, source }
    };
    let open =
        |path: &Path| rootfs::open_outside(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed(path));
    copyup::fill(&root, &open(target)?, true).map_err(failed(target))?;
    for Part { image_path, folder } in parts {
        let found = match resolve::existing(&root, image_path, ResolveFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            found => found.map_err(|error| failed(folder)(error.into()))?,
        };
        let status = rustix::fs::fstat(&found).map_err(|error| failed(folder)(error.into()))?;
        if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
            copyup::fill(&found, &open(folder)?, true).map_err(failed(folder))?;
        }
    }
    drop(root);
    // The caller removes the container's folder.
    let rootfs = bundle.rootfs();
    rustix::mount::unmount(&rootfs, UnmountFlags::DETACH).map_err(|error| failed(&rootfs)(error.into()))
}
