//! Creates a container and starts it: the part that is common to shim and foreground.
//!
//! ```text
//! parent ── fork ──> PID 1: namespaces, root file system, terminal
//!    │ <── Created ────┤
//!    │ ──── Start ───> │ limits, user, capabilities, filters
//!    │ <─ Failed, or the socket closes at `execve`
//! ```
//!
//! PID 1 ends when its parent does (`PR_SET_PDEATHSIG`): a container whose shim was killed would run on with nobody to
//! write its log or to record its end.

use std::os::fd::OwnedFd;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Group, Place, Resources};
use crate::channel::{Channel, Message};
use crate::idmap::Mapped;
use crate::ids::Link;
use crate::process::{self, Conditions, Streams};
use crate::role::Child;
use crate::spec::Bundle;
use crate::{Error, Failure, ids, namespaces, rootfs, sys, terminal};

/// A container whose PID 1 waits in front of `execve`. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) init: Child,
    /// Master of the pseudo-terminal, when `process.terminal` is set.
    pub(crate) terminal: Option<OwnedFd>,
    /// Removed with this value, which is when the container has ended.
    pub(crate) group: Option<Owned>,
    channel: Channel,
    started: bool,
}

/// Where a container's control group is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The folder above.
    pub place: Place,
    /// Unique on this machine: the container's ID.
    pub name: String,
}

/// A control group that is removed at the end. Not in a forked child: that ends without destructors.
#[derive(Debug)]
pub(crate) struct Owned(pub(crate) Group);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// Forks PID 1 and waits until its root file system is ready. This process's own later children would be in the
/// container's PID namespace too: it has none.
pub(crate) fn create(bundle: &Bundle, streams: Streams, home: Option<&Home>) -> Result<Waiting, Error> {
    let mapped = Mapped::current();
    process::check(&bundle.spec.process)?;
    let nothing = Resources::default();
    let resources = bundle.spec.linux.resources.as_ref().unwrap_or(&nothing);
    let name = home.map(|home| home.name.as_str()).unwrap_or_default();
    let group = Group::create(home.map(|home| &home.place), name, resources)?.map(Owned);
    let keeper = match &bundle.storage {
        _ if !mapped.single || !ids::are_shown() => None,
        storage => {
            let birth = storage.as_ref().and_then(|storage| ids::birth(&storage.upper));
            Some(ids::keeper(&ids::Setting { user: bundle.spec.process.user.clone(), birth })?)
        }
    };
    namespaces::before_fork(&bundle.spec)?;
    let (channel, theirs) = Channel::pair()?;
    let failed = |source| Error::System { step: "fork the container's first process", source };
    let Some(pid) = sys::fork().map_err(failed)? else {
        drop(channel);
        let group = group.as_ref().map(|owned| &owned.0);
        let error = init(bundle, streams, mapped, keeper.as_ref(), &theirs, group);
        let _ = theirs.send(&Message::Failed(Failure::from(&error)), None);
        sys::exit_now(error.exit_code().unwrap_or(125));
    };
    drop((theirs, streams, keeper));
    let init = Child::of(pid).map_err(failed)?;
    let mut waiting = Waiting { init, terminal: None, group, channel, started: false };
    let (_, terminal) = waiting.channel.expect("the container's first process")?;
    waiting.terminal = terminal;
    Ok(waiting)
}

impl Waiting {
    /// Lets it execute its command; returns when it does.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.channel.send(&Message::Start, None)?;
        match self.channel.receive()? {
            None => {
                self.started = true;
                Ok(())
            }
            Some((Message::Failed(failure), _)) => Err(Error::Remote(failure)),
            Some(_) => Err(Error::Vanished { process: "the container's first process" }),
        }
    }
}

impl Waiting {
    /// Whether the kernel killed something in it for want of memory.
    pub(crate) fn killed_for_memory(&self) -> bool {
        self.group.as_ref().is_some_and(|owned| owned.0.killed_for_memory() > 0)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.started {
            let _ = sys::signal_process(&self.init.pidfd, nix::libc::SIGKILL);
            let _ = self.init.wait();
        }
    }
}

/// PID 1. Returns only on failure.
fn init(
    bundle: &Bundle,
    streams: Streams,
    mapped: Mapped,
    keeper: Option<&Link>,
    channel: &Channel,
    group: Option<&Group>,
) -> Error {
    let attempt = || -> Result<Streams, Error> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(process::confine("be bound to the shim"))?;
        // Before the cgroup namespace is made: its root is then the container's own group.
        group.map_or(Ok(()), Group::enter)?;
        process::set_oom_score(bundle.spec.process.oom_score_adj)?;
        namespaces::after_fork(&bundle.spec)?;
        rootfs::enter(bundle, mapped)?;
        let (streams, master) = if bundle.spec.process.terminal {
            let (streams, master) = terminal::open()?;
            terminal::bind_console(&streams)?;
            (streams, Some(master))
        } else {
            (streams, None)
        };
        channel.send(&Message::Created { init_pid: 0 }, master.as_ref())?;
        Ok(streams)
    };
    let streams = match attempt() {
        Ok(streams) => streams,
        Err(error) => return error,
    };
    match channel.receive() {
        Ok(Some((Message::Start, _))) => {}
        // Nobody wants it started any more.
        _ => sys::exit_now(125),
    }
    let conditions = Conditions { mapped, keeper, init: bundle.has_init(), parent: Some(channel) };
    process::execute(&bundle.spec.process, streams, &conditions)
}
