//! Separates the mounts from the host's and makes the new root the only one.

use std::os::fd::OwnedFd;

use rustix::mount::{MountPropagationFlags, mount_change};

use crate::Error;

/// No mount made from here on shows up outside. Slaves still see what the host mounts later, for `rslave` binds.
pub(super) fn separate(slaves: bool) -> Result<(), Error> {
    let kind = if slaves { MountPropagationFlags::DOWNSTREAM } else { MountPropagationFlags::PRIVATE };
    mount_change(c"/", kind | MountPropagationFlags::REC).map_err(|e| Error::Propagation(e.into()))
}

/// The old root is stacked on the new one for a moment and then detached with everything below: no directory for it has to
/// exist in the image.
pub(super) fn pivot(root: OwnedFd) -> Result<(), Error> {
    let steps = || {
        rustix::process::fchdir(&root)?;
        rustix::process::pivot_root(c".", c".")?;
        rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)?;
        rustix::process::chdir(c"/")
    };
    steps().map_err(|e: rustix::io::Errno| Error::Pivot(e.into()))
}
