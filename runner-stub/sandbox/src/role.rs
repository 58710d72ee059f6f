//! Starts this program again in another role, in the user namespace, where no container can reach its file.
//!
//! A container's process can get hold of the file that any process in its PID namespace executes (`/proc/PID/exe`) and
//! write to it once that process is gone (CVE-2019-5736). So every role is executed from a *clone of the program's own mount
//! that is read-only*; a kernel without mount_setattr(2) executes a sealed copy in memory instead. A role that already runs
//! from such a place executes `/proc/self/exe` as it is.
//!
//! What runs in the child between `fork` and `execve` only makes system calls with data prepared before: the caller may
//! have threads that hold the allocator's lock.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::Error;
use crate::idmap::{Full, IdMap, Range};
use crate::sys::{self, CStringArray, MountAttributes};

pub(crate) const STEP_USER_NAMESPACE: &str = "create a user namespace";
const STEP_MAP: &str = "write the ID map";
const STEP_JOIN: &str = "join the user namespace";
const STEP_MOUNTS: &str = "create a mount namespace";
const STEP_STREAMS: &str = "set up the standard streams";
const STEP_PREPARE: &str = "prepare";
const STEP_EXECUTE: &str = "execute this program";
const STEPS: [&str; 7] =
    [STEP_USER_NAMESPACE, STEP_MAP, STEP_JOIN, STEP_MOUNTS, STEP_STREAMS, STEP_PREPARE, STEP_EXECUTE];

/// More than any role is given.
const MOST_DESCRIPTORS: usize = 16;

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

    /// Length of the program without its payload, for kernels on which the program has to be copied to memory.
    pub fn program_length(mut self, bytes: u64) -> Self {
        self.program_length = Some(bytes);
        self
    }

    /// Starts it as a child.
    pub fn spawn(self) -> Result<Child, Error> {
        let plan = Plan::new(&self)?;
        let (ours, theirs) = plan.socket_pair()?;
        let Some(pid) = sys::fork().map_err(|source| plan.error("fork", source))? else {
            let (step, source) = plan.run(&theirs);
            let errno = source.raw_os_error().unwrap_or(0).to_le_bytes();
            let _ = rustix::io::write(&theirs, &[step, errno[0], errno[1], errno[2], errno[3]]);
            sys::exit_now(125)
        };
        drop(theirs);
        let child = Child::of(pid).map_err(|source| plan.error(STEP_PREPARE, source))?;
        let result = plan.attend(&ours, pid);
        if result.is_err() {
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
            let _ = child.wait();
        }
        result.map(|()| child)
    }

    /// Becomes it. The caller has to be single-threaded. Returns only on failure.
    pub fn replace(self) -> Error {
        let attempt = || -> Result<Infallible, Error> {
            let plan = Plan::new(&self)?;
            let (ours, theirs) = plan.socket_pair()?;
            if matches!(plan.enter, Enter::NewFull) {
                // Whoever has the map written has to stay outside of the namespace.
                let own = std::process::id().cast_signed();
                if sys::fork().map_err(|source| plan.error("fork", source))?.is_none() {
                    drop(theirs);
                    sys::exit_now(i32::from(plan.attend(&ours, own).is_err()));
                }
            }
            drop(ours);
            let (step, source) = plan.run(&theirs);
            Err(plan.failure(step, source))
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
        let id = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Child { pid, pidfd: rustix::process::pidfd_open(id, PidfdFlags::empty())? })
    }

    /// Waits for the end and reaps: the exit status, or 128 + signal.
    pub fn wait(&self) -> Result<i32, Error> {
        let failed = |source: io::Error| Error::System { step: "wait for a process", source };
        let wait = || rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        let status = rustix::io::retry_on_intr(wait).map_err(|e| failed(e.into()))?;
        let status = status.ok_or(Error::Vanished { process: "the process" })?;
        Ok(status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)))
    }
}

/// A descriptor given by [`Spawn::fd`]. Ask once, at the start of a role; none when it was not given.
pub fn take_fd(number: RawFd) -> Option<OwnedFd> {
    (number > 2).then(|| sys::inherited(number)).flatten()
}

/// The roles of this crate by `argv[0]`: `dpack-shim`, `dpack-exec`. Call first thing in `main`; does not return for them.
pub fn dispatch() {
    match std::env::args_os().next().as_deref().and_then(OsStr::to_str) {
        Some(crate::shim::ROLE) => crate::shim::main(),
        Some(crate::exec::ROLE) => crate::exec::main(),
        _ => {}
    }
}

/// Everything the child needs, allocated.
struct Plan<'a> {
    spawn: &'a Spawn<'a>,
    arguments: CStringArray,
    environment: CStringArray,
    program: Program,
    enter: Enter,
    null: Option<OwnedFd>,
    /// Where descriptors wait for their final numbers, above all of them.
    staging: RawFd,
}

enum Enter {
    Nothing,
    Join(OwnedFd),
    /// The lines of `uid_map` and `gid_map`, which an ordinary user may write for one ID.
    NewSingle(String, String),
    /// Somebody outside writes the map when asked over the socket.
    NewFull,
}

impl<'a> Plan<'a> {
    fn new(spawn: &'a Spawn<'a>) -> Result<Self, Error> {
        let failed =
            |source: io::Error| Error::Role { role: spawn.role.to_owned(), step: STEP_PREPARE, source };
        let null_byte = || failed(io::Error::new(io::ErrorKind::InvalidInput, "a null byte in an argument"));
        let role = OsString::from(spawn.role);
        let enter = Enter::new(&spawn.user_namespace)?;
        Ok(Plan {
            spawn,
            arguments: CStringArray::new(std::iter::once(&role).chain(&spawn.arguments))
                .ok_or_else(null_byte)?,
            environment: spawn.environment_block().ok_or_else(null_byte)?,
            program: Program::find(spawn, &enter).map_err(failed)?,
            enter,
            null: spawn.log.is_some().then(open_null).transpose().map_err(failed)?,
            staging: spawn.descriptors.iter().map(|(number, _)| *number).max().unwrap_or(2).max(15) + 1,
        })
    }

    fn error(&self, step: &'static str, source: io::Error) -> Error {
        Error::Role { role: self.spawn.role.to_owned(), step, source }
    }

    fn socket_pair(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| self.error(STEP_PREPARE, e.into()))
    }

    /// The parent's part: writes the map when asked, until the child has executed the role (which closes the socket).
    fn attend(&self, socket: &OwnedFd, pid: i32) -> Result<(), Error> {
        loop {
            let mut message = [0_u8; 5];
            match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut message)) {
                Ok(0) => return Ok(()),
                Ok(1) => {
                    let UserNamespace::New(IdMap::Full(full)) = &self.spawn.user_namespace else {
                        return Err(Error::Vanished { process: "the new process" });
                    };
                    write_map(full, pid)?;
                    let _ = rustix::io::write(socket, &[0]);
                }
                Ok(5) => {
                    let [step, errno @ ..] = message;
                    let source = io::Error::from_raw_os_error(i32::from_le_bytes(errno));
                    return Err(self.failure(step, source));
                }
                _ => return Err(Error::Vanished { process: "the new process" }),
            }
        }
    }

    /// Becomes the role; returns the step that failed. Allocates nothing.
    fn run(&self, socket: &OwnedFd) -> (u8, io::Error) {
        let error = match self.steps(socket) {
            Err(error) => error,
            Ok(program) => {
                (STEP_EXECUTE, sys::execute_fd(program.as_fd(), &self.arguments, &self.environment))
            }
        };
        let index = STEPS.iter().position(|step| *step == error.0).unwrap_or(0);
        (u8::try_from(index).unwrap_or(0), error.1)
    }

    fn steps(&self, socket: &OwnedFd) -> Result<OwnedFd, (&'static str, io::Error)> {
        self.enter.run(socket)?;
        let staged = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, self.staging);
        let program = match &self.program {
            Program::AsItIs(program) => staged(program),
            Program::Clone(path, identity) => clone_read_only(path, *identity).and_then(|fd| staged(&fd)),
        };
        let program = program.map_err(|e| (STEP_EXECUTE, e.into()))?;
        self.streams().map_err(|e| (STEP_STREAMS, e))?;
        Ok(program)
    }

    /// Gives each descriptor its number; all others are closed by `execve`.
    fn streams(&self) -> io::Result<()> {
        if let (Some(null), Some(log)) = (&self.null, self.spawn.log) {
            rustix::process::setsid()?;
            let log = rustix::io::fcntl_dupfd_cloexec(log, self.staging)?;
            sys::duplicate_to(null.as_raw_fd(), 0)?;
            sys::duplicate_to(log.as_raw_fd(), 1)?;
            sys::duplicate_to(log.as_raw_fd(), 2)?;
        }
        // First out of the way: one's number may be another's place.
        let mut waiting = [-1; MOST_DESCRIPTORS];
        for (slot, (_, fd)) in waiting.iter_mut().zip(&self.spawn.descriptors) {
            *slot = rustix::io::fcntl_dupfd_cloexec(fd, self.staging)?.into_raw_fd();
        }
        sys::close_from(3, false)?;
        for (fd, (number, _)) in waiting.iter().zip(&self.spawn.descriptors) {
            sys::duplicate_to(*fd, *number)?;
        }
        Ok(())
    }

    fn failure(&self, step: u8, source: io::Error) -> Error {
        let pid = if let UserNamespace::Join(pid) = self.spawn.user_namespace { pid } else { 0 };
        match STEPS.get(usize::from(step)).copied().unwrap_or(STEP_PREPARE) {
            STEP_USER_NAMESPACE => Error::UserNamespace(source),
            STEP_MAP => Error::IdMap(source),
            STEP_JOIN => Error::JoinUserNamespace { pid, source },
            step => self.error(step, source),
        }
    }
}

impl Enter {
    fn new(namespace: &UserNamespace<'_>) -> Result<Self, Error> {
        Ok(match namespace {
            UserNamespace::Inherit => Enter::Nothing,
            UserNamespace::Join(pid) => match namespace_to_join(*pid) {
                Ok(Some(fd)) => Enter::Join(fd),
                Ok(None) => Enter::Nothing,
                Err(source) => return Err(Error::JoinUserNamespace { pid: *pid, source }),
            },
            UserNamespace::New(IdMap::Single { .. }) => Enter::NewSingle(
                format!("0 {} 1\n", rustix::process::geteuid().as_raw()),
                format!("0 {} 1\n", rustix::process::getegid().as_raw()),
            ),
            UserNamespace::New(IdMap::Full(_)) => Enter::NewFull,
        })
    }

    /// In the process that becomes the role. Allocates nothing.
    fn run(&self, socket: &OwnedFd) -> Result<(), (&'static str, io::Error)> {
        match self {
            Enter::Nothing => return Ok(()),
            Enter::Join(namespace) => {
                setns(namespace, CloneFlags::CLONE_NEWUSER).map_err(|e| (STEP_JOIN, e.into()))?;
                unshare(CloneFlags::CLONE_NEWNS).map_err(|e| (STEP_MOUNTS, e.into()))?;
            }
            Enter::NewSingle(uid_map, gid_map) => {
                new_namespaces()?;
                let write = |path: &CStr, text: &str| -> io::Result<()> {
                    let file =
                        rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                    rustix::io::write(&file, text.as_bytes())?;
                    Ok(())
                };
                // Without newgidmap, groups must not be given up: a group can be what denies access (user_namespaces(7)).
                write(c"/proc/self/setgroups", "deny").map_err(|e| (STEP_MAP, e))?;
                write(c"/proc/self/uid_map", uid_map).map_err(|e| (STEP_MAP, e))?;
                write(c"/proc/self/gid_map", gid_map).map_err(|e| (STEP_MAP, e))?;
            }
            Enter::NewFull => {
                new_namespaces()?;
                let mut reply = [0_u8; 1];
                let asked = rustix::io::write(socket, &[1]);
                match asked.and_then(|_| rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut reply))) {
                    Ok(1) => {}
                    Ok(_) => return Err((STEP_MAP, io::Error::from_raw_os_error(nix::libc::EPERM))),
                    Err(e) => return Err((STEP_MAP, e.into())),
                }
            }
        }
        Ok(())
    }
}

/// The user namespace comes first, whatever the order of the flags: it owns the other.
fn new_namespaces() -> Result<(), (&'static str, io::Error)> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| (STEP_USER_NAMESPACE, e.into()))
}

/// Has the maps of `pid` written, both at once.
fn write_map(full: &Full, pid: i32) -> Result<(), Error> {
    let Some((uid_helper, gid_helper)) = &full.helpers else {
        for (file, ranges) in [("uid_map", &full.uids), ("gid_map", &full.gids)] {
            std::fs::write(format!("/proc/{pid}/{file}"), IdMap::lines(ranges)).map_err(Error::IdMap)?;
        }
        return Ok(());
    };
    let start = |program: &PathBuf, ranges: &[Range]| {
        let numbers = ranges.iter().flat_map(|r| [r.inside, r.outside, r.count]).map(|n| n.to_string());
        Command::new(program)
            .arg(pid.to_string())
            .args(numbers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
    };
    let running = [(uid_helper, start(uid_helper, &full.uids)), (gid_helper, start(gid_helper, &full.gids))];
    let mut result = Ok(());
    for (program, child) in running {
        if !child.and_then(|mut child| child.wait()).is_ok_and(|status| status.success()) {
            result = Err(Error::IdMapHelper { program: program.clone() });
        }
    }
    result
}

/// The user namespace of `pid`; none when it is ours.
fn namespace_to_join(pid: i32) -> io::Result<Option<OwnedFd>> {
    let open = |path: String| rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let theirs = open(format!("/proc/{pid}/ns/user"))?;
    let same = identity(&theirs)? == identity(&open("/proc/self/ns/user".to_owned())?)?;
    Ok((!same).then_some(theirs))
}

fn open_null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Where the role is executed from.
enum Program {
    /// It lies on a read-only mount or in sealed memory.
    AsItIs(OwnedFd),
    /// To be cloned in the child, which has the privilege: path, device and inode.
    Clone(CString, (u64, u64)),
}

impl Program {
    fn find(spawn: &Spawn<'_>, enter: &Enter) -> io::Result<Self> {
        let own = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(Program::AsItIs(own));
        }
        let sealed = SealFlags::WRITE | SealFlags::SEAL;
        let file = File::open("/proc/self/exe")?;
        if rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(sealed)) {
            return Ok(Program::AsItIs(own));
        }
        // The mount behind /proc/self/exe is in the caller's mount namespace and cannot be cloned from another; the path
        // leads to its copy in the new one. A program that was deleted or moved meanwhile has no path any more.
        let identity = identity(&own)?;
        let path = rustix::fs::readlink("/proc/self/exe", Vec::new())?;
        let found = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let reachable = found.is_ok_and(|fd| self::identity(&fd) == Ok(identity));
        if reachable && !matches!(enter, Enter::Nothing) && can_set_mount_attributes() {
            return Ok(Program::Clone(path, identity));
        }
        copy_to_memory(file, spawn.program_length).map(Program::AsItIs)
    }
}

fn identity(fd: &OwnedFd) -> rustix::io::Result<(u64, u64)> {
    // The width of both differs between machines.
    #[allow(clippy::useless_conversion, reason = "32-bit machines have narrower fields")]
    rustix::fs::fstat(fd).map(|status| (u64::from(status.st_dev), u64::from(status.st_ino)))
}

/// mount_setattr(2) came with Linux 5.12; a structure of wishes that cannot be granted tells without side effects.
fn can_set_mount_attributes() -> bool {
    let impossible = MountAttributes { set: u64::MAX, ..Default::default() };
    !sys::set_mount_attributes(CWD, false, &impossible)
        .is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENOSYS))
}

fn clone_read_only(path: &CStr, expected: (u64, u64)) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, path, flags)?;
    if identity(&tree)? != expected {
        return Err(rustix::io::Errno::STALE);
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let read_only = MountAttributes { set: MOUNT_ATTR_RDONLY, ..Default::default() };
    sys::set_mount_attributes(&tree, false, &read_only)
        .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::INVAL))?;
    Ok(tree)
}

/// A sealed copy of the program (without its payload), for kernels that cannot change a mount by descriptor.
fn copy_to_memory(own: File, length: Option<u64>) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create(c"dpack", flags)?);
    io::copy(&mut own.take(length.unwrap_or(u64::MAX)), &mut copy)?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(copy.into())
}
