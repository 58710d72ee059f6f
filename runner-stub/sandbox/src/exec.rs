//! `exec`: one more process in a running container, confined as the container is.
//!
//! The caller executes this program again inside the user namespace, from a read-only clone (role.rs); that process joins
//! the container's other namespaces and forks the command into the PID namespace. Until the command is executed nothing of
//! ours can be traced or read from inside the container: the process is not dumpable, holds no descriptor but 0, 1, 2 and
//! its socket, and has left the host's mounts and working directory behind (CVE-2024-21626).

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::channel::{Channel, Message};
use crate::compat::{in_root, pidfd};
use crate::idmap::Mapped;
use crate::process::{self, Conditions, Streams};
use crate::relay::Relays;
use crate::role::{Child, Errand, Spawn, take_fd};
use crate::spec::{Bundle, Capabilities, NamespaceKind, Process, Seccomp};
use crate::terminal::{self, RawMode};
use crate::wait::Foreground;
use crate::{Error, Failure, ids, seccomp, signal, sys};

/// `argv[0]` of the process that joins.
pub const ROLE: &str = "dpack-exec";

/// What to execute. The caller is outside the user namespace (or inside it) and single-threaded.
#[derive(Debug, Clone)]
pub struct ExecOptions<'a> {
    /// The container's folder.
    pub container_dir: &'a Path,
    /// Command and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, over those of the container's own process.
    pub env: Vec<String>,
    /// Working directory; the container's own when absent.
    pub cwd: Option<String>,
    /// User, groups; the container's own when absent.
    pub user: Option<User>,
    /// Capabilities in place of the container's own. Its seccomp filter stays.
    pub capabilities: Option<Vec<String>>,
    /// With a pseudo-terminal.
    pub tty: bool,
    /// Whether standard input is passed on; else `/dev/null`.
    pub stdin: bool,
}

/// A resolved user (`dpack_bundle::users` resolves names with the container's own files).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary group IDs.
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

/// What the joining process is told.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    process: Process,
    /// As the container's own.
    seccomp: Option<Seccomp>,
    /// `CLONE_NEW…` of the namespaces that are the container's own.
    namespaces: i32,
    /// It has limits, which must hold for this process too.
    limited: bool,
    /// Its control group; found by PID 1 without.
    group: Option<Group>,
    /// PID 1 as the caller sees it.
    init: i32,
    stdin: bool,
    /// When the container's upper directory was made.
    birth: Option<ids::Birth>,
    /// It ends when the process that joined does.
    bound: bool,
    /// Milliseconds after which it is killed.
    limit_ms: Option<u64>,
    /// Do not wait for its end.
    detach: bool,
    /// How many descriptors from 3 on are passed on.
    preserved: u32,
}

/// A request on its way, and the process whose container it is for.
struct Prepared {
    request: File,
    init: Child,
    ways: Ways,
}

/// Where somebody wants to hear of the process, and what it is given: for the OCI runtime command line.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Receives its number.
    pub(crate) pid_file: Option<OwnedFd>,
    /// Receives the pseudo-terminal's master.
    pub(crate) console: Option<OwnedFd>,
    /// Passed on as descriptors 3 and up.
    pub(crate) preserved: Vec<OwnedFd>,
}

/// The role's descriptors, above those that are passed on.
struct Numbers {
    request: i32,
    init: i32,
    pid_file: i32,
    console: i32,
}

impl Numbers {
    fn above(preserved: u32) -> Self {
        let first = 3 + preserved.cast_signed();
        Numbers { request: first, init: first + 1, pid_file: first + 2, console: first + 3 }
    }
}

/// Becomes a process in a container that somebody else watches over; returns only on failure, and ends at once with `detach`.
pub(crate) fn become_joined(
    init: Child,
    bundle: &Bundle,
    process: Process,
    group: Option<&Group>,
    detach: bool,
    ways: Ways,
) -> Result<Infallible, Error> {
    process::check(&process)?;
    let request = Request {
        detach,
        group: group.cloned(),
        preserved: u32::try_from(ways.preserved.len()).unwrap_or(0),
        // The keeper of IDs would end with us.
        birth: None,
        ..Request::new(bundle, &init, process)
    };
    Err(Prepared::pack(&request, init, ways)?.role().replace())
}

impl Request {
    fn new(bundle: &Bundle, init: &Child, process: Process) -> Self {
        Request {
            namespaces: namespaces(bundle).bits(),
            limited: bundle.spec.linux.resources.as_ref().is_some_and(|resources| !resources.is_empty()),
            init: init.pid,
            group: None,
            stdin: true,
            bound: false,
            limit_ms: None,
            birth: ids::birth(&bundle.upper()),
            detach: false,
            preserved: 0,
            seccomp: bundle.spec.linux.seccomp.clone(),
            process,
        }
    }
}

impl Prepared {
    fn new(options: &ExecOptions<'_>, bound: bool, limit: Option<Duration>) -> Result<Self, Error> {
        let not_running = || Error::NotRunning { container_dir: options.container_dir.to_owned() };
        let init = signal::live_init(options.container_dir)?.ok_or_else(not_running)?;
        let bundle = Bundle::load(options.container_dir)?;
        let request = Request {
            stdin: options.stdin,
            bound,
            limit_ms: limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            ..Request::new(&bundle, &init, process(&bundle.spec.process, options)?)
        };
        Self::pack(&request, init, Ways::default())
    }

    fn pack(request: &Request, init: Child, ways: Ways) -> Result<Self, Error> {
        let failed = |source| Error::System { step: "pass the command on", source };
        let request =
            memory_file(&serde_json::to_vec(request).map_err(|e| failed(e.into()))?).map_err(failed)?;
        Ok(Self { request, init, ways })
    }

    fn role(&self) -> Spawn<'_> {
        let preserved = u32::try_from(self.ways.preserved.len()).unwrap_or(0);
        let numbers = Numbers::above(preserved);
        let mut spawn = Spawn::new(ROLE).arg(preserved.to_string()).clear_env();
        for (number, fd) in (3..).zip(&self.ways.preserved) {
            spawn = spawn.fd(number, fd.as_fd());
        }
        for (number, fd) in [(numbers.pid_file, &self.ways.pid_file), (numbers.console, &self.ways.console)] {
            if let Some(fd) = fd {
                spawn = spawn.fd(number, fd.as_fd());
            }
        }
        spawn
            .join_user_namespace(self.init.pid)
            .fd(numbers.request, self.request.as_fd())
            .fd(numbers.init, self.init.pidfd.as_fd())
    }
}

/// Becomes the process that joins the container, so its exit status is the caller's: the command's, 128 + signal, 126
/// (cannot be executed) or 127 (not found). Returns only on failure.
pub fn run(options: &ExecOptions<'_>) -> Result<Infallible, Error> {
    Err(Prepared::new(options, false, None)?.role().replace())
}

/// Exit status of a command that [`spawn`] killed because it took too long.
pub const TIMED_OUT: i32 = 124;

/// Like [`run`], as a child of the caller, who is inside the user namespace and may have threads: no input, no terminal,
/// what it writes goes to `output`. It ends when that child does, and after `limit`, with [`TIMED_OUT`].
pub fn spawn(
    options: &ExecOptions<'_>,
    output: BorrowedFd<'_>,
    limit: Option<Duration>,
) -> Result<Child, Error> {
    Prepared::new(options, true, limit)?.role().detached(output).spawn()
}

/// Reads a small regular file of a running container (its `/etc/passwd`), never following a link out of it.
/// None when there is no such file.
pub fn read_file(container_dir: &Path, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let not_running = || Error::NotRunning { container_dir: container_dir.to_owned() };
    let init = signal::live_init(container_dir)?.ok_or_else(not_running)?;
    let failed =
        |source: io::Error| Error::Read { path: format!("/proc/{}/root{path}", init.pid).into(), source };
    let file = match (Errand::FileIn { pid: init.pid, path: path.to_owned() }).run() {
        Ok(file) => File::from(file.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(failed(e)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).map_err(failed)?;
    Ok(Some(content))
}

/// Opens a file below the root directory of a process.
pub(crate) fn open_in(pid: i32, path: &str) -> io::Result<OwnedFd> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), directory, Mode::empty())?;
    // A FIFO in its place must not make us wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(in_root::open(&root, path, flags, ResolveFlags::empty())?)
}

fn namespaces(bundle: &Bundle) -> CloneFlags {
    let kinds = [
        (NamespaceKind::Mount, CloneFlags::CLONE_NEWNS),
        (NamespaceKind::Pid, CloneFlags::CLONE_NEWPID),
        (NamespaceKind::Network, CloneFlags::CLONE_NEWNET),
        (NamespaceKind::Ipc, CloneFlags::CLONE_NEWIPC),
        (NamespaceKind::Uts, CloneFlags::CLONE_NEWUTS),
        (NamespaceKind::Cgroup, CloneFlags::CLONE_NEWCGROUP),
    ];
    let own = kinds.into_iter().filter(|(kind, _)| bundle.spec.namespace(*kind).is_some());
    own.map(|(_, flag)| flag).collect()
}

/// The container's own process with what is asked for differently. Never more capabilities than it has, unless they are named.
pub(crate) fn process(own: &Process, options: &ExecOptions<'_>) -> Result<Process, Error> {
    let mut process = own.clone();
    process.terminal = options.tty;
    process.args.clone_from(&options.args);
    let name = |entry: &str| entry.split('=').next().map(str::to_owned);
    process.env.retain(|entry| !options.env.iter().any(|new| name(new) == name(entry)));
    process.env.extend(options.env.iter().cloned());
    if options.tty && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
        process.env.push("TERM=xterm".to_owned());
    }
    if let Some(cwd) = &options.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &options.user {
        process.user.uid = user.uid;
        process.user.gid = user.gid;
        process.user.additional_gids.clone_from(&user.additional_gids);
        if let Some(capabilities) = &mut process.capabilities {
            // As Docker: root has what the bounding set allows, others have nothing.
            let granted = if user.uid == 0 { capabilities.bounding.clone() } else { Vec::new() };
            capabilities.effective.clone_from(&granted);
            capabilities.permitted = granted;
            capabilities.ambient.clear();
        }
    }
    if let Some(named) = &options.capabilities {
        // Who is not root loses them when the command is executed, capabilities(7).
        let [bounding, permitted, effective] = [(); 3].map(|()| named.clone());
        process.capabilities =
            Some(Capabilities { bounding, permitted, effective, ..Capabilities::default() });
    }
    if process.args.is_empty() || !process.cwd.starts_with('/') {
        let reason = "a command and an absolute working directory are needed".to_owned();
        return Err(Error::Invalid { property: "exec".to_owned(), reason });
    }
    process::check(&process)?;
    Ok(process)
}

pub(crate) fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(c"dpack-exec", MemfdFlags::CLOEXEC)?);
    io::Write::write_all(&mut file, content)?;
    file.rewind()?;
    Ok(file)
}

/// Role entry.
pub fn main() -> ! {
    let preserved = std::env::args().nth(1).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let numbers = Numbers::above(preserved);
    let (request, init) = (take_fd(numbers.request), take_fd(numbers.init));
    let (pid_file, console) = (take_fd(numbers.pid_file), take_fd(numbers.console));
    let status = match (request, init) {
        (Some(request), Some(init)) => join(request, init, pid_file, console).unwrap_or_else(|error| {
            let hint = error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            let text = format!("error: {}\n{hint}", Failure::from(&error).line());
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            error.exit_code().unwrap_or(125)
        }),
        _ => 125,
    };
    sys::exit_now(status)
}

fn join(
    request: OwnedFd,
    init: OwnedFd,
    pid_file: Option<OwnedFd>,
    console: Option<OwnedFd>,
) -> Result<i32, Error> {
    let _ = rustix::thread::set_name(c"dpack-exec");
    let undumpable = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(undumpable).map_err(process::confine("hide from tracing"))?;
    let failed = |source: io::Error| Error::System { step: "read the command", source };
    let mut text = Vec::new();
    File::from(request).read_to_end(&mut text).map_err(failed)?;
    let request: Request = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    let mapped = Mapped::current();
    process::set_oom_score(request.process.oom_score_adj)?;
    let mut streams = Streams::default();
    if !request.stdin {
        streams.input = Some(File::open("/dev/null").map_err(failed)?.into());
    }

    // Nobody would carry for one that nobody waits for.
    let relays = match request.detach {
        true => Relays::default(),
        false => Relays::around(&request.process, &mut streams).map_err(failed)?,
    };
    let filter = request.seccomp.as_ref().map(seccomp::compile).transpose()?;
    let user = request.process.user.clone();
    let keeper = match mapped.single && !request.detach && ids::are_shown() {
        true => Some(ids::keeper(&ids::Setting { user, birth: request.birth })?),
        false => None,
    };
    let foreground = Foreground::new()?;
    let group = request.group.or_else(|| Group::of_process(request.init));
    match group.map(|group| group.enter_from_outside()) {
        Some(Err(error)) if request.limited => return Err(error),
        _ => {}
    }
    // All at once, by a descriptor of the process: it cannot have become another one. Root and working directory are the
    // container's afterwards.
    let proc = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", proc, Mode::empty()).map_err(|e| failed(e.into()))?;
    pidfd::enter(&init, CloneFlags::from_bits_retain(request.namespaces))
        .map_err(|source| Error::JoinNamespace { path: "the container's namespaces".into(), source })?;
    drop(init);
    let mut master = None;
    if request.process.terminal {
        let (inside, outside) = terminal::open()?;
        match (&console, request.process.console_size) {
            (None, _) => terminal::copy_size(&outside),
            (Some(_), Some(size)) => terminal::set_size(&outside, size),
            (Some(_), None) => {}
        }
        (streams, master) = (inside, Some(outside));
    }

    let (channel, theirs) = Channel::pair()?;
    let failed = |source| Error::System { step: "fork the command", source };
    let Some(pid) = sys::fork().map_err(failed)? else {
        drop((channel, master));
        let conditions = Conditions {
            mapped,
            keeper: keeper.as_ref(),
            filter: filter.as_ref(),
            init: false,
            parent: request.bound.then_some(&theirs),
            preserved: request.preserved,
        };
        let error = process::execute(&request.process, streams, &conditions);
        let _ = theirs.send(&Message::Failed(Failure::from(&error)), None);
        sys::exit_now(error.exit_code().unwrap_or(125));
    };
    drop((theirs, streams, keeper));
    let child = Child::of_in(proc, pid).map_err(failed)?;
    if let Some((Message::Failed(failure), _)) = channel.receive()? {
        let _ = child.wait();
        return Err(Error::Remote(failure));
    }
    if let Some(file) = pid_file {
        rustix::io::write(&file, pid.to_string().as_bytes())
            .map_err(|e| Error::Write { path: "the PID file".into(), source: e.into() })?;
    }
    if let Some(socket) = &console
        && let Some(terminal) = master.take()
    {
        crate::oci::send_console(socket, &terminal)?;
    }
    if request.detach {
        return Ok(0);
    }
    if let Some(limit) = request.limit_ms
        && !child.ends_within(Duration::from_millis(limit)).map_err(failed)?
    {
        let _ = pidfd::signal(&child.pidfd, nix::libc::SIGKILL);
        let _ = child.wait();
        relays.finish();
        return Ok(TIMED_OUT);
    }
    let raw_mode = master.as_ref().map(|_| RawMode::enter());
    let ended = foreground.attend(&child, master, relays);
    drop(raw_mode);
    Ok(ended?.code)
}
