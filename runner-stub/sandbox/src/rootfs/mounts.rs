//! Carries out a mount plan: makes a detached mount, gives it its attributes, moves it onto a held descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::copyup;
use super::options::{CONTEXT, NO_DEV, PRIVATE, Plan, READ_ONLY, What};
use super::resolve::{self, Kind};
use crate::Error;
use crate::compat::in_root;
use crate::compat::mounts::{attach, clone_tree, new_file_system, set_attributes};
use crate::selinux;
use crate::sys::MountAttributes;

/// Mounts one entry. `slaves`: mounts are slaves of the host's here and have to be made private one by one.
pub(super) fn mount(root: &OwnedFd, plan: &Plan, slaves: bool) -> Result<(), Error> {
    match &plan.what {
        What::Bind { source, subpath, recursive, copy_up } => {
            if *copy_up {
                copyup::copy_up(root, &plan.target, source)?;
            }
            bind(root, plan, source, subpath.as_deref(), *recursive, slaves)
        }
        What::Image { layers, subpath } => image(root, plan, layers, subpath.as_deref()),
        What::FileSystem { kind, source, data, copy_up: true } => copied_up(root, plan, kind, source, data),
        What::FileSystem { kind, source, data, .. } => match kind.as_str() {
            "cgroup" | "cgroup2" => control_groups(root, plan, data),
            "sysfs" => match file_system(root, plan, kind, source, data) {
                // Only who owns the network namespace may mount sysfs: with the host's network its own tree, read-only.
                Err(Error::Mount { source, .. }) if source.raw_os_error() == Some(nix::libc::EPERM) => {
                    host_sysfs(root, plan)
                }
                result => result,
            },
            kind => file_system(root, plan, kind, source, data),
        },
    }
}

/// No device node opens on the mount (tree) that `fd` is the root of.
pub(super) fn deny_devices(fd: impl AsFd) -> io::Result<()> {
    set_attributes(fd, true, &MountAttributes { set: NO_DEV, ..Default::default() })
}

/// The mount that `fd` is the root of, without those below.
pub(super) fn make_read_only(fd: impl AsFd) -> io::Result<()> {
    set_attributes(fd, false, &MountAttributes { set: READ_ONLY, ..Default::default() })
}

fn failed(plan: &Plan, kind: &str, detail: String) -> impl Fn(io::Error) -> Error {
    move |source| Error::Mount {
        kind: kind.to_owned(),
        target: plan.target.clone(),
        detail: detail.clone(),
        source,
    }
}

fn target(root: &OwnedFd, plan: &Plan, kind: Kind) -> Result<OwnedFd, Error> {
    let failed = |source: io::Error| Error::Target { target: plan.target.clone(), source };
    let target = resolve::target(root, &plan.target, kind).map_err(failed)?;
    // A mount over parts of /proc would fool whoever trusts what it reads there (CVE-2019-16884, CVE-2019-19921).
    let status = rustix::fs::fstatfs(&target).map_err(|e| failed(e.into()))?;
    if status.f_type == rustix::fs::PROC_SUPER_MAGIC {
        return Err(failed(io::Error::other("it is inside /proc")));
    }
    Ok(target)
}

fn bind(
    root: &OwnedFd,
    plan: &Plan,
    source: &Path,
    subpath: Option<&str>,
    recursive: bool,
    slaves: bool,
) -> Result<(), Error> {
    let unreadable = |error: io::Error| Error::Source { path: source.to_owned(), source: error };
    let mut outside = super::open_outside(source, OFlags::PATH).map_err(unreadable)?;
    if let Some(subpath) = subpath {
        outside = below(&outside, subpath)
            .map_err(|error| Error::Source { path: source.join(subpath), source: error })?;
    }
    let status = rustix::fs::fstat(&outside).map_err(|e| unreadable(e.into()))?;
    let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    if matches!(plan.target.trim_end_matches('/'), "/proc" | "/sys") {
        refuse_symlink(root, plan)?;
    }
    let target = target(root, plan, if is_directory { Kind::Directory } else { Kind::File })?;
    let failed = failed(plan, "bind", String::new());

    let tree = clone_tree(&outside, recursive).map_err(|e| match e {
        // The kernel hides nothing that another mount covers: only with all mounts below may the tree be copied.
        Errno::INVAL if !recursive => failed(io::Error::other("mounts lie below the source; use `rbind`")),
        e => failed(e.into()),
    })?;
    let apply = |recursive, attributes: &MountAttributes| {
        let nothing = *attributes == MountAttributes::default();
        if nothing { Ok(()) } else { set_attributes(&tree, recursive, attributes) }
    };
    apply(false, &plan.attributes).map_err(&failed)?;
    apply(true, &plan.recursive_attributes).map_err(&failed)?;
    let file_type = FileType::from_raw_mode(status.st_mode);
    if plan.denies_devices && !matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice) {
        deny_devices(&tree).map_err(&failed)?;
    }
    if slaves {
        let (kind, recursive) =
            plan.propagation.map_or((PRIVATE, true), |propagation| (propagation.kind, propagation.recursive));
        apply(recursive, &MountAttributes { propagation: kind, ..Default::default() }).map_err(&failed)?;
    }
    attach(&tree, &target).map_err(|e| failed(e.into()))
}

/// Opens what lies below a folder. Who writes there may have put a link into its way, and may exchange it at any time.
fn below(folder: &OwnedFd, subpath: &str) -> io::Result<OwnedFd> {
    Ok(in_root::open(folder, subpath, OFlags::PATH, ResolveFlags::NO_XDEV)?)
}

/// Several layers as one tree.
fn image(root: &OwnedFd, plan: &Plan, layers: &[PathBuf], subpath: Option<&str>) -> Result<(), Error> {
    let failed = |error: io::Error| failed(plan, "overlay", String::new())(error);
    // The kernel wants the topmost first, and takes 256 bytes before Linux 6.5; see `overlay`.
    let layers = layers.iter().rev().map(|layer| {
        super::open_outside(layer, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|source| Error::Layer { path: layer.clone(), source })
    });
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let lower = layers.iter().map(|layer| layer.as_raw_fd().to_string()).collect::<Vec<_>>().join(":");
    rustix::process::chdir("/proc/self/fd").map_err(|error| failed(error.into()))?;
    let mut data = vec![("lowerdir".to_owned(), Some(lower)), ("userxattr".to_owned(), None)];
    data.extend(plan.label.clone().map(|label| (CONTEXT.to_owned(), Some(label))));
    let mount = new_file_system("overlay", "overlay", &data, plan.attributes.set)
        .map_err(|(error, detail)| self::failed(plan, "overlay", detail)(error.into()))?;
    let Some(subpath) = subpath else {
        let target = target(root, plan, Kind::Directory)?;
        return attach(&mount, &target).map_err(|error| failed(error.into()));
    };
    // A part of a mount can be cloned only while the mount is somewhere: over the root, where nobody looks it up.
    attach(&mount, root).map_err(|error| failed(error.into()))?;
    let part = below(&mount, subpath)
        .map_err(|source| Error::Source { path: Path::new(&plan.target).join(subpath), source });
    let tree = part.and_then(|part| {
        let status = rustix::fs::fstat(&part).map_err(|error| failed(error.into()))?;
        let tree = clone_tree(&part, false).map_err(|error| failed(error.into()))?;
        Ok((FileType::from_raw_mode(status.st_mode) == FileType::Directory, tree))
    });
    let place = format!("/proc/self/fd/{}", mount.as_raw_fd());
    rustix::mount::unmount(place, UnmountFlags::DETACH).map_err(|error| failed(error.into()))?;
    let (is_directory, tree) = tree?;
    let target = target(root, plan, if is_directory { Kind::Directory } else { Kind::File })?;
    attach(&tree, &target).map_err(|error| failed(error.into()))
}

fn file_system(
    root: &OwnedFd,
    plan: &Plan,
    kind: &str,
    source: &str,
    data: &[(String, Option<String>)],
) -> Result<(), Error> {
    if kind == "proc" || kind == "sysfs" {
        refuse_symlink(root, plan)?;
    }
    let target = target(root, plan, Kind::Directory)?;
    let mount = new_file_system(kind, source, data, plan.attributes.set)
        .map_err(|(error, detail)| failed(plan, kind, detail)(error.into()))?;
    if let Some(label) = &plan.label {
        let name = in_root::by_number(mount.as_fd());
        match rustix::fs::setxattr(name, selinux::ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
            // The policy gives labels there, and lets nobody change them.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(source) => return Err(Error::Label { label: label.clone(), source: source.into() }),
        }
    }
    attach(&mount, &target).map_err(|e| failed(plan, kind, String::new())(e.into()))
}

/// `tmpcopyup`: a tmpfs that starts with what the image has at its mount point.
fn copied_up(
    root: &OwnedFd,
    plan: &Plan,
    kind: &str,
    source: &str,
    data: &[(String, Option<String>)],
) -> Result<(), Error> {
    let failed = |error: io::Error| failed(plan, kind, String::new())(error);
    let target = target(root, plan, Kind::Directory)?;
    let writable = plan.attributes.set & !READ_ONLY;
    let mount = new_file_system(kind, source, data, writable)
        .map_err(|(error, detail)| self::failed(plan, kind, detail)(error.into()))?;
    let own_mode = data.iter().any(|(key, _)| key == "mode");
    copyup::fill(&target, &mount, !own_mode).map_err(failed)?;
    if plan.attributes.set & READ_ONLY != 0 {
        make_read_only(&mount).map_err(failed)?;
    }
    attach(&mount, &target).map_err(|error| failed(error.into()))
}

/// An image with `/proc -> /elsewhere` must not have proc mounted elsewhere (CVE-2023-27561).
fn refuse_symlink(root: &OwnedFd, plan: &Plan) -> Result<(), Error> {
    match resolve::existing(root, &plan.target, ResolveFlags::NO_SYMLINKS) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::Target { target: plan.target.clone(), source: error.into() }),
    }
}

/// The pure v2 hierarchy, or an empty folder where the host still has v1: nothing there is of use to a container.
fn control_groups(root: &OwnedFd, plan: &Plan, data: &[(String, Option<String>)]) -> Result<(), Error> {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    let host = rustix::fs::statfs("/sys/fs/cgroup").map(|status| status.f_type as u64 & 0xffff_ffff);
    let read_only = plan.attributes.set | READ_ONLY;
    let mount = if host == Ok(CGROUP2_SUPER_MAGIC) {
        new_file_system("cgroup2", "cgroup", data, plan.attributes.set)
    } else {
        let mode = [("mode".to_owned(), Some("755".to_owned())), ("size".to_owned(), Some("4k".to_owned()))];
        new_file_system("tmpfs", "tmpfs", &mode, read_only)
    };
    let mount = mount.map_err(|(error, detail)| failed(plan, "cgroup2", detail)(error.into()))?;
    let target = match resolve::target(root, &plan.target, Kind::Directory) {
        Ok(target) => target,
        // Below a bound, read-only /sys there is nothing to mount on, and nothing to protect.
        Err(error) if error.raw_os_error() == Some(nix::libc::EROFS) => return Ok(()),
        Err(source) => return Err(Error::Target { target: plan.target.clone(), source }),
    };
    attach(&mount, &target).map_err(|e| failed(plan, "cgroup2", String::new())(e.into()))
}

fn host_sysfs(root: &OwnedFd, plan: &Plan) -> Result<(), Error> {
    refuse_symlink(root, plan)?;
    let failed = failed(plan, "sysfs", String::new());
    let host = super::open_outside(Path::new("/sys"), OFlags::PATH).map_err(&failed)?;
    let tree = clone_tree(&host, true).map_err(|e| failed(e.into()))?;
    let attributes = MountAttributes { set: plan.attributes.set | READ_ONLY, ..Default::default() };
    set_attributes(&tree, true, &attributes).map_err(&failed)?;
    attach(&tree, &target(root, plan, Kind::Directory)?).map_err(|e| failed(e.into()))
}
