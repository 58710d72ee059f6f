//! Mounts by descriptor: made detached, given their attributes, moved onto a held target. No path is looked up twice.
//!
//! Before Linux 5.2 nothing can be mounted nowhere. Then it is mounted *aside*, on a place of this process's own mount
//! namespace that everybody has, and moved from there to `/proc/self/fd/N`, which is the held target just the same. One that
//! is never attached covers that place until the namespace is left: its maker gives up then anyway.
//!
//! Before 5.12 attributes are a remount, of a tree mount by mount. Nothing of the container runs meanwhile, but what it left in a
//! volume is followed by others: each mount found by its path is compared with its number before it is touched.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree,
};

use super::in_root::{by_number, kind, mount_id};
use crate::sys::{self, MountAttributes};

/// Where a folder is mounted aside: it is there wherever a container can be, since its devices are.
const ASIDE: &str = "/dev";
/// Where anything else is.
const FILE_ASIDE: &str = "/dev/null";

/// Moves a detached mount onto a held descriptor.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    match move_mount(&mount, c"", &target, c"", flags) {
        Err(Errno::NOSYS) => rustix::mount::mount_move(by_number(mount.as_fd()), by_number(target.as_fd())),
        result => result,
    }
}

/// A detached copy of the mount (tree) at `fd`.
pub(crate) fn clone_tree(fd: impl AsFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(&fd, c"", flags) {
        Err(Errno::NOSYS) => clone_aside(fd, recursive),
        result => result,
    }
}

fn clone_aside(fd: impl AsFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let place = if kind(&fd)? == FileType::Directory { ASIDE } else { FILE_ASIDE };
    match recursive {
        true => rustix::mount::mount_bind_recursive(by_number(fd.as_fd()), place)?,
        false => rustix::mount::mount_bind(by_number(fd.as_fd()), place)?,
    }
    let copy = topmost(place)?;
    let (wanted, have) = (rustix::fs::fstat(&fd)?, rustix::fs::fstat(&copy)?);
    // What lies on the place has to be what was put there.
    if (wanted.st_dev, wanted.st_ino) != (have.st_dev, have.st_ino) {
        return Err(Errno::STALE);
    }
    Ok(copy)
}

fn topmost(place: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, place, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A new file system, mounted nowhere yet. What the kernel said of it stands beside an error: ` (tmpfs: Bad value for 'size')`.
pub(crate) fn new_file_system(
    kind: &str,
    source: &str,
    data: &[(String, Option<String>)],
    attributes: u64,
) -> Result<OwnedFd, (Errno, String)> {
    let context = match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NOSYS) => {
            return new_aside(kind, source, data, attributes).map_err(|e| (e, String::new()));
        }
        context => context.map_err(|e| (e, String::new()))?,
    };
    let configure = || {
        fsconfig_set_string(&context, c"source", source)?;
        for (key, value) in data {
            match value {
                Some(value) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, key)?,
            }
        }
        fsconfig_create(&context)
    };
    configure().map_err(|e| (e, complaint(&context)))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(|e| (e, complaint(&context)))
}

/// What the kernel wrote into the context's log.
fn complaint(context: &OwnedFd) -> String {
    let mut buffer = [0_u8; 256];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) if length > 2 => format!(" ({})", String::from_utf8_lossy(&buffer[2..length]).trim()),
        _ => String::new(),
    }
}

fn new_aside(
    kind: &str,
    source: &str,
    data: &[(String, Option<String>)],
    attributes: u64,
) -> rustix::io::Result<OwnedFd> {
    let options = data.iter().map(|(key, value)| match value {
        // A label has commas in it.
        Some(value) if value.contains(',') => format!("{key}=\"{value}\""),
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let options = CString::new(options.collect::<Vec<_>>().join(",")).map_err(|_| Errno::INVAL)?;
    let flags = flags(MountFlags::empty(), &MountAttributes { set: attributes, ..Default::default() })?;
    rustix::mount::mount(source, ASIDE, kind, flags, options.as_c_str())?;
    topmost(ASIDE)
}

/// Changes the mount that `fd` is the root of, with `recursive` also those below it.
pub(crate) fn set_attributes(fd: impl AsFd, recursive: bool, attributes: &MountAttributes) -> io::Result<()> {
    match sys::set_mount_attributes(&fd, recursive, attributes) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            remount(&fd, attributes)?;
            if recursive {
                for mount in below(mount_id(&fd)?)? {
                    remount(&mount, attributes)?;
                }
            }
            Ok(())
        }
        result => result,
    }
}

fn remount(fd: impl AsFd, attributes: &MountAttributes) -> rustix::io::Result<()> {
    if attributes.user_namespace != 0 {
        return Err(Errno::NOSYS);
    }
    let path = by_number(fd.as_fd());
    if attributes.set != 0 || attributes.clear != 0 {
        let has = present(rustix::fs::fstatvfs(&fd)?.f_flag);
        rustix::mount::mount_remount(&path, MountFlags::BIND | flags(has, attributes)?, c"")?;
    }
    match attributes.propagation {
        0 => Ok(()),
        kind => {
            let kind = u32::try_from(kind).map_err(|_| Errno::INVAL)?;
            rustix::mount::mount_change(&path, MountPropagationFlags::from_bits_retain(kind))
        }
    }
}

/// `MOUNT_ATTR_*` of mount_setattr(2) and what mount(2) calls it.
const FLAGS: [(u64, MountFlags); 5] = [
    (0x1, MountFlags::RDONLY),
    (0x2, MountFlags::NOSUID),
    (0x4, MountFlags::NODEV),
    (0x8, MountFlags::NOEXEC),
    (0x80, MountFlags::NODIRATIME),
];
/// Three values of one field rather than bits.
const ACCESS_TIME: u64 = 0x70;

/// A remount replaces all flags, and none may be lost that came from outside of the user namespace.
fn flags(has: MountFlags, attributes: &MountAttributes) -> rustix::io::Result<MountFlags> {
    let mut result = has;
    let mut known = ACCESS_TIME;
    for (attribute, flag) in FLAGS {
        known |= attribute;
        if attributes.clear & attribute != 0 {
            result.remove(flag);
        }
        if attributes.set & attribute != 0 {
            result.insert(flag);
        }
    }
    // MOUNT_ATTR_NOSYMFOLLOW: mount(2) has it since Linux 5.10 only, and a flag that is not known is passed over.
    if (attributes.set | attributes.clear) & !known != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    let all = MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
    if attributes.clear & ACCESS_TIME != 0 || attributes.set & ACCESS_TIME != 0 {
        result.remove(all);
        result.insert(match attributes.set & ACCESS_TIME {
            0x00 => MountFlags::RELATIME,
            0x10 => MountFlags::NOATIME,
            _ => MountFlags::STRICTATIME,
        });
    }
    Ok(result)
}

/// The flags that a mount has.
fn present(flags: StatVfsMountFlags) -> MountFlags {
    let table = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let mut has: MountFlags =
        table.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, flag)| flag).collect();
    if !has.intersects(MountFlags::NOATIME | MountFlags::RELATIME) {
        has.insert(MountFlags::STRICTATIME);
    }
    has
}

/// The mounts below one, parents first.
fn below(top: u64) -> rustix::io::Result<Vec<OwnedFd>> {
    let text =
        std::fs::read("/proc/self/mountinfo").map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let mut known = vec![top];
    let mut found = Vec::new();
    // A mount is listed after the one that it lies on, unless it was moved: so again until nothing is new.
    loop {
        let before = known.len();
        for line in text.split(|byte| *byte == b'\n') {
            let Some((id, parent, path)) = mount_line(line) else { continue };
            if !known.contains(&parent) || known.contains(&id) {
                continue;
            }
            let mount =
                rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            // One that another covers cannot be reached by anybody.
            if mount_id(&mount)? == id {
                found.push(mount);
            }
            known.push(id);
        }
        if known.len() == before {
            return Ok(found);
        }
    }
}

/// ID, parent and mount point of a line of mountinfo (proc_pid_mountinfo(5)).
fn mount_line(line: &[u8]) -> Option<(u64, u64, CString)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    Some((id, parent, CString::new(unescape(fields.nth(2)?)).ok()?))
}

/// Blanks and the like stand as three octal digits.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        let digits =
            rest.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                plain.push(value);
                text = &rest[3..];
            }
            None => {
                plain.push(byte);
                text = rest;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remount_keeps_what_a_mount_has() {
        let has = present(StatVfsMountFlags::NOSUID | StatVfsMountFlags::RELATIME);
        assert_eq!(has, MountFlags::NOSUID | MountFlags::RELATIME);
        let change = |set, clear| flags(has, &MountAttributes { set, clear, ..Default::default() });
        assert_eq!(change(0x1, 0), Ok(has | MountFlags::RDONLY));
        assert_eq!(change(0x4, 0x2), Ok(MountFlags::NODEV | MountFlags::RELATIME));
        assert_eq!(change(0x10, ACCESS_TIME), Ok(MountFlags::NOSUID | MountFlags::NOATIME));
        assert_eq!(change(0x0020_0000, 0), Err(Errno::OPNOTSUPP));
        assert_eq!(present(StatVfsMountFlags::empty()), MountFlags::STRICTATIME);
    }

    #[test]
    fn mount_points_have_blanks() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134\012 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_line(line), Some((36, 35, c"/a b\\\n".to_owned())));
        assert_eq!(mount_line(b"36 35"), None);
        assert_eq!(mount_line(b""), None);
        assert_eq!(unescape(br"\04"), br"\04");
        assert_eq!(unescape(br"\999"), br"\999");
    }
}
