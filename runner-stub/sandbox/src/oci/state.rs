//! A container's state: `ROOT/ID/state.json`, written once at creation, `started`, and what `/proc` says.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use super::hooks::Hooks;
use crate::Error;
use crate::cgroup::{self, Group};
use crate::channel::Channel;
use crate::compat::pidfd;
use crate::record::ProcessId;
use crate::role::Child;
use crate::signal::Signal;

const FILE: &str = "state.json";
const STARTED: &str = "started";
const SOCKET: &str = "start.sock";
/// What runc takes, too: it becomes a folder's name.
const LONGEST_ID: usize = 1024;

/// Where the specification's lifecycle has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Being made.
    Creating,
    /// PID 1 waits in front of the command.
    Created,
    /// The command runs.
    Running,
    /// It is frozen.
    Paused,
    /// PID 1 has ended.
    Stopped,
}

impl Status {
    /// The specification's word; `paused` is that of all runtimes.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// Where states lie when nothing is said. Who is root in a user namespace only, as below rootless podman, has the folder
/// of its user.
pub fn default_root() -> PathBuf {
    let uid = crate::idmap::outside_user();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if uid == 0 => PathBuf::from("/run"),
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(format!("/run/user/{uid}")),
    };
    folder.join("dpack-oci")
}

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) oci_version: String,
    pub(super) bundle: PathBuf,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) init: ProcessId,
    pub(super) boot_id: String,
    pub(super) hooks: Hooks,
    pub(super) group: Option<Group>,
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

/// A folder that is removed again when creation fails.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) dir: PathBuf,
    keep: bool,
}

impl Reserved {
    /// Takes an ID that nobody has.
    pub(super) fn take(root: &Path, id: &str) -> Result<Self, Error> {
        check_id(id)?;
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        fs::create_dir_all(root).map_err(|source| failed(root, source))?;
        let dir = root.join(id);
        match fs::create_dir(&dir) {
            Ok(()) => Ok(Reserved { dir, keep: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::ContainerExists { id: id.to_owned() })
            }
            Err(source) => Err(failed(&dir, source)),
        }
    }

    /// The socket on which PID 1 waits.
    pub(super) fn listen(&self) -> Result<OwnedFd, Error> {
        let failed = |e: rustix::io::Errno| Error::System { step: "listen for the start", source: e.into() };
        let socket = socket().map_err(failed)?;
        let (_dir, address) = address(&self.dir).map_err(failed)?;
        rustix::net::bind(&socket, &address).map_err(failed)?;
        rustix::net::listen(&socket, 1).map_err(failed)?;
        Ok(socket)
    }

    pub(super) fn commit(mut self, record: &Record) -> Result<(), Error> {
        let path = self.dir.join(FILE);
        let aside = self.dir.join(".state.json.new");
        let attempt = || {
            fs::write(&aside, serde_json::to_vec(record)?)?;
            fs::rename(&aside, &path)
        };
        attempt().map_err(|source: io::Error| Error::Write { path: path.clone(), source })?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > LONGEST_ID || id == "." || id == ".." || !id.bytes().all(allowed) {
        return Err(Error::Invalid {
            property: "ID".to_owned(),
            reason: format!("`{id}` has other characters than letters, digits, `_`, `+`, `-` and `.`"),
        });
    }
    Ok(())
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// An address holds 108 bytes and a path may be longer: it is named through a descriptor of its folder.
fn address(dir: &Path) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    let fd = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", fd.as_raw_fd()))?;
    Ok((fd, address))
}

impl Record {
    /// Reads it.
    pub(super) fn load(root: &Path, id: &str) -> Result<Self, Error> {
        check_id(id)?;
        let dir = root.join(id);
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoContainer { id: id.to_owned() });
            }
            text => text.map_err(|source| Error::Read { path: path.clone(), source })?,
        };
        let record: Record = serde_json::from_slice(&text).map_err(|source| Error::Parse { path, source })?;
        Ok(Record { dir, ..record })
    }

    pub(super) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(super) fn pid(&self) -> i32 {
        self.init.pid
    }

    fn is_alive(&self) -> bool {
        self.boot_id == crate::record::boot_id() && self.init.is_alive()
    }

    pub(super) fn status(&self) -> Status {
        match (self.is_alive(), self.dir.join(STARTED).exists()) {
            (false, _) => Status::Stopped,
            (true, _) if self.group.as_ref().is_some_and(Group::is_frozen) => Status::Paused,
            (true, false) => Status::Created,
            (true, true) => Status::Running,
        }
    }

    /// The specification's state document. The PID only while there is a process (runtime.md, "State").
    pub(super) fn describe(&self, status: Status) -> serde_json::Value {
        let mut state = describe(&self.oci_version, &self.id, status, &self.bundle, &self.annotations);
        if status != Status::Stopped {
            state["pid"] = self.init.pid.into();
        }
        state
    }

    /// An error unless the status is one of `allowed`.
    pub(super) fn expect(&self, id: &str, allowed: &[Status], what: &'static str) -> Result<(), Error> {
        let status = self.status();
        if allowed.contains(&status) {
            return Ok(());
        }
        Err(Error::WrongStatus { id: id.to_owned(), status: status.word(), what })
    }

    pub(super) fn mark_started(&self) -> Result<(), Error> {
        let path = self.dir.join(STARTED);
        fs::write(&path, "").map_err(|source| Error::Write { path, source })
    }

    /// To PID 1, which waits.
    pub(super) fn connect(&self) -> Result<Channel, Error> {
        let failed =
            |e: rustix::io::Errno| Error::System { step: "reach the waiting container", source: e.into() };
        let socket = socket().map_err(failed)?;
        let (_dir, address) = address(&self.dir).map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        // One start only: a second one finds nobody.
        let _ = fs::remove_file(self.dir.join(SOCKET));
        Ok(super::channel(socket))
    }

    pub(super) fn processes(&self) -> Vec<i32> {
        match self.group.as_ref().and_then(Group::processes) {
            Some(pids) => pids,
            None if self.is_alive() => cgroup::processes(self.init.pid),
            None => Vec::new(),
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Error> {
        let failed = |source| Error::System { step: "signal the container", source };
        let init = Child::of(self.init.pid).map_err(failed)?;
        if !self.is_alive() {
            return Ok(());
        }
        pidfd::signal(&init.pidfd, signal.number()).map_err(failed)
    }

    /// Kills it and waits for its end.
    pub(super) fn end(&self) -> Result<(), Error> {
        if let Some(group) = &self.group
            && group.is_frozen()
        {
            group.freeze(false)?;
        }
        if self.is_alive() {
            self.signal(Signal::KILL)?;
        }
        // Its parent may take a while to reap it; a zombie counts as ended.
        for _ in 0..2000 {
            if !self.is_alive() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Error::System { step: "kill the container", source: io::ErrorKind::TimedOut.into() })
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
        if let Some(group) = &self.group {
            group.remove();
        }
        fs::remove_dir_all(&self.dir).map_err(|source| Error::Write { path: self.dir.clone(), source })
    }
}

/// What an interrupted creation left.
pub(super) fn discard(root: &Path, id: &str) -> Result<(), Error> {
    check_id(id)?;
    let dir = root.join(id);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Write { path: dir, source: error })
        }
        _ => Ok(()),
    }
}

/// The specification's state document without a PID.
pub(super) fn describe(
    oci_version: &str,
    id: &str,
    status: Status,
    bundle: &Path,
    annotations: &BTreeMap<String, String>,
) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": oci_version,
        "id": id,
        "status": status.word(),
        "bundle": bundle,
        "annotations": annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_and_given_back_when_creation_fails() {
        let root = tempfile::tempdir().unwrap();
        let first = Reserved::take(root.path(), "a").unwrap();
        assert!(matches!(Reserved::take(root.path(), "a"), Err(Error::ContainerExists { .. })));
        drop(first);
        Reserved::take(root.path(), "a").unwrap();
        assert!(matches!(Record::load(root.path(), "b"), Err(Error::NoContainer { .. })));
        for id in ["", ".", "..", "a/b", "a b", "a\n"] {
            assert!(Reserved::take(root.path(), id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn sockets_may_lie_deep() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("x".repeat(120));
        let reserved = Reserved::take(&deep, "a").unwrap();
        let _listening = reserved.listen().unwrap();
        assert!(reserved.dir.join(SOCKET).exists());
    }
}
