//! The OCI runtime command line's verbs: containers made from anybody's bundle, by podman or by hand.
//!
//! ```text
//! create: this process ── Spawn ──> dpack-oci (in the bundle's user namespace) ── fork ──> PID 1
//!           hooks, state <──────────────┘  ends                                      │ waits on `start.sock`
//! start:  connects ─────────────────────────────────── Start ──────────────────────> │ execve
//! ```
//!
//! Nobody of ours stays: PID 1 becomes a child of whoever is its subreaper (conmon). It waits with a listening socket that
//! lies in the state's folder, so that `start` hears what hindered the command. The state is one file, written once, and a
//! mark that it was started; all else is seen in `/proc`.
//!
//! Differs from [`crate::shim`] in three ways: hooks are run, descriptors are passed on, and the container outlives its
//! parent.

mod create;
mod exec;
mod features;
mod hooks;
mod state;

use std::path::{Path, PathBuf};

pub use create::{Create, ROLE, create, main};
pub use exec::{Exec, exec};
pub use features::features;
pub(crate) use hooks::{Hooks, Stage};
pub use state::{Status, default_root};

use crate::Error;
use crate::channel::{Channel, Message};
use crate::signal::Signal;
use state::Record;

/// Runs the command of a created container; returns when it is executed, or with what hindered it.
pub fn start(root: &Path, id: &str) -> Result<(), Error> {
    let record = Record::load(root, id)?;
    record.expect(id, &[Status::Created], "started")?;
    let channel = record.connect()?;
    channel.send(&Message::Start, None)?;
    match channel.receive()? {
        None => {}
        Some((Message::Failed(failure), _)) => return Err(Error::Remote(failure)),
        Some(_) => return Err(Error::Vanished { process: "the container's first process" }),
    }
    record.mark_started()?;
    let hooks = record.hooks().run(Stage::Poststart, &record.describe(Status::Running));
    if hooks.is_err() {
        // runtime.md, "Lifecycle", step 9: an error, the end of the container, and what follows that.
        record.end()?;
        record.remove()?;
        let _ = record.hooks().run(Stage::Poststop, &record.describe(Status::Stopped));
    }
    hooks
}

/// The state as the runtime specification has it.
pub fn state(root: &Path, id: &str) -> Result<serde_json::Value, Error> {
    let record = Record::load(root, id)?;
    let status = record.status();
    Ok(record.describe(status))
}

/// Sends a signal to PID 1, or to every process (`all`).
pub fn kill(root: &Path, id: &str, signal: Signal, all: bool) -> Result<(), Error> {
    let record = Record::load(root, id)?;
    if all {
        // As runc: also what is left of a stopped container.
        for pid in record.processes() {
            let _ = crate::sys::signal_number(pid, signal.number());
        }
        return Ok(());
    }
    record.expect(id, &[Status::Created, Status::Running, Status::Paused], "killed")?;
    record.signal(signal)
}

/// Removes what is left of a stopped container; with `force`, kills it first. A container that is not there is then no error.
/// What comes back is a warning: a `poststop` hook that fails hinders nothing (runtime.md, "Lifecycle", step 13).
pub fn delete(root: &Path, id: &str, force: bool) -> Result<Option<Error>, Error> {
    let record = match Record::load(root, id) {
        Err(Error::NoContainer { .. }) if force => return state::discard(root, id).map(|()| None),
        record => record?,
    };
    if force {
        record.end()?;
    }
    record.expect(id, &[Status::Stopped], "deleted")?;
    record.remove()?;
    Ok(record.hooks().run(Stage::Poststop, &record.describe(Status::Stopped)).err())
}

/// The container's processes, as the caller sees them.
pub fn processes(root: &Path, id: &str) -> Result<Vec<i32>, Error> {
    let record = Record::load(root, id)?;
    record.expect(id, &[Status::Created, Status::Running, Status::Paused], "listed")?;
    Ok(record.processes())
}

/// Freezes all processes, or lets them go on.
pub fn freeze(root: &Path, id: &str, frozen: bool) -> Result<(), Error> {
    let record = Record::load(root, id)?;
    let from = if frozen { [Status::Running, Status::Created] } else { [Status::Paused, Status::Paused] };
    record.expect(id, &from, if frozen { "paused" } else { "resumed" })?;
    record.group.as_ref().ok_or(Error::NoFreezer)?.freeze(frozen)
}

/// Written aside and renamed: who reads it reads a whole number.
fn write_pid_file(path: &Path, pid: i32) -> Result<(), Error> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    let attempt = || {
        std::fs::write(&aside, pid.to_string())?;
        std::fs::rename(&aside, path)
    };
    attempt().map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// The other end of a pseudo-terminal goes to whoever listens on the console socket.
pub(crate) fn send_console(
    socket: &std::os::fd::OwnedFd,
    master: &std::os::fd::OwnedFd,
) -> Result<(), Error> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::os::fd::AsFd;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let name = [std::io::IoSlice::new(b"/dev/pts/ptmx")];
    // Whoever gets it expects to wait when there is nothing to read.
    let _ = rustix::io::ioctl_fionbio(master, false);
    rustix::net::sendmsg(socket, &name, &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(|e| Error::Terminal { step: "send it to the console socket", source: e.into() })?;
    Ok(())
}

/// Connects to the console socket.
fn connect_console(path: &Path) -> Result<std::os::fd::OwnedFd, Error> {
    let failed = |source| Error::Terminal { step: "connect to the console socket", source };
    Ok(std::os::unix::net::UnixStream::connect(path).map_err(failed)?.into())
}

/// A channel on a socket that was accepted or connected.
fn channel(socket: std::os::fd::OwnedFd) -> Channel {
    Channel::from_fd(socket)
}
