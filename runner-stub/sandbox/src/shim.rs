//! The shim: parent of one container's PID 1. Holds its streams, writes its log, records its end. It needs nobody: not its
//! starter, not a terminal, not the supervisor.
//!
//! One thread, one `poll`: the log's two pipes and a signalfd. SIGTERM and its kind are passed on to PID 1.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::channel::{Channel, Message};
use crate::compat::pidfd;
use crate::container::{self, Creation, Home, Waiting};
use crate::input::{self, Input};
use crate::log::{Log, Stream};
use crate::process::Streams;
use crate::record::{self, Exit, Running};
use crate::role::{Child, Spawn, take_fd};
use crate::spec::Bundle;
use crate::{Error, Failure, harden, sys};

/// `argv[0]` of the shim.
pub const ROLE: &str = "dpack-shim";

const CHANNEL: i32 = 3;
const NETWORK: i32 = 4;
/// After PID 1 all other processes of the container are dead and what they wrote is in the pipes. More than this can only
/// come from outside, from somebody who was passed the pipe.
const MOST_TO_DRAIN: usize = 4 << 20;

/// What a container is created from. The caller is in the user namespace.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// Holds `config.json`; receives `running.json`, `exit.json`, `log.json`.
    pub container_dir: &'a Path,
    /// The project's network namespace, for the shim itself to live in (keeps it alive). What network namespace the
    /// *container* has is said by `linux.namespaces` of config.json: a new one, none (the host's), or one by path.
    pub network_namespace: Option<BorrowedFd<'a>>,
    /// Where its control group is made; none is made without.
    pub home: Option<&'a Home>,
}

/// A container on its way; several can be on their way at once.
#[derive(Debug)]
pub struct Creating {
    shim: Child,
    channel: Channel,
}

/// A created container, waiting in front of `execve`. Dropping it kills it.
#[derive(Debug)]
pub struct Created {
    /// Parent of the container's PID 1. A child of the caller, who reaps it.
    pub shim_pid: i32,
    /// PID 1 of the container, as seen from here.
    pub init_pid: i32,
    creating: Creating,
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

/// Starts a shim and waits until the container is created.
pub fn create(options: &CreateOptions<'_>) -> Result<Created, Error> {
    spawn(options)?.wait()
}

/// Starts a shim without waiting.
pub fn spawn(options: &CreateOptions<'_>) -> Result<Creating, Error> {
    let (channel, theirs) = Channel::pair()?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|source| Error::Read { path: PathBuf::from("/dev/null"), source })?;
    let mut spawn = Spawn::new(ROLE).arg(options.container_dir).clear_env().detached(null.as_fd());
    if let Some(home) = options.home {
        let home = serde_json::to_string(home);
        let failed =
            |e: serde_json::Error| Error::System { step: "pass the control group on", source: e.into() };
        spawn = spawn.arg(home.map_err(failed)?);
    }
    spawn = spawn.fd(CHANNEL, theirs.fd());
    if let Some(namespace) = options.network_namespace {
        spawn = spawn.fd(NETWORK, namespace);
    }
    let shim = spawn.spawn()?;
    Ok(Creating { shim, channel })
}

impl Creating {
    /// Waits until the container is created.
    pub fn wait(self) -> Result<Created, Error> {
        match self.channel.expect("the shim") {
            Ok((Message::Created { init_pid }, _)) => {
                Ok(Created { shim_pid: self.shim.pid, init_pid, creating: self })
            }
            other => {
                // It has nothing more to do.
                let _ = self.shim.wait();
                Err(other.err().unwrap_or(Error::Vanished { process: "the shim" }))
            }
        }
    }
}

/// For `poll`: readable when [`Creating::wait`] will not block.
impl AsFd for Creating {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }
}

impl Created {
    /// Lets the container's command be executed; returns when it is, or with what hindered it
    /// ([`Error::exit_code`] is then 126 or 127). Afterwards the shim needs nobody.
    pub fn start(self) -> Result<Started, Error> {
        let Creating { shim, channel } = self.creating;
        let answer = channel.send(&Message::Start, None).and_then(|()| channel.expect("the shim"));
        match answer {
            Ok(_) => Ok(Started { shim_pid: shim.pid, shim_pidfd: shim.pidfd, init_pid: self.init_pid }),
            Err(error) => {
                let _ = shim.wait();
                Err(error)
            }
        }
    }
}

/// Role entry.
pub fn main() -> ! {
    // Both at once: later the numbers of what was not given are others'.
    let (channel, network) = (take_fd(CHANNEL), take_fd(NETWORK));
    let status = match (channel, std::env::args_os().nth(1)) {
        (Some(channel), Some(container_dir)) => {
            let channel = Channel::from_fd(channel);
            let home = std::env::args().nth(2).map(|text| serde_json::from_slice::<Home>(text.as_bytes()));
            match run(Path::new(&container_dir), network, home.and_then(Result::ok).as_ref(), &channel) {
                Ok(ended) => watch(ended, channel),
                Err(error) => {
                    let _ = channel.send(&Message::Failed(Failure::from(&error)), None);
                    error.exit_code().unwrap_or(125)
                }
            }
        }
        _ => 125,
    };
    sys::exit_now(status)
}

/// A container that runs, and what is needed to watch over it.
struct Watched {
    container_dir: PathBuf,
    container: Waiting,
    /// Held until the end.
    _claim: OwnedFd,
    started_at: String,
    signals: SignalFd,
    log: Log,
    streams: Vec<(OwnedFd, Stream)>,
    input: Option<Input>,
    /// The first stream is a pseudo-terminal, to which the input has to be carried.
    terminal: bool,
}

/// Creates the container, waits for the word, starts it.
fn run(
    container_dir: &Path,
    network: Option<OwnedFd>,
    home: Option<&Home>,
    channel: &Channel,
) -> Result<Watched, Error> {
    let _ = rustix::thread::set_name(c"dpack-shim");
    let system = |step| move |e: Errno| Error::System { step, source: e.into() };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(system("become a subreaper"))?;
    let signals = block_signals()?;
    let bundle = Bundle::load(container_dir)?;
    let claim = record::claim(&bundle.dir)?;
    let path = bundle.dir.join("log.json");
    let log = Log::open(&path, bundle.log_limits()).map_err(|source| Error::Write { path, source })?;

    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(system("make a pipe"));
    let ((output, their_output), (errors, their_errors)) = (pipe()?, pipe()?);
    let (their_input, input) = match bundle.has_input() {
        true => input::open(&bundle.dir, bundle.spec.mount_label())
            .map(|(theirs, ours)| (Some(theirs), Some(ours)))?,
        false => (None, None),
    };
    let theirs = Streams {
        // Otherwise it is `/dev/null` already.
        input: their_input,
        output: Some(their_output),
        errors: Some(their_errors),
        own: true,
        terminal: false,
    };
    let mut waiting = container::create(Creation { bundle: &bundle, streams: theirs, home, detached: None })?;
    // Only now: PID 1 has made its own network namespace from the host's, or stays in that.
    if let Some(namespace) = network {
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| Error::JoinNamespace {
            path: PathBuf::from("the project's network"),
            source: e.into(),
        })?;
    }
    let terminal = waiting.terminal.is_some();
    let streams = match waiting.terminal.take() {
        Some(master) => vec![(master, Stream::new("stdout"))],
        None => vec![(output, Stream::new("stdout")), (errors, Stream::new("stderr"))],
    };
    for (fd, _) in &streams {
        rustix::io::ioctl_fionbio(fd, true).map_err(system("make a pipe"))?;
    }
    channel.send(&Message::Created { init_pid: waiting.init.pid }, None)?;
    match channel.receive()? {
        Some((Message::Start, _)) => {}
        // The starter is gone: nobody knows of this container.
        _ => {
            drop(waiting);
            sys::exit_now(125)
        }
    }
    let started_at = start(&bundle.dir, &mut waiting)?;
    Ok(Watched {
        container_dir: bundle.dir,
        container: waiting,
        _claim: claim,
        started_at,
        signals,
        log,
        streams,
        input,
        terminal,
    })
}

/// Records that it runs, then lets it: who sees it run finds the record. A command that cannot be executed has a record
/// of that too.
pub(crate) fn start(container_dir: &Path, waiting: &mut Waiting) -> Result<String, Error> {
    let running =
        Running::of(waiting.init.pid).ok_or(Error::Vanished { process: "the container's first process" })?;
    running.write(container_dir)?;
    if let Err(error) = waiting.start() {
        let exit = Exit {
            error: Some(Failure::from(&error).line()),
            ..Exit::of(error.exit_code().unwrap_or(125), None, &running.started_at)
        };
        exit.write(container_dir)?;
        return Err(error);
    }
    Ok(running.started_at)
}

/// All that would end this process, and the news of ended children.
fn block_signals() -> Result<SignalFd, Error> {
    let failed = |e: nix::Error| Error::System { step: "block signals", source: e.into() };
    let mut set = SigSet::empty();
    for signal in
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        set.add(signal);
    }
    set.thread_block().map_err(failed)?;
    // The terminal's end is none of our business.
    sys::ignore_signal(nix::libc::SIGHUP);
    sys::ignore_signal(nix::libc::SIGPIPE);
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

/// Until PID 1 has ended: its status.
fn watch(mut watched: Watched, channel: Channel) -> i32 {
    let _ = channel.send(&Message::Started, None);
    drop(channel);
    // Nobody waits for this. A shim that is not confined serves its container as well.
    let groups = watched.container.group.as_ref().map(|owned| owned.0.parents()).unwrap_or_default();
    if let Err(error) = harden::shim(&watched.container_dir, groups) {
        let text = format!("warning: {}\n", Failure::from(&error).line());
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
    }
    let mut buffer = vec![0_u8; 32 * 1024];
    let (code, signal) = loop {
        wait_for_something(&watched);
        if let Some(status) = signals(&watched) {
            break status;
        }
        if let (true, Some(input), Some((master, _))) =
            (watched.terminal, &mut watched.input, watched.streams.first())
        {
            input.carry(master);
        }
        let log = &mut watched.log;
        watched.streams.retain_mut(|(fd, stream)| copy(fd, stream, log, &mut buffer).0);
    };
    for (fd, stream) in &mut watched.streams {
        let mut drained = 0;
        while let (true, length @ 1..) = copy(fd, stream, &mut watched.log, &mut buffer) {
            drained += length;
            if drained > MOST_TO_DRAIN {
                break;
            }
        }
        watched.log.finish(stream);
    }
    // On a full disk there is no record; the supervisor still has this process's own status.
    let exit = Exit {
        oom_killed: watched.container.killed_for_memory(),
        ..Exit::of(code, signal, &watched.started_at)
    };
    drop(watched.container);
    let _ = exit.write(&watched.container_dir);
    code
}

fn wait_for_something(watched: &Watched) {
    let mut fds = vec![PollFd::new(&watched.signals, PollFlags::IN)];
    let carried = watched.input.as_ref().filter(|_| watched.terminal && !watched.streams.is_empty());
    let full = carried.is_some_and(Input::has_pending);
    let wanted = if full { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    fds.extend(watched.streams.iter().map(|(fd, _)| PollFd::new(fd, wanted)));
    fds.extend(carried.and_then(Input::source).map(|fifo| PollFd::new(fifo, PollFlags::IN)));
    let _ = rustix::event::poll(&mut fds, None);
}

/// Passes signals on and reaps; the status of PID 1 when it has ended.
fn signals(watched: &Watched) -> Option<(i32, Option<i32>)> {
    while let Ok(Some(info)) = watched.signals.read_signal() {
        let number = info.ssi_signo.cast_signed();
        if number != nix::libc::SIGCHLD {
            let _ = pidfd::signal(&watched.container.init.pidfd, number);
        }
    }
    let mut result = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == watched.container.init.pid {
            let signal = status.terminating_signal();
            result = Some((signal.map_or(status.exit_status().unwrap_or(0), |signal| 128 + signal), signal));
        }
    }
    result
}

/// Reads once; whether the stream goes on, and how much there was.
fn copy(fd: &OwnedFd, stream: &mut Stream, log: &mut Log, buffer: &mut [u8]) -> (bool, usize) {
    match rustix::io::read(fd, &mut *buffer) {
        Ok(length @ 1..) => {
            log.append(stream, &buffer[..length]);
            (true, length)
        }
        Err(Errno::AGAIN | Errno::INTR) => (true, 0),
        // EIO: the last holder of the pseudo-terminal has closed it.
        Ok(_) | Err(_) => {
            log.finish(stream);
            (false, 0)
        }
    }
}
