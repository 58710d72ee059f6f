//! Everything the child needs, allocated before the fork, and what it does until it is the role.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};

use super::enter::{Enter, write_map};
use super::program::{Program, clone_read_only};
use super::{STEP_JOIN, STEP_MAP, STEP_MOUNTS, STEP_USER_NAMESPACE, Spawn, UserNamespace};
use crate::Error;
use crate::idmap::IdMap;
use crate::sys::{self, CStringArray};

const STEP_STREAMS: &str = "set up the standard streams";
pub(super) const STEP_PREPARE: &str = "prepare";
const STEP_EXECUTE: &str = "execute this program";
const STEPS: [&str; 7] =
    [STEP_USER_NAMESPACE, STEP_MAP, STEP_JOIN, STEP_MOUNTS, STEP_STREAMS, STEP_PREPARE, STEP_EXECUTE];

/// More than any role is given.
const MOST_DESCRIPTORS: usize = 48;

/// Everything the child needs, allocated.
pub(super) struct Plan<'a> {
    spawn: &'a Spawn<'a>,
    arguments: CStringArray,
    environment: CStringArray,
    program: Program,
    enter: Enter,
    null: Option<OwnedFd>,
    /// Where descriptors wait for their final numbers, above all of them.
    staging: RawFd,
}

impl<'a> Plan<'a> {
    pub(super) fn new(spawn: &'a Spawn<'a>) -> Result<Self, Error> {
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
            program: Program::find(!matches!(enter, Enter::Nothing), spawn.program_length).map_err(failed)?,
            enter,
            null: spawn.log.is_some().then(open_null).transpose().map_err(failed)?,
            staging: spawn.descriptors.iter().map(|(number, _)| *number).max().unwrap_or(2).max(15) + 1,
        })
    }

    /// Whether somebody outside has to write the map.
    pub(super) fn needs_help(&self) -> bool {
        matches!(self.enter, Enter::NewFull)
    }

    /// Becomes the role; returns the step that failed. Allocates nothing.
    pub(super) fn run(&self, socket: &OwnedFd) -> (u8, io::Error) {
        let error = match self.steps(socket) {
            Err(error) => error,
            Ok(program) => {
                (STEP_EXECUTE, sys::execute_fd(program.as_fd(), &self.arguments, &self.environment))
            }
        };
        let index = STEPS.iter().position(|step| *step == error.0).unwrap_or(0);
        (u8::try_from(index).unwrap_or(0), error.1)
    }

    /// The child's part; says over the socket what failed.
    pub(super) fn run_or_exit(&self, socket: &OwnedFd) -> ! {
        let (step, source) = self.run(socket);
        let errno = source.raw_os_error().unwrap_or(0).to_le_bytes();
        let _ = rustix::io::write(socket, &[step, errno[0], errno[1], errno[2], errno[3]]);
        sys::exit_now(125)
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
}

impl Spawn<'_> {
    pub(super) fn error(&self, step: &'static str, source: io::Error) -> Error {
        Error::Role { role: self.role.to_owned(), step, source }
    }

    pub(super) fn socket_pair(&self) -> Result<(OwnedFd, OwnedFd), Error> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| self.error(STEP_PREPARE, e.into()))
    }

    /// The parent's part: writes the map when asked, until the child has executed the role (which closes the socket).
    pub(super) fn attend(&self, socket: &OwnedFd, pid: i32) -> Result<(), Error> {
        loop {
            let mut message = [0_u8; 5];
            match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut message)) {
                Ok(0) => return Ok(()),
                Ok(1) => {
                    let UserNamespace::New(IdMap::Full(full)) = &self.user_namespace else {
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

    pub(super) fn failure(&self, step: u8, source: io::Error) -> Error {
        let pid = if let UserNamespace::Join(pid) = self.user_namespace { pid } else { 0 };
        match STEPS.get(usize::from(step)).copied().unwrap_or(STEP_PREPARE) {
            STEP_USER_NAMESPACE => Error::UserNamespace(source),
            STEP_MAP => Error::IdMap(source),
            STEP_JOIN => Error::JoinUserNamespace { pid, source },
            step => self.error(step, source),
        }
    }
}

fn open_null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}
