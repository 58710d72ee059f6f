//! Starts this program again in another role, where a container cannot reach its file.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use crate::Error;
use crate::idmap::IdMap;

/// A role to be started.
pub struct Spawn<'a> {
    _role: &'a str,
}

/// A role that runs. Dropping it neither kills nor reaps.
#[derive(Debug)]
pub struct Child {
    /// Process ID.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

impl<'a> Spawn<'a> {
    /// `role` becomes `argv[0]`.
    pub fn new(role: &'a str) -> Self {
        Spawn { _role: role }
    }
    /// Adds an argument.
    pub fn arg(self, _argument: impl AsRef<OsStr>) -> Self {
        self
    }
    /// Sets an environment variable; the environment is the caller's unless `clear_env` was called.
    pub fn env(self, _name: impl AsRef<OsStr>, _value: impl AsRef<OsStr>) -> Self {
        self
    }
    /// Starts from an empty environment.
    pub fn clear_env(self) -> Self {
        self
    }
    /// The role finds `fd` under the number `number` (3 or more). All others except 0, 1, 2 are closed.
    pub fn fd(self, _number: RawFd, _fd: BorrowedFd<'a>) -> Self {
        self
    }
    /// New session, standard input from `/dev/null`, output and errors to `log`.
    pub fn detached(self, _log: BorrowedFd<'a>) -> Self {
        self
    }
    /// In a new user namespace (and mount namespace).
    pub fn new_user_namespace(self, _map: &'a IdMap) -> Self {
        self
    }
    /// In the user namespace of a live process (and a new mount namespace). No effect when we are in it already.
    pub fn join_user_namespace(self, _pid: i32) -> Self {
        self
    }
    /// Length of the program without its payload, for kernels on which the program has to be copied to memory.
    pub fn program_length(self, _bytes: u64) -> Self {
        self
    }
    /// Starts it as a child.
    pub fn spawn(self) -> Result<Child, Error> {
        unimplemented!()
    }
    /// Becomes it. The caller has to be single-threaded. Returns only on failure.
    pub fn replace(self) -> Error {
        unimplemented!()
    }
}

impl Child {
    /// Waits for the end: the exit status, or 128 + signal.
    pub fn wait(&self) -> Result<i32, Error> {
        unimplemented!()
    }
}

/// The roles of this crate by `argv[0]`: `dpack-shim`, `dpack-exec`. Call first thing in `main`; does not return for them.
pub fn dispatch() {
    match std::env::args_os().next().as_deref().and_then(OsStr::to_str) {
        Some(crate::shim::ROLE) => crate::shim::main(),
        Some(crate::exec::ROLE) => crate::exec::main(),
        _ => {}
    }
}
