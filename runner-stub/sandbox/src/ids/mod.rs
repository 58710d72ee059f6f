//! Users and owners in a user namespace that has only one ID.
//!
//! Without `newuidmap` everything in a container belongs to one user, and there is nobody to become. Images do not know:
//! redis gives its data to `redis`, becomes `redis`, and starts its script again *because it is not root any more*; postgres
//! refuses to run as root and looks whose its data is. So every system call that an ID goes through is answered by a process
//! of ours, the keeper, which seccomp lets be asked (seccomp_unotify(2)):
//!
//! ```text
//! container's process ── setuid(999) ──> kernel ── question ──> keeper: notes it at the thread
//!                     ── getuid() ─────> kernel ── question ──> keeper: 999
//!                     ── chown(f) ─────> kernel ── question ──> keeper: notes it at the file
//!                     ── stat(f) ──────> kernel ── question ──> keeper: looks itself, writes the noted owner
//! ```
//!
//! It is shown, not enforced: **no decision about security rests on it**. Each process of the container could read and write
//! what any other can, whatever user it believes to be. What it saw may have changed when the kernel looks again.
//!
//! A file without a note is shown to root as root's, and to another user as its own when it was made in the container: who
//! makes a file is not asked, because every `open` would have to be.
//!
//! Not shown, because the kernel tells it by other ways: `/proc/PID/status`, the auxiliary vector, `SO_PEERCRED`, `fstat`.
//! Set-user-ID programs of an image change nobody.

mod caller;
mod calls;
mod filter;
mod identity;
mod keeper;
mod owners;
mod table;

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::channel::{Channel, Message};
use crate::spec::User;
use crate::sys::{self, notify};
use identity::{Identity, Ids};

pub(crate) use table::BASE_SLACK;

/// The record of an owner, which containers can write: what is read is written as it was read. Panics when it is not.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn owner(bytes: &[u8]) {
    if let Some(owner) = owners::decode(bytes) {
        assert_eq!(owners::decode(&owners::encode(owner)), Some(owner));
    }
}

/// Seconds and nanoseconds.
pub(crate) type Birth = (i64, u32);

/// What a keeper is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setting {
    pub(crate) user: User,
    /// What did not change since then came with the image.
    pub(crate) birth: Option<Birth>,
}

impl Setting {
    fn identity(&self) -> Identity {
        Identity {
            user: Ids::all(self.user.uid),
            group: Ids::all(self.user.gid),
            groups: self.user.additional_gids.clone(),
            keeps_capabilities: false,
        }
    }
}

/// Whether users and owners can be shown; else changing them succeeds without effect.
pub fn are_shown() -> bool {
    // To let the kernel go on with a call that was asked about takes Linux 5.5.
    const KERNEL: (u32, u32) = (5, 5);
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= KERNEL && notify::can_notify()
}

/// When a container's own directory was made; none on file systems that do not say.
pub(crate) fn birth(directory: &Path) -> Option<Birth> {
    let data = rustix::fs::statx(CWD, directory, AtFlags::empty(), StatxFlags::BTIME).ok()?;
    let known = StatxFlags::from_bits_retain(data.stx_mask).contains(StatxFlags::BTIME);
    known.then_some((data.stx_btime.tv_sec, data.stx_btime.tv_nsec))
}

/// The way to a keeper that has nothing to keep yet.
#[derive(Debug)]
pub(crate) struct Link(Channel);

/// Forks a keeper. To be called outside of the container's PID namespace; the process has to be single-threaded.
pub(crate) fn keeper(setting: &Setting) -> Result<Link, Error> {
    let (ours, theirs) = Channel::pair()?;
    let failed = |source| Error::System { step: "fork the keeper of IDs", source };
    match sys::fork().map_err(failed)? {
        None => {
            drop(ours);
            keeper::main(theirs, setting)
        }
        Some(_) => Ok(Link(ours)),
    }
}

/// From here on this process and its children are shown what they ask for. With no keeper, or where another program has
/// asked for the questions already, changes succeed without effect.
pub(crate) fn install(link: Option<&Link>) -> std::io::Result<()> {
    let Some(Link(channel)) = link else { return sys::install_filter(&filter::pretending(), 0) };
    nix::sys::prctl::set_timerslack(BASE_SLACK.into())?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let listener = match notify::install_asking_filter(&filter::asking()) {
        Ok(listener) => listener,
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
            return sys::install_filter(&filter::pretending(), 0);
        }
        Err(error) => return Err(error),
    };
    let send =
        |message: &Message, fd: &OwnedFd| channel.send(message, Some(fd)).map_err(std::io::Error::other);
    send(&Message::Root, &root)?;
    send(&Message::Listener, &listener)
}
