//! Pseudo-terminals: made inside the container, their masters held outside; the caller's own terminal in raw mode.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::Error;
use crate::process::Streams;

fn failed(step: &'static str) -> impl Fn(Errno) -> Error {
    move |source| Error::Terminal { step, source: source.into() }
}

/// Makes a pseudo-terminal of the container's own devpts. The slave is opened by its master, not by a path that the
/// container could have changed.
pub(crate) fn open() -> Result<(Streams, OwnedFd), Error> {
    let step = "open /dev/pts/ptmx";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).map_err(failed(step))?;
    let status = rustix::fs::fstat(&master).map_err(failed(step))?;
    let device = (rustix::fs::major(status.st_rdev as _), rustix::fs::minor(status.st_rdev as _));
    if FileType::from_raw_mode(status.st_mode) != FileType::CharacterDevice || device != (5, 2) {
        return Err(Error::Terminal { step, source: io::Error::other("it is not a terminal multiplexer") });
    }
    rustix::pty::unlockpt(&master).map_err(failed("unlock"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(failed("open the other end"))?;
    let clone = || slave.try_clone().map_err(|source| Error::Terminal { step: "duplicate", source });
    let streams = Streams {
        input: Some(clone()?),
        output: Some(clone()?),
        errors: Some(slave),
        own: true,
        terminal: true,
    };
    Ok((streams, master))
}

/// `/dev/console` of the container.
pub(crate) fn bind_console(streams: &Streams) -> Result<(), Error> {
    match &streams.errors {
        Some(terminal) => crate::rootfs::bind_console(terminal)
            .map_err(|source| Error::Device { path: "/dev/console".to_owned(), source }),
        None => Ok(()),
    }
}

/// The caller's terminal passes each key on as it is, until this is dropped. Nothing when input is not a terminal.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Option<Termios>,
}

impl RawMode {
    pub(crate) fn enter() -> Self {
        let input = rustix::stdio::stdin();
        let before = tcgetattr(input).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(input, OptionalActions::Flush, &raw);
        }
        RawMode { before }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Gives the pseudo-terminal a size; none is an error nobody could do anything about.
pub(crate) fn set_size(master: &OwnedFd, size: crate::spec::ConsoleSize) {
    let size =
        rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = tcsetwinsize(master, size);
}

/// Gives the pseudo-terminal the size of the caller's window.
pub(crate) fn copy_size(master: &OwnedFd) {
    for stream in [rustix::stdio::stdout(), rustix::stdio::stdin()] {
        if let Ok(size) = tcgetwinsize(stream) {
            let _ = tcsetwinsize(master, size);
            return;
        }
    }
}
