//! Answers each call that an ID goes through, for all processes of one container.
//!
//! The keeper's root is the container's, so paths mean to it what they mean there; but it is a process of the host's PID
//! namespace that nobody inside can see. It has two capabilities that count only inside the project's user namespace
//! (reading a caller, marking its timer slack) and, while it works for root, those of root over modes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::caller::{Caller, Sources, errno};
use super::calls::{self, Call, Width};
use super::identity::{Identity, Ids};
use super::owners::{Owner, Owners};
use super::table::Table;
use super::{Birth, Setting};
use crate::channel::{Channel, Message};
use crate::sys::notify::{self, Answer, Notification, RawStat, STATX_OWNER};
use crate::{Error, sys};

const CHANNEL: i32 = 3;
/// setgroups(2), `NGROUPS_MAX`.
const MOST_GROUPS: u32 = 65_536;
const CHOWN: u32 = 0;
const SETGID: u32 = 6;
const SETUID: u32 = 7;

/// In a process of its own, which has no more than its end of the channel. Ends with the last process of the container.
pub(super) fn main(channel: Channel, setting: &Setting) -> ! {
    let status = match prepare(channel, setting) {
        Ok(Some(mut keeper)) => {
            keeper.serve();
            0
        }
        Ok(None) => 0,
        Err(_) => 125,
    };
    sys::exit_now(status)
}

struct Keeper {
    sources: Rc<Sources>,
    table: Table,
    owners: Owners,
    root: Place,
    /// Somebody may have another root than the container's.
    roots_differ: bool,
    birth: Option<Birth>,
    as_root: bool,
}

/// A directory's mount and inode.
type Place = (u64, u64);

/// None when the container was not started after all.
fn prepare(channel: Channel, setting: &Setting) -> Result<Option<Keeper>, Error> {
    let failed = |source: io::Error| Error::System { step: "prepare the keeper of IDs", source };
    let system = |e: rustix::io::Errno| failed(e.into());
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"dpack-ids");
    let _ = SigSet::all().thread_block();
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    for number in 0..3 {
        sys::duplicate_to(std::os::fd::AsRawFd::as_raw_fd(&null), number).map_err(failed)?;
    }
    sys::duplicate_to(std::os::fd::AsRawFd::as_raw_fd(&channel.fd()), CHANNEL).map_err(failed)?;
    // What the caller has open is not ours to hold: a pipe's reader waits for its last writer.
    std::mem::forget((channel, null));
    sys::close_from(CHANNEL + 1, true).map_err(failed)?;
    let channel =
        Channel::from_fd(sys::inherited(CHANNEL).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?);

    let place = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let process = rustix::fs::open("/proc", place, Mode::empty()).map_err(system)?;
    let own_descriptors = rustix::fs::open("/proc/self/fd", place, Mode::empty()).map_err(system)?;
    let (Some((Message::Root, Some(root))), Some((Message::Listener, Some(listener)))) =
        (channel.receive()?, channel.receive()?)
    else {
        return Ok(None);
    };
    rustix::process::fchdir(&root).map_err(system)?;
    rustix::process::chroot(".").map_err(system)?;
    rustix::process::fchdir(&own_descriptors).map_err(system)?;
    drop(own_descriptors);
    let root = identify(&root).map_err(|e| failed(e.into()))?;
    let mut keeper = Keeper {
        sources: Rc::new(Sources { process, listener }),
        table: Table::new(setting.identity()),
        owners: Owners::default(),
        root,
        roots_differ: false,
        birth: setting.birth,
        as_root: true,
    };
    keeper.work_as_root(false).map_err(failed)?;
    Ok(Some(keeper))
}

impl Keeper {
    fn serve(&mut self) {
        loop {
            let mut fds = [PollFd::new(&self.sources.listener, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            let events = fds[0].revents();
            if events.contains(PollFlags::IN) {
                // Gone again: killed in between.
                let Ok(question) = notify::receive(self.sources.listener.as_fd()) else { continue };
                let answer = self.answer(&question).unwrap_or_else(Answer::Error);
                if notify::answer(self.sources.listener.as_fd(), &question, answer).is_err() {
                    return;
                }
            } else if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
                // Nobody has the filter any more (Linux 5.9).
                return;
            }
        }
    }

    fn answer(&mut self, question: &Notification) -> Result<Answer, Errno> {
        let Some((call, width)) = calls::find(question.architecture, question.number) else {
            return Ok(Answer::Proceed);
        };
        let sources = self.sources.clone();
        let caller = Caller { sources: &sources, notification: question };
        let identity = self.table.identity(&caller).clone();
        let ask = Question { caller, call, width, arguments: question.arguments };
        match call {
            Call::ChangeRoot => {
                self.roots_differ = true;
                Ok(Answer::Proceed)
            }
            Call::KeepCapabilities => self.keep_capabilities(&ask, identity, ask.arguments[1] == 1),
            Call::Execute => self.keep_capabilities(&ask, identity, false),
            Call::Stat | Call::LinkStat | Call::StatAt | Call::Statx => self.show(&ask, &identity),
            Call::Chown | Call::LinkChown | Call::DescriptorChown | Call::ChownAt => {
                self.chown(&ask, &identity)
            }
            _ => match ask.read(&identity) {
                Some(answer) => answer,
                None => {
                    let (new, value) = ask.change(&identity)?;
                    if new != identity {
                        self.table.assume(&caller, new)?;
                    }
                    Ok(Answer::Value(value))
                }
            },
        }
    }

    /// The kernel does what was asked; here it is only noted.
    fn keep_capabilities(
        &mut self,
        ask: &Question<'_>,
        identity: Identity,
        keep: bool,
    ) -> Result<Answer, Errno> {
        if identity.keeps_capabilities != keep {
            self.table.assume(&ask.caller, Identity { keeps_capabilities: keep, ..identity })?;
        }
        Ok(Answer::Proceed)
    }

    /// `stat` and its kin. What the kernel would say anyway, the kernel says.
    fn show(&mut self, ask: &Question<'_>, identity: &Identity) -> Result<Answer, Errno> {
        let (directory, path, buffer, flags) = ask.file();
        self.work_as_root(identity.user.file_system == 0).map_err(|_| Errno::EIO)?;
        let seen = || -> Result<Option<(OwnedFd, Owner)>, Errno> {
            if self.has_other_root(&ask.caller) {
                return Ok(None);
            }
            let path = ask.caller.path(path)?;
            let file = ask.caller.find(directory, &path, flags & NO_FOLLOW == 0)?;
            let owner = self.owner(&file, identity)?;
            Ok(owner.map(|owner| (file, owner)))
        };
        // An error is the kernel's to report, by its own order of checks.
        let Ok(Some((file, owner))) = seen() else { return Ok(Answer::Proceed) };
        let bytes = if ask.call == Call::Statx {
            const SYNC: u32 = 0x6000;
            let mask = ask.arguments[3] as u32;
            let mut bytes = notify::raw_statx(file.as_fd(), flags & SYNC, mask).map_err(io_errno)?;
            bytes[STATX_OWNER..STATX_OWNER + 4].copy_from_slice(&owner.0.to_ne_bytes());
            bytes[STATX_OWNER + 4..STATX_OWNER + 8].copy_from_slice(&owner.1.to_ne_bytes());
            bytes.to_vec()
        } else {
            RawStat::of(file.as_fd()).map_err(io_errno)?.owned_by(owner)
        };
        ask.caller.write(&[(buffer, &bytes)])?;
        Ok(Answer::Value(0))
    }

    /// Whose a file is to be shown as, when not as what the kernel says.
    fn owner(&self, file: &OwnedFd, identity: &Identity) -> Result<Option<Owner>, Errno> {
        if let Some(owner) = self.owners.of(file.as_fd()) {
            return Ok((owner != (0, 0)).then_some(owner));
        }
        if identity.user.effective == 0 && identity.group.effective == 0 {
            return Ok(None);
        }
        let mask = StatxFlags::UID | StatxFlags::CTIME | StatxFlags::MNT_ID;
        let data = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, mask).map_err(errno)?;
        let from_image = self.birth.is_some_and(|birth| {
            data.stx_mnt_id == self.root.0 && (data.stx_ctime.tv_sec, data.stx_ctime.tv_nsec) < birth
        });
        // Not of the user that everything in the container belongs to: a file of the device's.
        let foreign = data.stx_uid != 0;
        Ok((!from_image && !foreign).then_some((identity.user.effective, identity.group.effective)))
    }

    /// `chown` and its kin.
    fn chown(&mut self, ask: &Question<'_>, identity: &Identity) -> Result<Answer, Errno> {
        if self.has_other_root(&ask.caller) {
            return Ok(Answer::Value(0));
        }
        self.work_as_root(identity.user.file_system == 0).map_err(|_| Errno::EIO)?;
        let (at, ids) = match ask.call {
            Call::ChownAt => ((ask.arguments[0], ask.arguments[1], ask.arguments[4] as u32), [2, 3]),
            Call::LinkChown => ((HERE, ask.arguments[0], NO_FOLLOW), [1, 2]),
            Call::DescriptorChown => ((ask.arguments[0], 0, EMPTY_PATH), [1, 2]),
            _ => ((HERE, ask.arguments[0], 0), [1, 2]),
        };
        let (directory, path, flags) = at;
        let path = if ask.call == Call::DescriptorChown { Vec::new() } else { ask.caller.path(path)? };
        let file = if path.is_empty() && flags & EMPTY_PATH != 0 {
            ask.caller.descriptor(directory)?
        } else {
            ask.caller.find(directory, &path, flags & NO_FOLLOW == 0)?
        };
        let [uid, gid] = ids.map(|index| ask.id(index));
        let old = match self.owners.of(file.as_fd()) {
            Some(owner) => owner,
            None => self.owner(&file, identity)?.unwrap_or((0, 0)),
        };
        let keep = |id: u32, old: u32| if id == u32::MAX { old } else { id };
        let new = (keep(uid, old.0), keep(gid, old.1));
        let own = old.0 == identity.user.file_system
            && new.0 == old.0
            && (new.1 == old.1 || identity.has_group(new.1));
        let privileged = || identity.user.effective == 0 && ask.caller.has_capability(CHOWN);
        if !own && !privileged() {
            return Err(Errno::EPERM);
        }
        self.owners.record(file.as_fd(), new)?;
        Ok(Answer::Value(0))
    }

    fn has_other_root(&self, caller: &Caller<'_>) -> bool {
        self.roots_differ
            && !caller.root().and_then(|root| identify(&root)).is_ok_and(|root| root == self.root)
    }

    /// With or without root's power over modes, as the caller has it or not.
    fn work_as_root(&mut self, wanted: bool) -> io::Result<()> {
        if wanted == self.as_root {
            return Ok(());
        }
        let always = CapabilitySet::SYS_PTRACE | CapabilitySet::SYS_NICE;
        let permitted = always | CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let effective = if wanted { permitted } else { always };
        let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets)?;
        self.as_root = wanted;
        Ok(())
    }
}

const NO_FOLLOW: u32 = nix::libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
const EMPTY_PATH: u32 = nix::libc::AT_EMPTY_PATH.cast_unsigned();
const HERE: u64 = nix::libc::AT_FDCWD.cast_unsigned() as u64;

/// A call with its arguments.
struct Question<'a> {
    caller: Caller<'a>,
    call: Call,
    width: Width,
    arguments: [u64; 6],
}

impl Question<'_> {
    /// Directory, path, buffer, flags.
    fn file(&self) -> (u64, u64, u64, u32) {
        let a = self.arguments;
        match self.call {
            Call::Stat => (HERE, a[0], a[1], 0),
            Call::LinkStat => (HERE, a[0], a[1], NO_FOLLOW),
            Call::Statx => (a[0], a[1], a[4], a[2] as u32),
            _ => (a[0], a[1], a[2], a[3] as u32),
        }
    }

    /// An ID among the arguments. `-1` stays that.
    fn id(&self, index: usize) -> u32 {
        widen(self.width, self.arguments[index] as u32)
    }

    /// The calls that only ask.
    fn read(&self, identity: &Identity) -> Option<Result<Answer, Errno>> {
        let narrow = |id: u32| match self.width {
            Width::Bits16 if id > 0xffff => 65_534,
            _ => id,
        };
        let one = |id: u32| Some(Ok(Answer::Value(narrow(id))));
        match self.call {
            Call::GetUid => one(identity.user.real),
            Call::GetEffectiveUid => one(identity.user.effective),
            Call::GetGid => one(identity.group.real),
            Call::GetEffectiveGid => one(identity.group.effective),
            Call::GetResUid => Some(self.write_three(identity.user)),
            Call::GetResGid => Some(self.write_three(identity.group)),
            Call::GetGroups => Some(self.write_groups(&identity.groups)),
            _ => None,
        }
    }

    fn write_three(&self, ids: Ids) -> Result<Answer, Errno> {
        let bytes = [ids.real, ids.effective, ids.saved].map(|id| self.encode(&[id]));
        let parts = [0, 1, 2].map(|index| (self.arguments[index], bytes[index].as_slice()));
        self.caller.write(&parts).map(|()| Answer::Value(0))
    }

    fn write_groups(&self, groups: &[u32]) -> Result<Answer, Errno> {
        let room = self.arguments[0] as u32;
        let count = u32::try_from(groups.len()).map_err(|_| Errno::EINVAL)?;
        if room != 0 {
            if room < count || room > i32::MAX.cast_unsigned() {
                return Err(Errno::EINVAL);
            }
            self.caller.write(&[(self.arguments[1], &self.encode(groups))])?;
        }
        Ok(Answer::Value(count))
    }

    fn encode(&self, ids: &[u32]) -> Vec<u8> {
        match self.width {
            Width::Bits32 => ids.iter().flat_map(|id| id.to_ne_bytes()).collect(),
            Width::Bits16 => {
                ids.iter().flat_map(|id| u16::try_from(*id).unwrap_or(65_534).to_ne_bytes()).collect()
            }
        }
    }

    /// The calls that change who somebody is: the new identity, and what the call returns.
    fn change(&self, identity: &Identity) -> Result<(Identity, u32), Errno> {
        let privileged = |capability| {
            (identity.user.effective == 0 || identity.keeps_capabilities)
                && self.caller.has_capability(capability)
        };
        let mut new = identity.clone();
        let three = || [0, 1, 2].map(|index| self.id(index));
        let mut value = 0;
        match self.call {
            Call::SetUid => new.user = new.user.set(self.id(0), privileged(SETUID))?,
            Call::SetGid => new.group = new.group.set(self.id(0), privileged(SETGID))?,
            Call::SetReUid => new.user = new.user.set_two(self.id(0), self.id(1), privileged(SETUID))?,
            Call::SetReGid => new.group = new.group.set_two(self.id(0), self.id(1), privileged(SETGID))?,
            Call::SetResUid => new.user = new.user.set_three(three(), privileged(SETUID))?,
            Call::SetResGid => new.group = new.group.set_three(three(), privileged(SETGID))?,
            Call::SetFsUid => {
                value = new.user.file_system;
                new.user = new.user.set_file_system(self.id(0), privileged(SETUID));
            }
            Call::SetFsGid => {
                value = new.group.file_system;
                new.group = new.group.set_file_system(self.id(0), privileged(SETGID));
            }
            Call::SetGroups if !privileged(SETGID) => return Err(Errno::EPERM),
            Call::SetGroups => new.groups = self.groups()?,
            _ => return Err(Errno::ENOSYS),
        }
        Ok((new, value))
    }

    fn groups(&self) -> Result<Vec<u32>, Errno> {
        let count = self.arguments[0] as u32;
        if count > MOST_GROUPS {
            return Err(Errno::EINVAL);
        }
        let size = match self.width {
            Width::Bits16 => 2,
            Width::Bits32 => 4,
        };
        let bytes = self.caller.bytes(self.arguments[1], count as usize * size)?;
        let number = |bytes: &[u8]| match *bytes {
            [a, b] => u32::from(u16::from_ne_bytes([a, b])),
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
            _ => 0,
        };
        let mut groups: Vec<u32> = bytes.chunks_exact(size).map(number).collect();
        groups.sort_unstable();
        Ok(groups)
    }
}

fn widen(width: Width, id: u32) -> u32 {
    match width {
        Width::Bits32 => id,
        Width::Bits16 if id & 0xffff == 0xffff => u32::MAX,
        Width::Bits16 => id & 0xffff,
    }
}

fn identify(directory: &OwnedFd) -> Result<Place, Errno> {
    let data = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::MNT_ID);
    data.map(|data| (data.stx_mnt_id, data.stx_ino)).map_err(errno)
}

fn io_errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}
