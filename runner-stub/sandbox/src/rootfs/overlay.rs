//! The image's layers under the container's own upper directory.
//!
//! mount(2) takes one page of options and fsconfig(2) 256 bytes for a value before Linux 6.5. So the layers are opened and
//! named by their numbers, relative to `/proc/self/fd`: 500 layers, which is all the kernel takes, fit in a page. The
//! host's paths do not show up in the container's mountinfo either.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use crate::Error;
use crate::spec::{Bundle, Storage};

/// Mounts the overlay, or the plain folder onto itself; the root of the mount.
pub(super) fn mount(bundle: &Bundle) -> Result<OwnedFd, Error> {
    let path = bundle.rootfs();
    let failed = |source: io::Error| Error::Rootfs { path: path.clone(), source };
    match &bundle.storage {
        Some(storage) => {
            if storage.volatile {
                // Left by a mount that a power cut ended: what it protected is not kept anyway.
                let _ = std::fs::remove_dir_all(storage.work.join("work/incompat"));
            }
            overlay(&path, storage, bundle.spec.mount_label())?;
        }
        None => rustix::mount::mount_bind_recursive(&path, &path).map_err(|e| failed(e.into()))?,
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))
}

fn overlay(path: &std::path::Path, storage: &Storage, label: Option<&str>) -> Result<(), Error> {
    let open = |path: &std::path::PathBuf| {
        super::open_outside(path, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| Error::Layer { path: path.clone(), source })
    };
    // The kernel wants the topmost first.
    let layers = storage.layers.iter().rev().map(open).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(&storage.upper)?, open(&storage.work)?);
    let lower = layers.iter().map(|layer| layer.as_raw_fd().to_string()).collect::<Vec<_>>().join(":");
    let volatile = if storage.volatile { ",volatile" } else { "" };
    let context = label.map(|label| format!(",{}=\"{label}\"", super::options::CONTEXT)).unwrap_or_default();
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={},userxattr{volatile}{context}",
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    let failed = |source: rustix::io::Errno| Error::Overlay {
        path: path.to_owned(),
        layers: layers.len(),
        source: source.into(),
    };
    // The working directory is changed for good; the pivot changes it again.
    rustix::process::chdir("/proc/self/fd").map_err(failed)?;
    let options = std::ffi::CString::new(options).map_err(|_| failed(rustix::io::Errno::INVAL))?;
    rustix::mount::mount(c"overlay", path, c"overlay", MountFlags::NODEV, options.as_c_str())
        .map_err(failed)?;
    Ok(())
}
