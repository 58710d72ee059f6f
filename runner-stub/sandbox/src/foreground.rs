//! `run`: the caller itself is the shim; the container has the caller's standard streams or a pseudo-terminal.

use std::path::Path;

use crate::Error;

/// What to run. The caller is in the user namespace and single-threaded.
#[derive(Debug)]
pub struct RunOptions<'a> {
    /// Holds `config.json` (`process.terminal` decides about the pseudo-terminal); receives the records.
    pub container_dir: &'a Path,
    /// Whether the caller's standard input is the container's; else `/dev/null`.
    pub stdin: bool,
}

/// A created container, waiting in front of `execve`. Dropping it kills it.
#[derive(Debug)]
pub struct Created {
    /// PID 1 of the container, as seen from here.
    pub init_pid: i32,
}

/// Creates the container and lets it wait, so that a network can be attached.
pub fn create(_options: &RunOptions<'_>) -> Result<Created, Error> {
    unimplemented!()
}

impl Created {
    /// Starts the command, forwards signals and the window's size, waits. The command's exit status, or 128 + signal.
    pub fn run(self) -> Result<i32, Error> {
        unimplemented!()
    }
}

/// Both in one.
pub fn run(options: &RunOptions<'_>) -> Result<i32, Error> {
    create(options)?.run()
}
