//! Standard streams for a command with an SELinux label. At `execve` the kernel takes away what the label may not use, such as a
//! file of the user's that the output goes to. So such a stream is a pipe of ours, which the policy lets containers use.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::compat::pidfd;
use crate::process::Streams;
use crate::role::Child;
use crate::spec::Process;
use crate::{selinux, sys};

/// What the caller's streams are carried by. None where nothing has to be.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    outputs: Vec<Output>,
    /// Reads the caller's input.
    feeder: Option<Child>,
}

#[derive(Debug)]
struct Output {
    pipe: OwnedFd,
    errors: bool,
}

impl Relays {
    /// Puts pipes in the place of the caller's streams where that is needed. Before the container is joined: children of ours
    /// are in its PID namespace afterwards.
    pub(crate) fn around(process: &Process, streams: &mut Streams) -> io::Result<Self> {
        let mut relays = Relays::default();
        if process.terminal || process.selinux_label.as_deref().is_none_or(str::is_empty) {
            return Ok(relays);
        }
        let own = selinux::own_label();
        let needed = |stream: &BorrowedFd<'_>| !is_usable(stream, own.as_deref());
        for (errors, stream) in [(false, rustix::stdio::stdout()), (true, rustix::stdio::stderr())] {
            let place = if errors { &mut streams.errors } else { &mut streams.output };
            if place.is_none() && needed(&stream) {
                let (pipe, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&pipe, true)?;
                *place = Some(theirs);
                streams.own = true;
                relays.outputs.push(Output { pipe, errors });
            }
        }
        if streams.input.is_none() && needed(&rustix::stdio::stdin()) {
            let (theirs, pipe) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            match sys::fork()? {
                None => {
                    // Whoever else has an end of a pipe must not be waited for because of us.
                    drop((theirs, std::mem::take(streams), relays));
                    feed(&pipe)
                }
                Some(pid) => relays.feeder = Some(Child::of(pid)?),
            }
            streams.input = Some(theirs);
        }
        Ok(relays)
    }

    /// For `poll`.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = &OwnedFd> {
        self.outputs.iter().map(|output| &output.pipe)
    }

    /// Carries what is there; whether there was anything.
    pub(crate) fn carry(&mut self) -> bool {
        let mut some = false;
        self.outputs.retain(|output| {
            let mut buffer = [0_u8; 16 * 1024];
            match rustix::io::read(&output.pipe, &mut buffer) {
                Ok(length @ 1..) => {
                    some = true;
                    let target =
                        if output.errors { rustix::stdio::stderr() } else { rustix::stdio::stdout() };
                    write(target, &buffer[..length])
                }
                Err(Errno::AGAIN | Errno::INTR) => true,
                Ok(_) | Err(_) => false,
            }
        });
        some
    }

    /// The command has ended: what it wrote is in the pipes.
    pub(crate) fn finish(mut self) {
        while self.carry() {}
        if let Some(feeder) = &self.feeder {
            let _ = pidfd::signal(&feeder.pidfd, nix::libc::SIGKILL);
            let _ = feeder.wait();
        }
    }
}

/// A terminal and `/dev/null` are open to containers by the policy; a pipe of somebody who is what we are is as good as ours.
fn is_usable(stream: &BorrowedFd<'_>, own: Option<&str>) -> bool {
    let Ok(status) = rustix::fs::fstat(stream) else { return true };
    match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice => true,
        FileType::Fifo => own.is_some() && selinux::label_of(stream).as_deref() == own,
        _ => false,
    }
}

/// A child that carries the caller's input until either end is closed.
fn feed(pipe: &OwnedFd) -> ! {
    let bound = set_parent_process_death_signal(Some(Signal::KILL));
    let mut buffer = [0_u8; 16 * 1024];
    while bound.is_ok() {
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(length @ 1..) if write(pipe.as_fd(), &buffer[..length]) => {}
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    sys::exit_now(0)
}

/// All of it; whether somebody takes it still.
fn write(target: BorrowedFd<'_>, mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        match rustix::io::write(target, rest) {
            Ok(length) => rest = &rest[length..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return false,
        }
    }
    true
}
