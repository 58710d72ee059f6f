//! The shim: parent of one container's PID 1.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crate::Error;

/// `argv[0]` of the shim.
pub const ROLE: &str = "dpack-shim";

/// What a container is created from. The caller is in the user namespace.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// Holds `config.json`; receives `running.json`, `exit.json`, `log.json`.
    pub container_dir: &'a Path,
    /// The project's network namespace, for the shim itself to live in (keeps it alive). What network namespace the
    /// *container* has is said by `linux.namespaces` of config.json: a new one, none (the host's), or one by path.
    pub network_namespace: Option<BorrowedFd<'a>>,
}

/// A container on its way; several can be on their way at once.
#[derive(Debug)]
pub struct Creating {}

/// A created container, waiting in front of `execve`. Dropping it kills it.
#[derive(Debug)]
pub struct Created {
    /// Parent of the container's PID 1. A child of the caller, who reaps it.
    pub shim_pid: i32,
    /// Readable when the shim has ended.
    pub shim_pidfd: OwnedFd,
    /// PID 1 of the container, as seen from here.
    pub init_pid: i32,
}

/// Starts a shim and waits until the container is created.
pub fn create(options: &CreateOptions<'_>) -> Result<Created, Error> {
    spawn(options)?.wait()
}

/// Starts a shim without waiting.
pub fn spawn(_options: &CreateOptions<'_>) -> Result<Creating, Error> {
    unimplemented!()
}

impl Creating {
    /// Waits until the container is created.
    pub fn wait(self) -> Result<Created, Error> {
        unimplemented!()
    }
}

impl Created {
    /// Lets the container's command be executed; returns when it is, or with what hindered it
    /// ([`Error::exit_code`] is then 126 or 127). Afterwards the shim needs nobody.
    pub fn start(self) -> Result<Started, Error> {
        unimplemented!()
    }
}

/// A started container.
#[derive(Debug)]
pub struct Started {
    /// Parent of the container's PID 1. A child of the caller, who reaps it.
    pub shim_pid: i32,
    /// Readable when the shim has ended: then `exit.json` is there.
    pub shim_pidfd: OwnedFd,
    /// PID 1 of the container, as seen from here.
    pub init_pid: i32,
}

/// Role entry.
pub fn main() -> ! {
    unimplemented!()
}
