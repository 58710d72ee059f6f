//! `run`: the caller itself is the shim; the container has the caller's standard streams or a pseudo-terminal.
//!
//! There is no log: what the container writes goes where the caller's output goes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::container::{self, Creation, Home, Waiting};
use crate::process::Streams;
use crate::record::{self, Exit};
use crate::relay::Relays;
use crate::spec::Bundle;
use crate::terminal::{self, RawMode};
use crate::wait::Foreground;

/// What to run. The caller is in the user namespace and single-threaded.
#[derive(Debug)]
pub struct RunOptions<'a> {
    /// Holds `config.json` (`process.terminal` decides about the pseudo-terminal); receives the records.
    pub container_dir: &'a Path,
    /// Whether the caller's standard input is the container's; else `/dev/null`.
    pub stdin: bool,
    /// Where its control group is made; none is made without.
    pub home: Option<&'a Home>,
}

/// A created container, waiting in front of `execve`. Dropping it kills it.
#[derive(Debug)]
pub struct Created {
    /// PID 1 of the container, as seen from here.
    pub init_pid: i32,
    container_dir: PathBuf,
    waiting: Waiting,
    foreground: Foreground,
    relays: Relays,
    /// Held until the end.
    _claim: OwnedFd,
}

/// Creates the container and lets it wait, so that a network can be attached. Afterwards this process must not fork: its
/// children would be in the container's PID namespace.
pub fn create(options: &RunOptions<'_>) -> Result<Created, Error> {
    let bundle = Bundle::load(options.container_dir)?;
    let claim = record::claim(&bundle.dir)?;
    let foreground = Foreground::new()?;
    let mut streams = Streams::default();
    if !options.stdin {
        let null = std::fs::File::open("/dev/null");
        let null = null.map_err(|source| Error::Read { path: PathBuf::from("/dev/null"), source })?;
        streams.input = Some(null.into());
    }
    let failed = |source| Error::System { step: "make a pipe", source };
    let relays = Relays::around(&bundle.spec.process, &mut streams).map_err(failed)?;
    let waiting =
        container::create(Creation { bundle: &bundle, streams, home: options.home, detached: None })?;
    Ok(Created {
        init_pid: waiting.init.pid,
        container_dir: bundle.dir,
        waiting,
        foreground,
        relays,
        _claim: claim,
    })
}

impl Created {
    /// Starts the command, forwards signals and the window's size, waits. The command's exit status, or 128 + signal.
    pub fn run(mut self) -> Result<i32, Error> {
        let master = self.waiting.terminal.take();
        let raw_mode = master.as_ref().map(|master| {
            terminal::copy_size(master);
            RawMode::enter()
        });
        let started_at = crate::shim::start(&self.container_dir, &mut self.waiting)?;
        let ended = self.foreground.attend(&self.waiting.init, master, self.relays);
        drop(raw_mode);
        let ended = ended?;
        // On a full disk there is no record; the status is passed on all the same.
        let oom_killed = self.waiting.killed_for_memory();
        let exit = Exit { oom_killed, ..Exit::of(ended.code, ended.signal, &started_at) };
        let _ = exit.write(&self.container_dir);
        Ok(ended.code)
    }
}

/// Both in one.
pub fn run(options: &RunOptions<'_>) -> Result<i32, Error> {
    create(options)?.run()
}
