//! Into the role's user namespace: a new one with its ID map, or that of a live process.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags};

use super::program::identity;
use super::{STEP_JOIN, STEP_MAP, STEP_MOUNTS, STEP_USER_NAMESPACE, UserNamespace};
use crate::Error;
use crate::idmap::{Full, IdMap, Range};

/// What the process does that becomes the role.
pub(super) enum Enter {
    Nothing,
    Join(OwnedFd),
    /// The lines of `uid_map` and `gid_map`, which an ordinary user may write for one ID.
    NewSingle(String, String),
    /// Somebody outside writes the map when asked over the socket.
    NewFull,
}

impl Enter {
    pub(super) fn new(namespace: &UserNamespace<'_>) -> Result<Self, Error> {
        Ok(match namespace {
            UserNamespace::Inherit => Enter::Nothing,
            UserNamespace::Join(pid) => match namespace_to_join(*pid) {
                Ok(Some(fd)) => Enter::Join(fd),
                Ok(None) => Enter::Nothing,
                Err(source) => return Err(Error::JoinUserNamespace { pid: *pid, source }),
            },
            UserNamespace::JoinOpen(fd) => match fd.try_clone_to_owned().and_then(different) {
                Ok(Some(fd)) => Enter::Join(fd),
                Ok(None) => Enter::Nothing,
                Err(source) => return Err(Error::System { step: STEP_JOIN, source }),
            },
            UserNamespace::New(IdMap::Single { .. }) => Enter::NewSingle(
                format!("0 {} 1\n", rustix::process::geteuid().as_raw()),
                format!("0 {} 1\n", rustix::process::getegid().as_raw()),
            ),
            UserNamespace::New(IdMap::Full(_)) => Enter::NewFull,
        })
    }

    /// In the process that becomes the role. Allocates nothing.
    pub(super) fn run(&self, socket: &OwnedFd) -> Result<(), (&'static str, io::Error)> {
        match self {
            Enter::Nothing => return Ok(()),
            Enter::Join(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(|e| (STEP_JOIN, e.into()))?;
                unshare(CloneFlags::CLONE_NEWNS).map_err(|e| (STEP_MOUNTS, e.into()))?;
            }
            Enter::NewSingle(uid_map, gid_map) => {
                new_namespaces()?;
                let write = |path: &CStr, text: &str| -> io::Result<()> {
                    let file =
                        rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                    rustix::io::write(&file, text.as_bytes())?;
                    Ok(())
                };
                // Without newgidmap, groups must not be given up: a group can be what denies access (user_namespaces(7)).
                write(c"/proc/self/setgroups", "deny").map_err(|e| (STEP_MAP, e))?;
                write(c"/proc/self/uid_map", uid_map).map_err(|e| (STEP_MAP, e))?;
                write(c"/proc/self/gid_map", gid_map).map_err(|e| (STEP_MAP, e))?;
            }
            Enter::NewFull => {
                new_namespaces()?;
                let mut reply = [0_u8; 1];
                let asked = rustix::io::write(socket, &[1]);
                match asked.and_then(|_| rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut reply))) {
                    Ok(1) => {}
                    Ok(_) => return Err((STEP_MAP, io::Error::from_raw_os_error(nix::libc::EPERM))),
                    Err(e) => return Err((STEP_MAP, e.into())),
                }
            }
        }
        Ok(())
    }
}

/// The user namespace comes first, whatever the order of the flags: it owns the other.
fn new_namespaces() -> Result<(), (&'static str, io::Error)> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| (STEP_USER_NAMESPACE, e.into()))
}

/// Has the maps of `pid` written, both at once.
pub(super) fn write_map(full: &Full, pid: i32) -> Result<(), Error> {
    let Some((uid_helper, gid_helper)) = &full.helpers else {
        for (file, ranges) in [("uid_map", &full.uids), ("gid_map", &full.gids)] {
            std::fs::write(format!("/proc/{pid}/{file}"), IdMap::lines(ranges)).map_err(Error::IdMap)?;
        }
        return Ok(());
    };
    let start = |program: &PathBuf, ranges: &[Range]| {
        let numbers = ranges.iter().flat_map(|r| [r.inside, r.outside, r.count]).map(|n| n.to_string());
        Command::new(program)
            .arg(pid.to_string())
            .args(numbers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
    };
    let running = [(uid_helper, start(uid_helper, &full.uids)), (gid_helper, start(gid_helper, &full.gids))];
    let mut result = Ok(());
    for (program, child) in running {
        if !child.and_then(|mut child| child.wait()).is_ok_and(|status| status.success()) {
            result = Err(Error::IdMapHelper { program: program.clone() });
        }
    }
    result
}

/// The user namespace of `pid`; none when it is ours.
fn namespace_to_join(pid: i32) -> io::Result<Option<OwnedFd>> {
    different(File::open(format!("/proc/{pid}/ns/user"))?.into())
}

fn different(theirs: OwnedFd) -> io::Result<Option<OwnedFd>> {
    let ours = File::open("/proc/self/ns/user")?.into();
    let same = identity(&theirs)? == identity(&ours)?;
    Ok((!same).then_some(theirs))
}
