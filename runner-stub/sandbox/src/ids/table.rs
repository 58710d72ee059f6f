//! Which thread has which identity.
//!
//! The kernel keeps that for us. Each thread has a timer slack (prctl(2), `PR_SET_TIMERSLACK`), which `fork` and `clone`
//! hand down and `execve` keeps, exactly as they do with credentials; and it can be read and set from outside, by
//! `/proc/TID/timerslack_ns`. So a thread's identity is a number that is added to the usual 50 µs: nobody has to follow
//! forks, and a thread ID that is used again cannot bring back an old identity. The filter answers attempts to set it.

use nix::errno::Errno;
use rustix::fs::OFlags;

use super::caller::Caller;
use super::identity::Identity;

const SLACK: &str = "timerslack_ns";
/// What a thread has that has never changed its identity.
pub(crate) const BASE_SLACK: u32 = 50_000;
/// Far more than any image has users; the slack at most doubles.
const MOST: usize = 50_000;
/// Lists of supplementary groups are as long as their owner likes; all together take 4 MB at most.
const MOST_GROUPS: usize = 1 << 20;

/// All identities that have been assumed so far.
#[derive(Debug)]
pub(super) struct Table {
    identities: Vec<Identity>,
    groups: usize,
}

impl Table {
    pub(super) fn new(initial: Identity) -> Self {
        Table { groups: initial.groups.len(), identities: vec![initial] }
    }

    /// Whose identity cannot be told (a real-time process has no slack since Linux 6.12) has the initial one.
    pub(super) fn identity(&self, caller: &Caller<'_>) -> &Identity {
        let index =
            slack(caller).and_then(|slack| usize::try_from(slack.checked_sub(BASE_SLACK.into())?).ok());
        index.and_then(|index| self.identities.get(index)).unwrap_or(&self.identities[0])
    }

    pub(super) fn assume(&mut self, caller: &Caller<'_>, identity: Identity) -> Result<(), Errno> {
        let index = match self.identities.iter().position(|known| *known == identity) {
            Some(index) => index,
            None => {
                let groups = self.groups + identity.groups.len();
                if self.identities.len() == MOST || groups > MOST_GROUPS {
                    return Err(Errno::EAGAIN);
                }
                self.groups = groups;
                self.identities.push(identity);
                self.identities.len() - 1
            }
        };
        let text = (u64::from(BASE_SLACK) + index as u64).to_string();
        let file = caller.open(SLACK, OFlags::WRONLY).map_err(|_| Errno::EAGAIN)?;
        rustix::io::write(&file, text.as_bytes()).map(drop).map_err(|_| Errno::EAGAIN)
    }
}

fn slack(caller: &Caller<'_>) -> Option<u64> {
    let file = caller.open(SLACK, OFlags::RDONLY).ok()?;
    let mut text = [0_u8; 24];
    let length = rustix::io::read(&file, &mut text).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
}
