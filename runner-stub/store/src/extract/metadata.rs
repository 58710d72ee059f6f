//! Owner, mode, extended attributes, times: in this order, since changing the owner clears set-user-ID bits and file
//! capabilities, and everything changes times.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr,
    futimens, utimensat,
};
use rustix::io::Errno;

use crate::error::Error;
use crate::tree::Metadata;

/// Whether files get the owners that the image names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// By fchown(2) inside the user namespace.
    Image,
    /// Everything belongs to whoever extracts.
    Extractor,
}

impl Owners {
    /// What to give the inode to; none when it belongs there already.
    fn of(self, metadata: &Metadata) -> Option<(Option<Uid>, Option<Gid>)> {
        let foreign = self == Self::Image && (metadata.uid, metadata.gid) != (0, 0);
        foreign.then(|| (Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid))))
    }

    /// Where files cannot be given away it is written down whose they should be, for the sandbox to show (its `ids`): in the
    /// attribute that rootlesscontaine.rs and umoci use. A file system without attributes shows them as root's.
    fn note(self, fd: BorrowedFd<'_>, metadata: &Metadata) {
        if self == Self::Extractor && (metadata.uid, metadata.gid) != (0, 0) {
            let record = owner_record(metadata.uid, metadata.gid);
            let _ = fsetxattr(fd, OWNER_ATTRIBUTE, &record, XattrFlags::empty());
        }
    }
}

const OWNER_ATTRIBUTE: &str = "user.rootlesscontainers";

/// Protobuf: `message Resource { uint32 uid = 1; uint32 gid = 2; }`
fn owner_record(uid: u32, gid: u32) -> Vec<u8> {
    let mut record = Vec::new();
    for (key, mut rest) in [(0x08, uid), (0x10, gid)] {
        record.push(key);
        while rest >= 0x80 {
            record.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        record.push(rest as u8);
    }
    record
}

/// Finishes a file or folder by a descriptor that can be written to. `mode` is what it has so far.
pub(super) fn finish(
    fd: BorrowedFd<'_>,
    metadata: &Metadata,
    mode: u32,
    owners: Owners,
    path: &dyn Fn() -> String,
) -> Result<(), Error> {
    if let Some((uid, gid)) = owners.of(metadata) {
        fchown(fd, uid, gid).map_err(failed("change the owner of", path))?;
    }
    owners.note(fd, metadata);
    if mode != metadata.mode {
        fchmod(fd, Mode::from_raw_mode(metadata.mode)).map_err(failed("set the mode of", path))?;
    }
    for (name, value) in &metadata.xattrs {
        set_attribute(fd, name, value, path)?;
    }
    futimens(fd, &times(metadata)).map_err(failed("set the time of", path))
}

/// Finishes what has no descriptor that can be written to: symbolic links and pipes. The mode of a link means nothing.
pub(super) fn finish_at(
    folder: BorrowedFd<'_>,
    name: &[u8],
    metadata: &Metadata,
    has_mode: bool,
    owners: Owners,
    path: &dyn Fn() -> String,
) -> Result<(), Error> {
    if let Some((uid, gid)) = owners.of(metadata) {
        chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("change the owner of", path))?;
    }
    if has_mode {
        chmodat(folder, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())
            .map_err(failed("set the mode of", path))?;
    }
    utimensat(folder, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("set the time of", path))
}

/// `user.*` and file capabilities are kept where the file system can. Left out are `user.overlay.*`, with which an image
/// could tell overlayfs to look anywhere, and what an ordinary user may not set (`trusted.*`, other `security.*`).
fn set_attribute(
    fd: BorrowedFd<'_>,
    name: &[u8],
    value: &[u8],
    path: &dyn Fn() -> String,
) -> Result<(), Error> {
    let capability;
    let value = match name {
        b"security.capability" => match capability_v2(value) {
            Some(converted) => {
                capability = converted;
                &capability[..]
            }
            None => return Ok(()),
        },
        _ if name.starts_with(b"user.overlay.") => return Ok(()),
        _ if name.starts_with(b"user.") => value,
        _ => return Ok(()),
    };
    match fsetxattr(fd, name, value, XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        Err(error) => Err(failed("set an extended attribute of", path)(error)),
    }
}

/// File capabilities in the form without a namespace's root (`VFS_CAP_REVISION_2`); the kernel adds the root of the
/// namespace that sets them (capabilities(7), "Namespaced file capabilities").
fn capability_v2(value: &[u8]) -> Option<[u8; 20]> {
    let mut capability: [u8; 20] = value.get(..20)?.try_into().ok()?;
    match (capability[3], value.len()) {
        (2, 20) => {}
        (3, 24) => capability[3] = 2,
        _ => return None,
    }
    Some(capability)
}

fn times(metadata: &Metadata) -> Timestamps {
    let time =
        Timespec { tv_sec: metadata.mtime.seconds, tv_nsec: i64::from(metadata.mtime.nanoseconds) as _ };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn failed<E: Into<io::Error>>(
    action: &'static str,
    path: &dyn Fn() -> String,
) -> impl FnOnce(E) -> Error {
    move |error| Error::Disk { action, path: path(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_record_is_the_message_that_others_write() {
        assert_eq!(owner_record(999, 0), [0x08, 0xe7, 0x07, 0x10, 0]);
    }

    #[test]
    fn file_capabilities_lose_their_namespace() {
        let mut v2 = [0_u8; 20];
        (v2[0], v2[3], v2[5]) = (1, 2, 4);
        let mut v3 = [v2.as_slice(), &[7; 4]].concat();
        v3[3] = 3;
        assert_eq!(capability_v2(&v2), Some(v2));
        assert_eq!(capability_v2(&v3), Some(v2));
        for bad in [&v3[..20], &v2[..12], &[], &[2; 24]] {
            assert_eq!(capability_v2(bad), None);
        }
    }
}
