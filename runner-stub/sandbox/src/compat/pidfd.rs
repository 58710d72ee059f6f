//! A descriptor that stands for one process, also after its number has become another's.
//!
//! It is a pidfd, or before Linux 5.3 the process's folder in `/proc`: what is looked up in that fails once the process is
//! reaped. Such a folder cannot be polled ([`is_pollable`]), and signals go by the number, directly after the folder has said that
//! the process is there: a gap of one system call in which the number would have to be given away and come round again.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus};

use crate::{stat, sys};

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Of a live process, or one that nobody has reaped yet.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    open_by(CWD, &format!("/proc/{pid}"), pid)
}

/// Like [`open`] where `/proc` may be another one than that of the caller's PID namespace.
pub(crate) fn open_in(proc: impl AsFd, pid: i32) -> io::Result<OwnedFd> {
    open_by(proc, &pid.to_string(), pid)
}

fn open_by(directory: impl AsFd, folder: &str, pid: i32) -> io::Result<OwnedFd> {
    let id = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    match rustix::process::pidfd_open(id, PidfdFlags::empty()) {
        Err(Errno::NOSYS) => match rustix::fs::openat(directory, folder, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => Err(Errno::SRCH.into()),
            result => Ok(result?),
        },
        result => Ok(result?),
    }
}

/// Whether it becomes readable when the process ends; else [`has_ended`] has to be asked again and again.
pub fn is_pollable(process: impl AsFd) -> bool {
    rustix::fs::fstat(process)
        .is_ok_and(|status| FileType::from_raw_mode(status.st_mode) != FileType::Directory)
}

/// Whether it has ended, reaped or not.
pub fn has_ended(process: impl AsFd) -> bool {
    if is_pollable(&process) {
        let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        return rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0);
    }
    // `stat` is gone, or says Z or X.
    status_of(process).is_none_or(|(_, state)| matches!(state, 'Z' | 'X'))
}

/// Sends it a signal; real-time ones too.
pub(crate) fn signal(process: impl AsFd, number: i32) -> io::Result<()> {
    match sys::signal_process(process.as_fd(), number) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => match status_of(process) {
            Some((pid, _)) => sys::signal_number(pid, number),
            None => Err(Errno::SRCH.into()),
        },
        result => result,
    }
}

/// Reaps it when it has ended and is a child of ours.
pub fn reap(process: impl AsFd) -> Option<WaitIdStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match rustix::process::waitid(WaitId::PidFd(process.as_fd()), options) {
        // Linux 5.4; a folder is not taken at all. As a child that is not reaped its number is its own.
        Err(Errno::INVAL | Errno::BADF) => {
            let pid = Pid::from_raw(number(&process)?)?;
            rustix::process::waitid(WaitId::Pid(pid), options).ok().flatten()
        }
        result => result.ok().flatten(),
    }
}

/// Enters namespaces of a process.
pub(crate) fn enter(process: &OwnedFd, kinds: CloneFlags) -> io::Result<()> {
    if is_pollable(process) {
        match setns(process, kinds) {
            // Linux 5.8; before, only what leads to one namespace is taken.
            Err(nix::Error::EINVAL) => {}
            result => return Ok(result?),
        }
    }
    let pid = number(process).ok_or(Errno::SRCH)?;
    let folder = rustix::fs::openat(CWD, format!("/proc/{pid}/ns"), FOLDER, Mode::empty())?;
    // The mount namespace last: with it `/proc` is another one.
    let files = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let wanted = files.into_iter().filter(|(_, kind)| kinds.contains(*kind));
    let open = |(name, kind): (&str, CloneFlags)| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, name, flags, Mode::empty()).map(|fd| (fd, kind))
    };
    let opened = wanted.map(open).collect::<Result<Vec<_>, _>>()?;
    // The folder was found by its number: only if the process is still there, it was its own.
    if has_ended(process) {
        return Err(Errno::SRCH.into());
    }
    opened.iter().try_for_each(|(fd, kind)| setns(fd, *kind)).map_err(Into::into)
}

/// Its number, while it is not reaped.
fn number(process: impl AsFd) -> Option<i32> {
    if !is_pollable(&process) {
        return status_of(process).map(|(pid, _)| pid);
    }
    let path = format!("/proc/self/fdinfo/{}", process.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Number and state by the `stat` in the process's folder (proc(5)).
fn status_of(folder: impl AsFd) -> Option<(i32, char)> {
    let file = rustix::fs::openat(folder, c"stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).ok()?;
    // The name need not be UTF-8; nothing that is looked at is lost.
    let text = String::from_utf8_lossy(&bytes);
    let pid = text.split(' ').next()?.parse().ok()?;
    Some((pid, stat::state(&text)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_folder_of_proc_stands_for_a_process_until_it_is_reaped() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let folder = rustix::fs::open(format!("/proc/{pid}"), FOLDER, Mode::empty()).unwrap();
        assert!(!is_pollable(&folder));
        assert!(!has_ended(&folder));
        assert_eq!(number(&folder), Some(pid));
        let real = open(pid).unwrap();
        assert_eq!(number(&real), Some(pid));
        sys::signal_number(number(&folder).unwrap(), libc::SIGKILL).unwrap();
        while !has_ended(&folder) {
            std::thread::yield_now();
        }
        assert_eq!(number(&folder), Some(pid), "a zombie has its number still");
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(has_ended(&folder) && has_ended(&real));
        assert_eq!(number(&folder), None);
        assert_eq!(number(&real), None);
    }

    #[test]
    fn a_child_is_reaped_by_either_descriptor() {
        for by_folder in [false, true] {
            let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let process = match by_folder {
                true => rustix::fs::open(format!("/proc/{pid}"), FOLDER, Mode::empty()).unwrap(),
                false => open(pid).unwrap(),
            };
            while !has_ended(&process) {
                std::thread::yield_now();
            }
            assert_eq!(reap(&process).unwrap().exit_status(), Some(7));
            assert!(reap(&process).is_none());
            assert!(child.wait().is_err(), "it was reaped");
        }
    }
}
