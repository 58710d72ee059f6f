//! Builds the container's root file system inside PID 1's own mount namespace.
//!
//! ```text
//! overlay ─> mounts (with volumes copied up) ─> devices ─> masked, read-only ─> pivot
//! ```
//!
//! The image is hostile: it can hold a symlink at any place. Each target is found from a descriptor of the root with
//! `openat2(RESOLVE_IN_ROOT)` (or by hand, `compat`) and mounted on *by descriptor*, so what was checked is what is used (CVE-2021-30465). Nothing
//! has to be undone after a failure: the mounts die with the namespace.

pub(crate) mod copyup;
mod covers;
mod devices;
mod mounts;
mod options;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use options::hold_to_rules;
mod overlay;
mod pivot;
pub(crate) mod resolve;
pub(crate) mod sysctls;

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};

use crate::Error;
use crate::cgroup::Resources;
use crate::compat;
use crate::idmap::Mapped;
use crate::spec::Bundle;

/// Makes the bundle's root file system the root of this process. `before_pivot` sees the host's paths still.
pub(crate) fn enter(
    bundle: &Bundle,
    mapped: Mapped,
    before_pivot: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    let spec = &bundle.spec;
    let mut plans =
        spec.mounts.iter().map(|mount| options::plan(mount, mapped)).collect::<Result<Vec<_>, _>>()?;
    // What the cgroup controller of devices does elsewhere: nodes that the container makes open nothing, because no mount has
    // nodes but those bound below. In a user namespace no node can be made.
    let denies_devices = spec.linux.resources.as_ref().is_some_and(Resources::denies_devices);
    if denies_devices {
        plans.iter_mut().for_each(options::Plan::deny_devices);
    }
    if let Some(label) = spec.mount_label() {
        plans.iter_mut().for_each(|plan| plan.label(label));
    }
    let root_propagation = options::root_propagation(spec.linux.rootfs_propagation.as_deref())?;
    let keeps_slaves = plans.iter().any(|plan| plan.propagation.is_some()) || root_propagation.is_some();
    pivot::separate(keeps_slaves)?;

    let root = overlay::mount(bundle)?;
    if denies_devices {
        mounts::deny_devices(&root).map_err(|source| Error::Rootfs { path: bundle.rootfs(), source })?;
    }
    for plan in &plans {
        mounts::mount(&root, plan, keeps_slaves)?;
    }
    devices::make(&root, spec)?;
    make_working_directory(&root, &spec.process.cwd)?;
    sysctls::set(&root, spec)?;
    covers::cover(&root, spec)?;
    if spec.root.readonly {
        mounts::make_read_only(&root).map_err(|source| Error::Cover { path: "/".to_owned(), source })?;
    }
    before_pivot()?;
    pivot::pivot(root)
}

/// The root file system of a container that does not run, with its volumes and files, for whoever wants to copy something.
/// Mounted in this process's own mount namespace, with which it goes.
pub(crate) fn assemble(bundle: &Bundle) -> Result<OwnedFd, Error> {
    let mapped = Mapped::current();
    let root = image(bundle)?;
    for mount in &bundle.spec.mounts {
        let mut plan = options::plan(mount, mapped)?;
        if let Some(label) = bundle.spec.mount_label() {
            plan.label(label);
        }
        if matches!(plan.what, options::What::Bind { .. } | options::What::Image { .. }) {
            mounts::mount(&root, &plan, false)?;
        }
    }
    if bundle.spec.root.readonly {
        // As Docker refuses it; and files of a copied root may be links to the layers'.
        mounts::make_read_only(&root).map_err(|source| Error::Cover { path: "/".to_owned(), source })?;
    }
    Ok(root)
}

/// The same without anything mounted in it.
pub(crate) fn image(bundle: &Bundle) -> Result<OwnedFd, Error> {
    pivot::separate(false)?;
    overlay::mount(bundle)
}

/// After the pivot: the container's `/dev/console` is its pseudo-terminal.
pub(crate) fn bind_console(terminal: &OwnedFd) -> io::Result<()> {
    let root = open_outside(std::path::Path::new("/"), OFlags::PATH)?;
    let console = resolve::target(&root, "/dev/console", resolve::Kind::File)?;
    Ok(compat::mounts::attach(compat::mounts::clone_tree(terminal, false)?, console)?)
}

/// Docker makes a missing working directory, owned by root.
fn make_working_directory(root: &OwnedFd, path: &str) -> Result<(), Error> {
    if path == "/" {
        return Ok(());
    }
    match resolve::target(root, path, resolve::Kind::Directory) {
        Ok(_) => Ok(()),
        // A volume that is mounted read-only may lie on the way: whether the directory is there shows later.
        Err(error) if error.raw_os_error() == Some(nix::libc::EROFS) => Ok(()),
        Err(source) => Err(Error::WorkingDirectory { path: path.to_owned(), source }),
    }
}

/// Opens a directory or file outside the container by its path there.
pub(crate) fn open_outside(path: &std::path::Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
}
