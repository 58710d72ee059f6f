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

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::SocketFlags;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Group, Place, Resources};
use crate::channel::{Channel, Message};
use crate::compat::pidfd;
use crate::idmap::Mapped;
use crate::ids::Link;
use crate::oci::Stage;
use crate::process::{self, Conditions, Streams};
use crate::role::Child;
use crate::seccomp::{self, Filter};
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

impl Home {
    /// Removes the group of a container that has ended, in case its shim was killed and could not.
    pub fn clear(&self) {
        Group::left(&self.place, &self.name).remove();
    }
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
pub(crate) fn create(creation: Creation<'_>) -> Result<Waiting, Error> {
    let Creation { bundle, streams, home, detached } = creation;
    let mapped = Mapped::current();
    process::check(&bundle.spec.process)?;
    process::label::check_mounts(bundle.spec.mount_label())?;
    rootfs::sysctls::check(&bundle.spec)?;
    let filter = bundle.spec.linux.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let nothing = Resources::default();
    let resources = bundle.spec.linux.resources.as_ref().unwrap_or(&nothing);
    let name = home.map(|home| home.name.as_str()).unwrap_or_default();
    let group = Group::create(home.map(|home| &home.place), name, resources)?.map(Owned);
    // One that is started by somebody else has nobody to keep a keeper.
    let keeper = match detached.is_none() && mapped.single && ids::are_shown() {
        true => {
            let birth = ids::birth(&bundle.upper());
            Some(ids::keeper(&ids::Setting { user: bundle.spec.process.user.clone(), birth })?)
        }
        false => None,
    };
    namespaces::before_fork(&bundle.spec)?;
    let (channel, theirs) = Channel::pair()?;
    let failed = |source| Error::System { step: "fork the container's first process", source };
    let Some(pid) = sys::fork().map_err(failed)? else {
        drop(channel);
        let group = group.as_ref().map(|owned| &owned.0);
        let own = Own { bundle, mapped, keeper: keeper.as_ref(), filter: filter.as_ref(), group, detached };
        let error = init(&own, streams, &theirs);
        let _ = theirs.send(&Message::Failed(Failure::from(&error)), None);
        sys::exit_now(error.exit_code().unwrap_or(125));
    };
    drop((theirs, streams, keeper));
    let init = Child::of(pid).map_err(failed)?;
    let mut waiting = Waiting { init, terminal: None, group, channel, started: false };
    loop {
        let init_pid = waiting.init.pid;
        match (waiting.channel.expect("the container's first process")?, detached) {
            ((Message::Namespaces { .. }, _), Some(detached)) => {
                (detached.at_namespaces)(init_pid)?;
                waiting.channel.send(&Message::Continue { init_pid }, None)?;
            }
            ((_, terminal), _) => {
                waiting.terminal = terminal;
                break;
            }
        }
    }
    Ok(waiting)
}

/// What a container is created from.
pub(crate) struct Creation<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) streams: Streams,
    pub(crate) home: Option<&'a Home>,
    /// It outlives us and is started by somebody else.
    pub(crate) detached: Option<&'a Detached<'a>>,
}

/// A container by the OCI runtime command line.
pub(crate) struct Detached<'a> {
    /// On which PID 1 waits for its start.
    pub(crate) listener: BorrowedFd<'a>,
    /// How many descriptors from 3 on are passed on.
    pub(crate) preserved: u32,
    /// Runs hooks outside, with PID 1's number.
    pub(crate) at_namespaces: &'a dyn Fn(i32) -> Result<(), Error>,
    /// The state for hooks inside, with PID 1's number.
    pub(crate) state: &'a dyn Fn(i32) -> serde_json::Value,
}

/// What PID 1 knows.
struct Own<'a> {
    bundle: &'a Bundle,
    mapped: Mapped,
    keeper: Option<&'a Link>,
    filter: Option<&'a Filter>,
    group: Option<&'a Group>,
    detached: Option<&'a Detached<'a>>,
}

impl Waiting {
    /// Lets it live on without us.
    pub(crate) fn release(mut self) -> Result<(), Error> {
        self.channel.send(&Message::Start, None)?;
        self.channel.expect("the container's first process")?;
        self.started = true;
        if let Some(owned) = self.group.take() {
            std::mem::forget(owned);
        }
        Ok(())
    }

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
            let _ = pidfd::signal(&self.init.pidfd, nix::libc::SIGKILL);
            let _ = self.init.wait();
        }
    }
}

/// PID 1. Returns only on failure.
fn init(own: &Own<'_>, streams: Streams, channel: &Channel) -> Error {
    let (bundle, hooks) = (own.bundle, &own.bundle.spec.hooks);
    let attempt = || -> Result<(Streams, i32), Error> {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(process::confine("be bound to the shim"))?;
        // Before the cgroup namespace is made: its root is then the container's own group.
        own.group.map_or(Ok(()), Group::enter)?;
        process::set_oom_score(bundle.spec.process.oom_score_adj)?;
        namespaces::after_fork(&bundle.spec)?;
        let init_pid = own.detached.map_or(Ok(0), |_| tell_namespaces(channel))?;
        rootfs::enter(bundle, own.mapped, &|| match own.detached {
            Some(detached) if hooks.has(Stage::CreateContainer) => {
                hooks.run(Stage::CreateContainer, &(detached.state)(init_pid))
            }
            _ => Ok(()),
        })?;
        let (streams, master) = if bundle.spec.process.terminal {
            let (streams, master) = terminal::open()?;
            terminal::bind_console(&streams)?;
            if let Some(size) = bundle.spec.process.console_size {
                terminal::set_size(&master, size);
            }
            (streams, Some(master))
        } else {
            (streams, None)
        };
        channel.send(&Message::Created { init_pid: 0 }, master.as_ref())?;
        Ok((streams, init_pid))
    };
    let (streams, init_pid) = match attempt() {
        Ok(created) => created,
        Err(error) => return error,
    };
    match channel.receive() {
        Ok(Some((Message::Start, _))) => {}
        // Nobody wants it started any more.
        _ => sys::exit_now(125),
    }
    let Some(detached) = own.detached else {
        let conditions = Conditions {
            mapped: own.mapped,
            keeper: own.keeper,
            filter: own.filter,
            init: bundle.has_init(),
            parent: Some(channel),
            preserved: 0,
        };
        return process::execute(&bundle.spec.process, streams, &conditions);
    };
    let starter = match wait_for_start(detached, channel) {
        Ok(starter) => starter,
        Err(error) => return error,
    };
    let error = hooks.run(Stage::StartContainer, &(detached.state)(init_pid)).err().unwrap_or_else(|| {
        let conditions = Conditions {
            mapped: own.mapped,
            keeper: own.keeper,
            filter: own.filter,
            init: bundle.has_init(),
            parent: None,
            preserved: detached.preserved,
        };
        process::execute(&bundle.spec.process, streams, &conditions)
    });
    let _ = starter.send(&Message::Failed(Failure::from(&error)), None);
    error
}

/// Has the hooks run that want to see the namespaces; our own number, as it is known outside.
fn tell_namespaces(channel: &Channel) -> Result<i32, Error> {
    channel.send(&Message::Namespaces { init_pid: 0 }, None)?;
    match channel.expect("`create`")?.0 {
        Message::Continue { init_pid } => Ok(init_pid),
        _ => Err(Error::Vanished { process: "`create`" }),
    }
}

/// Lets go of the process that made us and waits for the one that starts us.
fn wait_for_start(detached: &Detached<'_>, channel: &Channel) -> Result<Channel, Error> {
    set_parent_process_death_signal(None).map_err(process::confine("be let go"))?;
    channel.send(&Message::Started, None)?;
    let failed = |e: rustix::io::Errno| Error::System { step: "wait for the start", source: e.into() };
    loop {
        let accept = || rustix::net::accept_with(detached.listener, SocketFlags::CLOEXEC);
        let starter = Channel::from_fd(rustix::io::retry_on_intr(accept).map_err(failed)?);
        // Who connects and says nothing has not started anything.
        if let Ok(Some((Message::Start, _))) = starter.receive() {
            return Ok(starter);
        }
    }
}
