//! Starts this program again in another role, in the user namespace, where no container can reach its file.
//!
//! A container's process can get hold of the file that any process in its PID namespace executes (`/proc/PID/exe`) and
//! write to it once that process is gone (CVE-2019-5736). So every role is executed from a *clone of the program's own mount
//! that is read-only*; a kernel without mount_setattr(2) executes a sealed copy in memory instead. A role that already runs
//! from such a place executes `/proc/self/exe` as it is.
//!
//! What runs in the child between `fork` and `execve` only makes system calls with data prepared before: the caller may
//! have threads that hold the allocator's lock.

mod enter;
pub mod launcher;
mod plan;
mod program;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::Error;
use crate::compat::pidfd;
use crate::idmap::IdMap;
use crate::sys::{self, CStringArray};
pub(crate) use launcher::{Errand, Order};
use plan::{Plan, STEP_PREPARE};

const STEP_USER_NAMESPACE: &str = "create a user namespace";
const STEP_MAP: &str = "write the ID map";
const STEP_JOIN: &str = "join the user namespace";
const STEP_MOUNTS: &str = "create a mount namespace";

/// A role to be started.
#[derive(Debug)]
pub struct Spawn<'a> {
    role: &'a str,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    inherit_environment: bool,
    descriptors: Vec<(RawFd, BorrowedFd<'a>)>,
    log: Option<BorrowedFd<'a>>,
    user_namespace: UserNamespace<'a>,
    program_length: Option<u64>,
}

#[derive(Debug)]
enum UserNamespace<'a> {
    Inherit,
    New(&'a IdMap),
    Join(i32),
    JoinOpen(BorrowedFd<'a>),
}

/// A role that runs. Dropping it neither kills nor reaps.
#[derive(Debug)]
pub struct Child {
    /// Process ID.
    pub pid: i32,
    /// Stands for it ([`crate::pidfd`]).
    pub pidfd: OwnedFd,
}

impl<'a> Spawn<'a> {
    /// `role` becomes `argv[0]`.
    pub fn new(role: &'a str) -> Self {
        Spawn {
            role,
            arguments: Vec::new(),
            environment: Vec::new(),
            inherit_environment: true,
            descriptors: Vec::new(),
            log: None,
            user_namespace: UserNamespace::Inherit,
            program_length: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets an environment variable; the rest is the caller's unless `clear_env` is called.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an empty environment.
    pub fn clear_env(mut self) -> Self {
        self.inherit_environment = false;
        self
    }

    /// The role finds `fd` under the number `number` (3 or more; [`take_fd`]). All others but 0, 1, 2 are closed.
    pub fn fd(mut self, number: RawFd, fd: BorrowedFd<'a>) -> Self {
        self.descriptors.push((number, fd));
        self
    }

    /// New session, standard input from `/dev/null`, output and errors to `log`.
    pub fn detached(mut self, log: BorrowedFd<'a>) -> Self {
        self.log = Some(log);
        self
    }

    /// In a new user namespace (and mount namespace).
    pub fn new_user_namespace(mut self, map: &'a IdMap) -> Self {
        self.user_namespace = UserNamespace::New(map);
        self
    }

    /// In the user namespace of a live process (and a new mount namespace). No effect when we are in it already.
    pub fn join_user_namespace(mut self, pid: i32) -> Self {
        self.user_namespace = UserNamespace::Join(pid);
        self
    }

    /// The same with an open `/proc/PID/ns/user`, whose process may have ended.
    pub fn join_open_user_namespace(mut self, namespace: BorrowedFd<'a>) -> Self {
        self.user_namespace = UserNamespace::JoinOpen(namespace);
        self
    }

    /// Length of the program without its payload, for kernels on which the program has to be copied to memory.
    pub fn program_length(mut self, bytes: u64) -> Self {
        self.program_length = Some(bytes);
        self
    }

    /// Starts it as a child.
    pub fn spawn(self) -> Result<Child, Error> {
        if let Some(launched) = launcher::launch(&self) {
            return launched;
        }
        let plan = Plan::new(&self)?;
        let (ours, theirs) = self.socket_pair()?;
        let Some(pid) = sys::fork().map_err(|source| self.error("fork", source))? else {
            plan.run_or_exit(&theirs)
        };
        drop(theirs);
        self.watch(pid, &ours)
    }

    /// Waits until a child of ours has executed the role; it is killed when it cannot.
    fn watch(&self, pid: i32, socket: &OwnedFd) -> Result<Child, Error> {
        let child = Child::of(pid).map_err(|source| self.error(STEP_PREPARE, source))?;
        let result = self.attend(socket, pid);
        if result.is_err() {
            let _ = pidfd::signal(&child.pidfd, nix::libc::SIGKILL);
            let _ = child.wait();
        }
        result.map(|()| child)
    }

    /// Becomes it. The caller has to be single-threaded. Returns only on failure.
    pub fn replace(self) -> Error {
        let attempt = || -> Result<Infallible, Error> {
            let plan = Plan::new(&self)?;
            let (ours, theirs) = self.socket_pair()?;
            if plan.needs_help() {
                // Whoever has the map written has to stay outside of the namespace.
                let own = std::process::id().cast_signed();
                if sys::fork().map_err(|source| self.error("fork", source))?.is_none() {
                    drop(theirs);
                    sys::exit_now(i32::from(self.attend(&ours, own).is_err()));
                }
            }
            drop(ours);
            let (step, source) = plan.run(&theirs);
            Err(self.failure(step, source))
        };
        match attempt() {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }
}

impl Spawn<'_> {
    fn environment_block(&self) -> Option<CStringArray> {
        let inherited = std::env::vars_os().filter(|(name, _)| {
            self.inherit_environment && !self.environment.iter().any(|(set, _)| set == name)
        });
        CStringArray::new(inherited.chain(self.environment.iter().cloned()).map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            entry
        }))
    }
}

impl Child {
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        Ok(Child { pid, pidfd: pidfd::open(pid)? })
    }

    /// A child of ours where `/proc` is another PID namespace's; `proc` is that of our own.
    pub(crate) fn of_in(proc: impl AsFd, pid: i32) -> io::Result<Self> {
        Ok(Child { pid, pidfd: pidfd::open_in(proc, pid)? })
    }

    /// Waits for the end and reaps: the exit status, or 128 + signal.
    pub fn wait(&self) -> Result<i32, Error> {
        let failed = |source: io::Error| Error::System { step: "wait for a process", source };
        // Not reaped yet, so the number is its own.
        let id = Pid::from_raw(self.pid).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let wait = || rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED);
        let status = rustix::io::retry_on_intr(wait).map_err(|e| failed(e.into()))?;
        let status = status.ok_or(Error::Vanished { process: "the process" })?;
        Ok(status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)))
    }

    /// Whether it has ended. Does not reap.
    pub fn has_ended(&self) -> bool {
        pidfd::has_ended(&self.pidfd)
    }

    /// Waits for the end, at most for `limit`; whether it came. Does not reap.
    pub(crate) fn ends_within(&self, limit: std::time::Duration) -> io::Result<bool> {
        let deadline = std::time::Instant::now() + limit.min(std::time::Duration::from_secs(86_400 * 365));
        loop {
            if !pidfd::is_pollable(&self.pidfd) {
                if pidfd::has_ended(&self.pidfd) {
                    return Ok(true);
                }
                if std::time::Instant::now() >= deadline {
                    return Ok(false);
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                continue;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let timeout = rustix::event::Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [rustix::event::PollFd::new(&self.pidfd, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A descriptor given by [`Spawn::fd`]. Ask once, at the start of a role; none when it was not given.
pub fn take_fd(number: RawFd) -> Option<OwnedFd> {
    (number > 2).then(|| sys::inherited(number)).flatten()
}

/// The roles of this crate by `argv[0]`: `dpack-shim`, `dpack-exec`, `dpack-oci`, `dpack-launcher`. Call first thing in `main`; does not return for them.
pub fn dispatch() {
    match std::env::args_os().next().as_deref().and_then(OsStr::to_str) {
        Some(crate::shim::ROLE) => crate::shim::main(),
        Some(crate::exec::ROLE) => crate::exec::main(),
        Some(crate::oci::ROLE) => crate::oci::main(),
        Some(launcher::ROLE) => launcher::main(),
        _ => {}
    }
}
