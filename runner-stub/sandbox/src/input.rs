//! Standard input that stays open (`stdin_open`): a FIFO in the container's folder. Whoever wants to say something to the
//! container writes to it, now or never; nobody's leaving closes it, because the shim holds it open.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::{Error, selinux};

/// Name of the FIFO.
pub const NAME: &str = "stdin";

/// The shim's end.
pub(crate) struct Input {
    fifo: OwnedFd,
    /// What a pseudo-terminal has not taken yet.
    pending: Vec<u8>,
}

/// Makes the FIFO, with the SELinux label of the container's files where they have one: the end for the container, and ours.
pub(crate) fn open(container_dir: &Path, label: Option<&str>) -> Result<(OwnedFd, Input), Error> {
    let path = container_dir.join(NAME);
    let failed = |source: Errno| Error::Write { path: path.clone(), source: source.into() };
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fifo =
        rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | flags, Mode::empty()).map_err(failed)?;
    let theirs = rustix::fs::open(&path, OFlags::RDONLY | flags, Mode::empty()).map_err(failed)?;
    if let Some(label) = label {
        selinux::set_label(&theirs, label)
            .map_err(|source| Error::Label { label: label.to_owned(), source })?;
    }
    Ok((theirs, Input { fifo, pending: Vec::new() }))
}

impl Input {
    /// For `poll`; none while the pseudo-terminal takes nothing.
    pub(crate) fn source(&self) -> Option<&OwnedFd> {
        self.pending.is_empty().then_some(&self.fifo)
    }

    /// Something waits for the pseudo-terminal.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Carries what is there to the pseudo-terminal.
    pub(crate) fn carry(&mut self, terminal: &OwnedFd) {
        if self.pending.is_empty() {
            let mut buffer = [0_u8; 4096];
            if let Ok(length) = rustix::io::read(&self.fifo, &mut buffer) {
                self.pending.extend_from_slice(&buffer[..length]);
            }
        }
        while !self.pending.is_empty() {
            match rustix::io::write(terminal, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
    }
}
