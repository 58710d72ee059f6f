//! The launcher: starts roles for a process that has given up what they need.
//!
//! ```text
//! supervisor ── Launch, descriptors ──> launcher ── clone(CLONE_PARENT) ──> role
//!     │ <── Launched, socket ──────────────┘                                 │
//!     │ <── the step that failed, or the socket closes at `execve` ──────────┘
//! ```
//!
//! Capabilities that are given up for good, a filter and landlock are handed down to whatever a process starts, and containers
//! would have less than they asked for. So the supervisor starts a launcher first, which keeps everything and does nothing else.
//! What it starts are children of the supervisor, which waits for them as for its own. It ends when the supervisor does.
//!
//! A few things that landlock closes to the supervisor are done for it, too: [`make_folder`], [`network_namespace`].

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{Child, Spawn, UserNamespace, take_fd};
use crate::channel::{Channel, Message};
use crate::{Error, Failure, sys};

/// `argv[0]` of the launcher.
pub(super) const ROLE: &str = "dpack-launcher";

const CHANNEL: RawFd = 3;

/// A role to be started, without its descriptors: those are sent beside it, `log` first. None of the roles that are launched
/// has variables of its own or a user namespace of its own; one that had would be refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    role: String,
    arguments: Vec<String>,
    inherit_environment: bool,
    log: bool,
    /// The numbers of the other descriptors.
    numbers: Vec<RawFd>,
    join: Option<i32>,
    program_length: Option<u64>,
}

/// What it does itself. Each is done directly by a process that has no launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// [`make_folder`].
    MakeFolder(PathBuf),
    /// [`network_namespace`].
    NetworkNamespace(i32),
    /// Opens a file of a container to read: of its first process, the path as it is inside.
    FileIn { pid: i32, path: String },
    /// Moves our own processes out of a control group's folder, into the one below it that is ours.
    StepDown(PathBuf),
}

/// Makes a folder and those above it, wherever it lies: the source of a bind mount.
pub fn make_folder(path: &Path) -> io::Result<()> {
    Errand::MakeFolder(path.to_owned()).run().map(drop)
}

/// Opens the network namespace of a process.
pub fn network_namespace(pid: i32) -> io::Result<OwnedFd> {
    Errand::NetworkNamespace(pid).run()?.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Errand {
    /// Does it, or has it done.
    pub(crate) fn run(self) -> io::Result<Option<OwnedFd>> {
        match LAUNCHER.get() {
            Some(launcher) => launcher.errand(self),
            None => self.run_here(),
        }
    }

    fn run_here(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Errand::MakeFolder(path) => std::fs::create_dir_all(path).map(|()| None),
            Errand::NetworkNamespace(pid) => Ok(Some(File::open(format!("/proc/{pid}/ns/net"))?.into())),
            Errand::FileIn { pid, path } => crate::exec::open_in(*pid, path).map(Some),
            Errand::StepDown(dir) => {
                crate::cgroup::step_down(dir);
                Ok(None)
            }
        }
    }
}

/// This process's launcher.
static LAUNCHER: OnceLock<Launcher> = OnceLock::new();

struct Launcher {
    channel: Mutex<Channel>,
    pid: i32,
}

/// Starts it, once, for all roles that this process starts from now on: in its user namespace, with its environment as it is
/// now. A descriptor comes back that is readable when the launcher has ended.
pub fn start(program_length: u64) -> Result<OwnedFd, Error> {
    let (channel, theirs) = Channel::pair()?;
    let child = Spawn::new(ROLE).program_length(program_length).fd(CHANNEL, theirs.fd()).spawn()?;
    let _ = LAUNCHER.set(Launcher { channel: Mutex::new(channel), pid: child.pid });
    Ok(child.pidfd)
}

/// Whether this process had a launcher, and has none any more.
pub fn has_ended() -> bool {
    LAUNCHER.get().is_some_and(|launcher| launcher.channel().is_closed())
}

/// This process, and its launcher if it has one.
pub(crate) fn with_launcher() -> Vec<u32> {
    let launcher = LAUNCHER.get().map(|launcher| launcher.pid.cast_unsigned());
    [std::process::id()].into_iter().chain(launcher).collect()
}

/// Has the launcher start a role; none without a launcher.
pub(super) fn launch(spawn: &Spawn<'_>) -> Option<Result<Child, Error>> {
    LAUNCHER.get().map(|launcher| launcher.launch(spawn))
}

impl Launcher {
    fn channel(&self) -> MutexGuard<'_, Channel> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, spawn: &Spawn<'_>) -> Result<Child, Error> {
        let order = Order::of(spawn)?;
        let log = spawn.log.into_iter();
        let descriptors: Vec<BorrowedFd<'_>> =
            log.chain(spawn.descriptors.iter().map(|(_, descriptor)| *descriptor)).collect();
        // Held for one question and its answer; how the start goes is the new process's own answer.
        let answer = {
            let channel = self.channel();
            channel.send_with(&Message::Launch(order), &descriptors)?;
            channel.expect("the launcher")?
        };
        let (Message::Launched { pid }, Some(socket)) = answer else {
            return Err(Error::Vanished { process: "the launcher" });
        };
        spawn.watch(pid, &socket)
    }

    fn errand(&self, errand: Errand) -> io::Result<Option<OwnedFd>> {
        let answer = {
            let channel = self.channel();
            let sent = channel.send(&Message::Errand(errand), None);
            sent.and_then(|()| channel.expect("the launcher")).map_err(io::Error::other)?
        };
        match answer {
            (Message::Done { errno: 0 }, descriptor) => Ok(descriptor),
            (Message::Done { errno }, _) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Order {
    fn of(spawn: &Spawn<'_>) -> Result<Self, Error> {
        let invalid = || spawn.error(super::plan::STEP_PREPARE, io::ErrorKind::InvalidInput.into());
        let text = |text: &std::ffi::OsString| text.to_str().map(str::to_owned).ok_or_else(invalid);
        let join = match spawn.user_namespace {
            UserNamespace::Inherit => None,
            UserNamespace::Join(pid) => Some(pid),
            UserNamespace::New(_) | UserNamespace::JoinOpen(_) => return Err(invalid()),
        };
        if !spawn.environment.is_empty() {
            return Err(invalid());
        }
        Ok(Order {
            role: spawn.role.to_owned(),
            arguments: spawn.arguments.iter().map(text).collect::<Result<_, _>>()?,
            inherit_environment: spawn.inherit_environment,
            log: spawn.log.is_some(),
            numbers: spawn.descriptors.iter().map(|(number, _)| *number).collect(),
            join,
            program_length: spawn.program_length,
        })
    }

    fn spawn<'a>(&'a self, descriptors: &'a [OwnedFd]) -> Spawn<'a> {
        let (log, others) = descriptors.split_at(usize::from(self.log).min(descriptors.len()));
        Spawn {
            role: &self.role,
            arguments: self.arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            inherit_environment: self.inherit_environment,
            descriptors: self.numbers.iter().copied().zip(others.iter().map(AsFd::as_fd)).collect(),
            log: log.first().map(AsFd::as_fd),
            user_namespace: self.join.map_or(UserNamespace::Inherit, UserNamespace::Join),
            program_length: self.program_length,
        }
    }
}

/// Role entry.
pub(super) fn main() -> ! {
    let Some(channel) = take_fd(CHANNEL).map(Channel::from_fd) else { sys::exit_now(125) };
    while let Ok(Some((message, descriptors))) = channel.receive_with() {
        let (answer, descriptor) = match message {
            Message::Launch(order) => match begin(&order.spawn(&descriptors)) {
                Ok((pid, socket)) => (Message::Launched { pid }, Some(socket)),
                Err(error) => (Message::Failed(Failure::from(&error)), None),
            },
            Message::Errand(errand) => match errand.run_here() {
                Ok(descriptor) => (Message::Done { errno: 0 }, descriptor),
                Err(error) => (Message::Done { errno: errno(&error) }, None),
            },
            _ => break,
        };
        if channel.send(&answer, descriptor.as_ref()).is_err() {
            break;
        }
    }
    sys::exit_now(0)
}

/// Errors that are not the kernel's: what cannot be a path is invalid to it, too.
fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(nix::libc::EINVAL)
}

/// Starts it without waiting for `execve`: its number, and the socket that tells how it went.
fn begin(spawn: &Spawn<'_>) -> Result<(i32, OwnedFd), Error> {
    let plan = Plan::new(spawn)?;
    let (ours, theirs) = spawn.socket_pair()?;
    match sys::fork_sibling().map_err(|source| spawn.error("fork", source))? {
        Some(pid) => Ok((pid, ours)),
        None => plan.run_or_exit(&theirs),
    }
}
