//! Waits for a process in the foreground: passes signals on, carries a pseudo-terminal's bytes, follows the window's size.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::Error;
use crate::compat::pidfd;
use crate::relay::Relays;
use crate::role::Child;
use crate::terminal;

/// Ctrl-D, for a terminal whose input has ended.
const END_OF_INPUT: u8 = 4;

/// Signals that come to this process and are meant for another.
#[derive(Debug)]
pub(crate) struct Foreground {
    signals: SignalFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit status, or 128 + signal.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
}

impl Foreground {
    /// Blocks them. Before the fork, so that none is lost.
    pub(crate) fn new() -> Result<Self, Error> {
        let failed = |e: nix::Error| Error::System { step: "block signals", source: e.into() };
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Foreground { signals: SignalFd::with_flags(&set, flags).map_err(failed)? })
    }

    /// Waits for the child's end. `master`: its pseudo-terminal.
    pub(crate) fn attend(
        &self,
        child: &Child,
        master: Option<OwnedFd>,
        mut relays: Relays,
    ) -> Result<Ended, Error> {
        let mut carrier = match master {
            Some(master) => Some(Carrier::new(master)?),
            None => None,
        };
        loop {
            let (input, output) = self.poll(carrier.as_ref(), &relays)?;
            relays.carry();
            if self.pass_on(child, carrier.as_ref())
                && let Some(ended) = ended(child)?
            {
                if let Some(carrier) = &mut carrier {
                    while carrier.output() {}
                }
                relays.finish();
                return Ok(ended);
            }
            if let Some(carrier) = &mut carrier {
                if input {
                    carrier.input();
                }
                if output {
                    carrier.output();
                }
            }
        }
    }

    /// Whether there is input to carry, and whether the pseudo-terminal has or takes something.
    fn poll(&self, carrier: Option<&Carrier>, relays: &Relays) -> Result<(bool, bool), Error> {
        let input = rustix::stdio::stdin();
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(relays.pipes().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        if let Some(carrier) = carrier {
            let wanted = if carrier.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            if !carrier.ended {
                fds.push(PollFd::new(&carrier.master, PollFlags::IN | wanted));
            }
            if carrier.pending.is_empty() && carrier.input_open {
                fds.push(PollFd::new(&input, PollFlags::IN));
            }
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::System { step: "wait for the process", source: e.into() }),
        }
        let ready = |fd: rustix::fd::BorrowedFd<'_>| {
            use rustix::fd::AsRawFd;
            fds.iter().any(|entry| entry.as_fd().as_raw_fd() == fd.as_raw_fd() && !entry.revents().is_empty())
        };
        Ok((ready(input), carrier.is_some_and(|carrier| ready(carrier.master.as_fd()))))
    }

    /// Whether a child may have ended.
    fn pass_on(&self, child: &Child, carrier: Option<&Carrier>) -> bool {
        let mut news = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match info.ssi_signo.cast_signed() {
                nix::libc::SIGCHLD => news = true,
                nix::libc::SIGWINCH => {
                    if let Some(carrier) = carrier {
                        terminal::copy_size(&carrier.master);
                    }
                }
                number => {
                    let _ = pidfd::signal(&child.pidfd, number);
                }
            }
        }
        news
    }
}

fn ended(child: &Child) -> Result<Option<Ended>, Error> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let failed = |e: Errno| Error::System { step: "wait for the process", source: e.into() };
    let id = Pid::from_raw(child.pid).ok_or_else(|| failed(Errno::INVAL))?;
    let status = rustix::process::waitid(WaitId::Pid(id), options).map_err(failed)?;
    Ok(status.map(|status| match status.terminating_signal() {
        Some(signal) => Ended { code: 128 + signal, signal: Some(signal) },
        None => Ended { code: status.exit_status().unwrap_or(0), signal: None },
    }))
}

/// Between the caller's streams and the pseudo-terminal. Input that the terminal does not take yet is kept, and no more is
/// read meanwhile: a command that reads nothing must not keep its output from being shown.
struct Carrier {
    master: OwnedFd,
    pending: Vec<u8>,
    input_open: bool,
    ended: bool,
}

impl Carrier {
    fn new(master: OwnedFd) -> Result<Self, Error> {
        rustix::io::ioctl_fionbio(&master, true)
            .map_err(|e| Error::Terminal { step: "set up the master", source: e.into() })?;
        Ok(Carrier { master, pending: Vec::new(), input_open: true, ended: false })
    }

    fn input(&mut self) {
        let mut buffer = [0_u8; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::IO) => {
                self.input_open = false;
                self.pending.push(END_OF_INPUT);
            }
            Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.input_open = false,
        }
        self.flush();
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
    }

    /// Carries what is there in both directions; whether there was output.
    fn output(&mut self) -> bool {
        self.flush();
        let mut buffer = [0_u8; 16 * 1024];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match rustix::io::write(rustix::stdio::stdout(), rest) {
                        Ok(length) => rest = &rest[length..],
                        Err(Errno::INTR | Errno::AGAIN) => {}
                        Err(_) => break,
                    }
                }
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: nobody holds the other end any more.
            Err(_) => self.ended = true,
        }
        false
    }
}
