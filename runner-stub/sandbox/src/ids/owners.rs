//! Whom a file is said to belong to.
//!
//! Recorded in the attribute `user.rootlesscontainers`, which others use for the same purpose (rootlesscontaine.rs, umoci):
//! a protobuf message of two numbers. What can have no `user.*` attribute (links, pipes, sockets, devices; tmpfs before
//! Linux 6.6) is remembered as long as the keeper lives.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use rustix::fs::{AtFlags, StatxFlags, XattrFlags};

use super::caller::errno;

const ATTRIBUTE: &str = "user.rootlesscontainers";
/// Then the oldest are as good as forgotten: all of them are.
const MOST_REMEMBERED: usize = 1 << 16;

/// User and group.
pub(super) type Owner = (u32, u32);

/// File system, inode, time of birth: numbers are used again.
type Identity = ((u32, u32), u64, (i64, u32));

/// What has no attribute.
#[derive(Debug, Default)]
pub(super) struct Owners {
    remembered: HashMap<Identity, Owner>,
}

impl Owners {
    /// The recorded owner. The working directory is `/proc/self/fd`, because attributes cannot be read by a descriptor that
    /// is only a place.
    pub(super) fn of(&self, file: BorrowedFd<'_>) -> Option<Owner> {
        let mut bytes = [0_u8; 32];
        match rustix::fs::getxattr(name(file), ATTRIBUTE, &mut bytes) {
            Ok(length) => decode(&bytes[..length]),
            Err(_) if self.remembered.is_empty() => None,
            Err(_) => self.remembered.get(&identity(file)?).copied(),
        }
    }

    pub(super) fn record(&mut self, file: BorrowedFd<'_>, owner: Owner) -> Result<(), Errno> {
        use rustix::io::Errno as E;
        match rustix::fs::setxattr(name(file), ATTRIBUTE, &encode(owner), XattrFlags::empty()) {
            Ok(()) => Ok(()),
            Err(E::PERM | E::OPNOTSUPP | E::ACCESS | E::INVAL | E::NOSPC | E::DQUOT) => {
                if self.remembered.len() >= MOST_REMEMBERED {
                    self.remembered.clear();
                }
                if let Some(identity) = identity(file) {
                    self.remembered.insert(identity, owner);
                }
                Ok(())
            }
            Err(error) => Err(errno(error)),
        }
    }
}

fn name(file: BorrowedFd<'_>) -> String {
    file.as_raw_fd().to_string()
}

fn identity(file: BorrowedFd<'_>) -> Option<Identity> {
    let data = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::INO | StatxFlags::BTIME).ok()?;
    let born = (data.stx_btime.tv_sec, data.stx_btime.tv_nsec);
    Some(((data.stx_dev_major, data.stx_dev_minor), data.stx_ino, born))
}

/// `message Resource { uint32 uid = 1; uint32 gid = 2; }`
pub(super) fn encode((uid, gid): Owner) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in [(0x08, uid), (0x10, gid)] {
        bytes.push(key);
        let mut rest = value;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// A field that is absent is 0. Whatever else it is, it is no record: containers can write it.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Owner> {
    let mut owner = (0, 0);
    while let Some((key, rest)) = bytes.split_first() {
        let length = rest.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1;
        let value =
            rest[..length].iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
        let value = u32::try_from(value).ok()?;
        match key {
            0x08 => owner.0 = value,
            0x10 => owner.1 = value,
            _ => return None,
        }
        bytes = &rest[length..];
    }
    Some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_message_that_others_write() {
        assert_eq!(encode((999, 1000)), [0x08, 0xe7, 0x07, 0x10, 0xe8, 0x07]);
        for owner in [(0, 0), (33, 33), (65_534, u32::MAX)] {
            assert_eq!(decode(&encode(owner)), Some(owner));
        }
        assert_eq!(decode(&[0x10, 5]), Some((0, 5)), "zero is left out by other writers");
        for bad in [
            &[0x08][..],
            &[0x18, 1],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
