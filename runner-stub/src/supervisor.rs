//! The supervisor: owns a running project's state, in the project's user namespace. One thread, asynchronous.
//!
//! ```text
//! command line ──request──> serve ──> operations (plan, carry out) ──> lifecycle ──> dpack_sandbox, dpack_network
//!              <──events───                                              │
//!                                           watch: exit, restart policy ─┘
//! ```
//!
//! It may be killed at any time. It keeps nothing that is not on disk or visible in `/proc`: the next supervisor lists the
//! containers' folders, watches the shims that live, and goes on with the restarts that were due. It leaves by itself when
//! no container runs and nobody asks.
//!
//! What blocks (creating containers, extracting layers, talking to the network process) runs on tokio's blocking threads;
//! all decisions are made on the one thread, so that state needs no locks.

mod adopt;
mod attach;
mod carry_out;
mod conditions;
mod create;
mod health;
mod inside;
mod join;
mod labels;
mod lifecycle;
mod limits;
mod network;
mod operations;
mod pidfd;
mod project_files;
mod reporter;
mod restart;
mod serve;
mod sources;
mod state;

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use dpack_sandbox::harden;
use dpack_sandbox::role::{launcher, take_fd};
use dpack_store::Driver;
use serde::{Deserialize, Serialize};

pub(crate) use create::{
    Making, Stacks, attach_network, create, sandbox_failure, storage_driver, store_kind,
};
pub(crate) use inside::user;
pub(crate) use join::{copy_etc, prepare as prepare_joins};
pub(crate) use labels::{Labelling, look as look_at_labels, prepare_store, warning as labels_warning};
pub(crate) use limits::{enforce, home, is_limited, unenforceable, within_session};
pub(crate) use network::{Network, ROLE as NETWORK_ROLE, attachment, main as network_main};
pub(crate) use operations::threads;
pub(crate) use project_files::lay_out;
pub(crate) use sources::{anonymous_volumes, check_files, provide_bind};

use crate::failure::Failure;
use crate::files;
use crate::json;
use crate::paths::{Paths, ProjectPaths};
use crate::payload::Executable;
use crate::protocol;
use state::Supervisor;

/// `argv[0]` of the supervisor.
pub(crate) const ROLE: &str = "dpack-supervisor";
/// Descriptor on which it says once how its start went ([`Ready`]).
pub(crate) const READY: RawFd = 3;
/// Descriptor of the executable with its payload: the program itself may be a copy without one.
pub(crate) const PAYLOAD: RawFd = 4;

/// What a supervisor is told when it is started: its only argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Commission {
    /// Data and runtime folder.
    pub(crate) paths: Paths,
    /// Project name.
    pub(crate) project: String,
    /// `full` or `single`.
    pub(crate) id_map: String,
    /// The user namespace was made for it: nothing of the project that still runs lives in it.
    pub(crate) new_namespace: bool,
    /// The storage driver that was asked for.
    pub(crate) driver: Option<Driver>,
}

/// How a supervisor's start went.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ready {
    /// It listens on the socket.
    Listening,
    /// Another one is there.
    Another,
    /// It cannot work.
    Failed(Failure),
}

/// Role entry.
pub(crate) fn main() -> Result<()> {
    // Files that containers see must not depend on the umask of whoever typed `up`.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // `up` in the foreground blocks the signals that it waits for, and blocked signals are inherited.
    nix::sys::signal::SigSet::all().thread_unblock().context("failed to unblock signals")?;
    let ready = File::from(take_fd(READY).context("the supervisor was started without a pipe")?);
    match prepare() {
        Ok(Some(prepared)) => run(prepared, ready),
        Ok(None) => say(ready, &Ready::Another),
        Err(error) => say(ready, &Ready::Failed(Failure::of(&error))),
    }
}

/// A supervisor before its first request.
struct Prepared {
    supervisor: Rc<Supervisor>,
    lock: Lock,
    /// Readable when the launcher has ended.
    launcher: OwnedFd,
}

/// Reads the commission, takes the lock, and gives up what is not needed from here on. Nothing when another supervisor is
/// there.
fn prepare() -> Result<Option<Prepared>> {
    let argument = std::env::args().nth(1).context("the supervisor was started without its commission")?;
    let commission: Commission =
        json::decode(argument.as_bytes()).context("the supervisor's commission makes no sense")?;
    let project = commission.paths.find_project(&commission.project);
    let payload = take_fd(PAYLOAD).context("the supervisor was started without its executable")?;
    let Some(lock) = Lock::take(&project)? else { return Ok(None) };
    let executable = Executable::open(payload.into())?;
    let launcher = launcher::start(executable.program_length()).map_err(sandbox_failure)?;
    // To find out takes mounts. Only who needs a driver needs to know that there was none to be found.
    let driver =
        storage_driver(&commission.paths.data, commission.driver).map_err(|error| Failure::of(&error));
    if let Err(error) = harden::supervisor(&commission.paths.data, &project.runtime) {
        // It serves as well without.
        lifecycle::note(&sandbox_failure(error));
    }
    let supervisor = Rc::new(Supervisor::new(commission, executable, driver));
    Ok(Some(Prepared { supervisor, lock, launcher }))
}

fn run(prepared: Prepared, ready: File) -> Result<()> {
    let Prepared { supervisor, lock, launcher } = prepared;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start tokio")?;
    let local = tokio::task::LocalSet::new();
    let project = supervisor.project.clone();
    let outcome = local.block_on(&runtime, async {
        let listener = match supervisor.adopt().await.and_then(|()| serve::listen(&supervisor)) {
            Ok(listener) => listener,
            Err(error) => return say(ready, &Ready::Failed(Failure::of(&error))),
        };
        say(ready, &Ready::Listening)?;
        serve::serve(supervisor, listener, launcher).await
    });
    // No client connects to us any more, and nobody else listens before the lock is free.
    let _ = files::remove(&project.socket());
    if !project.containers().is_dir() {
        let _ = std::fs::remove_dir(project.runtime.join("shm"));
        let _ = std::fs::remove_dir(&project.runtime);
        remove_empty(&project);
    }
    drop(lock);
    outcome
}

/// Removes the folder of a project of which nothing is left. The lock is held while its file goes ([`Lock::take`]).
fn remove_empty(project: &ProjectPaths) {
    if !project.record().exists() && !project.volumes().exists() {
        for file in [project.supervisor_log(), project.events(), project.earlier_events()] {
            let _ = std::fs::remove_file(file);
        }
        // A killed writer may have taken longer to die than we took to start.
        let _ = files::remove_leftovers(&project.folder);
        let _ = std::fs::remove_file(project.lock());
        let _ = std::fs::remove_dir(&project.folder);
    }
}

fn say(mut ready: File, message: &Ready) -> Result<()> {
    let line = protocol::encode(message).context("failed to encode a message")?;
    ready.write_all(&line).context("failed to say that the supervisor is ready")
}

/// The project's lock, held by its one supervisor.
struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, unless somebody has it.
    fn take(project: &ProjectPaths) -> Result<Option<Self>> {
        let path = project.lock();
        loop {
            // The one before us may remove the folder, when nothing of the project is left in it ([`remove_empty`]).
            let opened = std::fs::create_dir_all(&project.folder)
                .and_then(|()| File::options().create(true).write(true).truncate(false).open(&path));
            let file = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.with_context(|| format!("failed to open `{}`", path.display()))?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("failed to lock `{}`", path.display()));
                }
            }
            // It may also have removed the file between our opening and locking it.
            if is_same(&file, &path) {
                return Ok(Some(Self { _file: file }));
            }
        }
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}
