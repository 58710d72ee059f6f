//! The program as no container can write to it: on a read-only clone of its mount, or in sealed memory.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

use crate::sys::{self, MountAttributes};

/// Where the role is executed from.
pub(super) enum Program {
    /// It lies on a read-only mount or in sealed memory.
    AsItIs(OwnedFd),
    /// To be cloned in the child, which has the privilege: path, device and inode.
    Clone(CString, (u64, u64)),
}

impl Program {
    /// `privileged`: the role's process will be in a mount namespace of its own.
    pub(super) fn find(privileged: bool, length: Option<u64>) -> io::Result<Self> {
        let own = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(Program::AsItIs(own));
        }
        let sealed = SealFlags::WRITE | SealFlags::SEAL;
        let file = File::open("/proc/self/exe")?;
        if rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(sealed)) {
            return Ok(Program::AsItIs(own));
        }
        // The mount behind /proc/self/exe is in the caller's mount namespace and cannot be cloned from another; the path
        // leads to its copy in the new one. A program that was deleted or moved meanwhile has no path any more.
        let identity = identity(&own)?;
        let path = rustix::fs::readlink("/proc/self/exe", Vec::new())?;
        let found = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let reachable = found.is_ok_and(|fd| self::identity(&fd) == Ok(identity));
        if reachable && can_set_mount_attributes() {
            if privileged {
                return Ok(Program::Clone(path, identity));
            }
            // In the caller's own namespaces it can be cloned at once, or not at all.
            if let Ok(clone) = clone_read_only(&path, identity) {
                return Ok(Program::AsItIs(clone));
            }
        }
        copy_to_memory(file, length).map(Program::AsItIs)
    }
}

pub(super) fn identity(fd: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    // The width of both differs between machines.
    #[allow(clippy::useless_conversion, reason = "32-bit machines have narrower fields")]
    rustix::fs::fstat(fd).map(|status| (u64::from(status.st_dev), u64::from(status.st_ino)))
}

/// mount_setattr(2) came with Linux 5.12; a structure of wishes that cannot be granted tells without side effects.
fn can_set_mount_attributes() -> bool {
    let impossible = MountAttributes { set: u64::MAX, ..Default::default() };
    !sys::set_mount_attributes(CWD, false, &impossible)
        .is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENOSYS))
}

pub(super) fn clone_read_only(path: &CStr, expected: (u64, u64)) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    if identity(&tree)? != expected {
        return Err(rustix::io::Errno::STALE);
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let read_only = MountAttributes { set: MOUNT_ATTR_RDONLY, ..Default::default() };
    sys::set_mount_attributes(&tree, false, &read_only)
        .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::INVAL))?;
    Ok(tree)
}

/// A sealed copy of the program (without its payload), for kernels that cannot change a mount by descriptor.
fn copy_to_memory(own: File, length: Option<u64>) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create(c"dpack", flags)?);
    io::copy(&mut own.take(length.unwrap_or(u64::MAX)), &mut copy)?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(copy.into())
}
