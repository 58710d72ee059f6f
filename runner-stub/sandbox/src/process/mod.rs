//! The last steps before the container's command: streams, limits, user, capabilities, filters, `execve`.
//!
//! Shared by PID 1 of a container and by `exec`, so that a joined process is confined as the container's own is.

mod capabilities;
mod command;
mod identity;
pub(crate) mod init;
pub(crate) mod label;
mod limits;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::Error;
use crate::channel::Channel;
use crate::idmap::Mapped;
use crate::ids::{self, Link};
use crate::seccomp::Filter;
use crate::spec::Process;
use crate::sys;

pub(crate) use capabilities::names as capability_names;
pub use limits::hard_limit;
pub(crate) use limits::set_oom_score;

pub(crate) const STEP_KEYRING: &str = "leave the session keyring";
pub(crate) const STEP_LIMIT: &str = "set a resource limit";
pub(crate) const STEP_SECCOMP: &str = "install the seccomp filter";

/// Where 0, 1 and 2 lead; those absent stay the caller's.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) output: Option<OwnedFd>,
    pub(crate) errors: Option<OwnedFd>,
    /// They were made for this process alone, so it gets them as its own (else `/dev/stdout` would be closed to it).
    pub(crate) own: bool,
    /// Output is a pseudo-terminal.
    pub(crate) terminal: bool,
}

/// What is not in `process` of config.json.
#[derive(Debug)]
pub(crate) struct Conditions<'a> {
    pub(crate) mapped: Mapped,
    /// Shows users and owners where there is one ID.
    pub(crate) keeper: Option<&'a Link>,
    /// Which system calls there are.
    pub(crate) filter: Option<&'a Filter>,
    /// The command gets a parent of ours that reaps and forwards.
    pub(crate) init: bool,
    /// Ends when its parent does, at whose death this socket is closed.
    pub(crate) parent: Option<&'a Channel>,
    /// How many descriptors from 3 on the command gets.
    pub(crate) preserved: u32,
}

pub(crate) fn confine(step: &'static str) -> impl Fn(rustix::io::Errno) -> Error {
    move |source| Error::Confine { step, source: source.into() }
}

/// Finds what is wrong with the values, and what this host does not have, before anything is done.
pub(crate) fn check(process: &Process) -> Result<(), Error> {
    capabilities::Sets::parse(process.capabilities.as_ref())?;
    limits::check(&process.rlimits)?;
    label::check(process)
}

/// Becomes the command. Returns only on failure.
pub(crate) fn execute(process: &Process, streams: Streams, conditions: &Conditions<'_>) -> Error {
    match steps(process, streams, conditions) {
        Ok(()) => command::execute(process),
        Err(error) => error,
    }
}

fn steps(process: &Process, streams: Streams, conditions: &Conditions<'_>) -> Result<(), Error> {
    // Fails when we lead a session already (a detached shim's child never does).
    let _ = rustix::process::setsid();
    connect(streams, process).map_err(|source| Error::Terminal { step: "connect the streams", source })?;
    limits::set(&process.rlimits)?;
    label::with_keyring(process, leave_keyring)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
    // As root first: the directory may be closed to the user, as in Docker.
    let entered = command::enter_directory(&process.cwd);

    let capabilities = capabilities::Sets::parse(process.capabilities.as_ref())?;
    let install = || -> Result<(), Error> {
        let failed = |source| Error::Confine { step: STEP_SECCOMP, source };
        if conditions.mapped.single {
            ids::install(conditions.keeper).map_err(failed)?;
        }
        match conditions.filter {
            Some(filter) => sys::install_filter(&filter.instructions, filter.flags).map_err(failed),
            None => Ok(()),
        }
    };
    // Without no_new_privs a filter needs the privilege that is about to be dropped.
    if !process.no_new_privileges {
        install()?;
    }
    capabilities.drop_bounding()?;
    identity::assume(&process.user, conditions.mapped)?;
    capabilities.apply()?;
    entered.or_else(|_| command::enter_directory(&process.cwd))?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(confine("set no_new_privs"))?;
        install()?;
    }
    if let Some(parent) = conditions.parent {
        // Only now: a change of user or capabilities clears it. The parent may have died before.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(confine("be bound to the parent"))?;
        if parent.is_closed() {
            sys::exit_now(125);
        }
    }
    if conditions.init {
        init::become_init(process.terminal)?;
    }
    label::set_for_command(process)?;
    sys::reset_signals();
    sys::close_from(3 + conditions.preserved.cast_signed(), false)
        .map_err(|source| Error::Confine { step: "close descriptors", source })
}

fn connect(streams: Streams, process: &Process) -> io::Result<()> {
    for (number, stream) in [(0, &streams.input), (1, &streams.output), (2, &streams.errors)] {
        if let Some(stream) = stream {
            sys::duplicate_to(stream.as_raw_fd(), number)?;
            if streams.own && number > 0 {
                // Refused where the user does not exist: with a single ID.
                let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(process.user.uid)), None);
            }
        }
    }
    if streams.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    Ok(())
}

/// The caller's keys stay the caller's (CVE-2014-9529 and others showed keyrings to be a way across namespaces).
fn leave_keyring() -> Result<(), Error> {
    match sys::join_new_session_keyring() {
        // Kernels without keyrings have nothing to leave.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) => Ok(()),
        result => result.map_err(|source| Error::Confine { step: STEP_KEYRING, source }),
    }
}
