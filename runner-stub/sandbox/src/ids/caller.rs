//! The memory and the files of a thread that waits for an answer.
//!
//! What is read here may change before the kernel looks again: nothing that is decided by it may be more than how
//! something is *shown*. What is written goes through a descriptor of the memory that was opened while the caller was known
//! to wait, so it cannot end up in a process that got the same ID later.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};

use crate::sys::notify::{self, Notification};

const LONGEST_PATH: usize = 4096;
const PAGE: u64 = 4096;

/// Where all callers are found.
#[derive(Debug)]
pub(super) struct Sources {
    /// `/proc` of our own PID namespace.
    pub(super) process: OwnedFd,
    pub(super) listener: OwnedFd,
}

/// A thread that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) sources: &'a Sources,
    pub(super) notification: &'a Notification,
}

impl Caller<'_> {
    /// A path, without its null byte.
    pub(super) fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0_u8; LONGEST_PATH];
        // The second page may not be there.
        let first = PAGE - address % PAGE;
        let length = self.read(&mut bytes, address, first)?;
        let end = bytes[..length].iter().position(|byte| *byte == 0);
        bytes.truncate(end.ok_or(if length == LONGEST_PATH {
            Errno::ENAMETOOLONG
        } else {
            Errno::EFAULT
        })?);
        Ok(bytes)
    }

    /// Exactly so many bytes.
    pub(super) fn bytes(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0_u8; length];
        match self.read(&mut bytes, address, length as u64)? {
            read if read == length => Ok(bytes),
            _ => Err(Errno::EFAULT),
        }
    }

    /// In two parts, because a part is read as a whole or not at all.
    fn read(&self, bytes: &mut [u8], address: u64, first: u64) -> Result<usize, Errno> {
        let length = bytes.len();
        let first = usize::try_from(first).unwrap_or(length).min(length);
        let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
        let mut remote = vec![RemoteIoVec { base, len: first }];
        if first < length {
            remote.push(RemoteIoVec {
                base: base.checked_add(first).ok_or(Errno::EFAULT)?,
                len: length - first,
            });
        }
        process_vm_readv(self.pid(), &mut [IoSliceMut::new(bytes)], &remote)
    }

    /// Writes into the caller's memory, if it still waits.
    pub(super) fn write(&self, parts: &[(u64, &[u8])]) -> Result<(), Errno> {
        let memory = self.open("mem", OFlags::WRONLY)?;
        if !notify::is_waiting(self.sources.listener.as_fd(), self.notification) {
            return Err(Errno::ESRCH);
        }
        for (address, bytes) in parts {
            match rustix::io::pwrite(&memory, bytes, *address) {
                Ok(length) if length == bytes.len() => {}
                _ => return Err(Errno::EFAULT),
            }
        }
        Ok(())
    }

    /// What a path leads to for the caller, without opening it.
    pub(super) fn find(&self, directory: u64, path: &[u8], follow: bool) -> Result<OwnedFd, Errno> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        let open = |directory: BorrowedFd<'_>| rustix::fs::openat(directory, path, flags, Mode::empty());
        let found = if path.is_empty() {
            return Err(Errno::ENOENT);
        } else if path.starts_with(b"/") {
            open(self.sources.process.as_fd())
        } else {
            open(self.directory(directory)?.as_fd())
        };
        found.map_err(errno)
    }

    /// What a descriptor of the caller is open on.
    pub(super) fn descriptor(&self, number: u64) -> Result<OwnedFd, Errno> {
        let number = i32::try_from(number & 0xffff_ffff).map_err(|_| Errno::EBADF)?;
        self.open(&format!("fd/{number}"), OFlags::PATH).map_err(|_| Errno::EBADF)
    }

    /// Capabilities in effect, by number.
    pub(super) fn has_capability(&self, number: u32) -> bool {
        let read = || -> Option<u64> {
            let file = self.open("status", OFlags::RDONLY).ok()?;
            let mut text = String::new();
            std::io::Read::read_to_string(&mut std::fs::File::from(file), &mut text).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        read().is_some_and(|capabilities| capabilities & (1 << number) != 0)
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<OwnedFd, Errno> {
        self.open("root", OFlags::PATH)
    }

    fn directory(&self, number: u64) -> Result<OwnedFd, Errno> {
        // An int in a register: the upper half is anything.
        let number = (number & 0xffff_ffff) as u32;
        if number == nix::libc::AT_FDCWD.cast_unsigned() {
            self.open("cwd", OFlags::PATH)
        } else {
            self.descriptor(number.into())
        }
    }

    /// A file of its folder in `/proc`.
    pub(super) fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = format!("{}/{name}", self.notification.thread);
        rustix::fs::openat(self.sources.process.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(errno)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.notification.thread.cast_signed())
    }
}

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
