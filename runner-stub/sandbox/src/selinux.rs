//! SELinux on the device: whether it is there, what its policy says, and how files get another label.
//!
//! The policy is asked where it lies, `/sys/fs/selinux`, as libselinux does; nothing of ours knows its rules.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, XattrFlags};

use crate::compat::in_root::by_number;

/// Where the policy is asked.
const ROOT: &str = "/sys/fs/selinux";
/// Whether there is such a label; what a label may do to another.
pub(crate) const QUESTIONS: [&str; 2] = ["/sys/fs/selinux/context", "/sys/fs/selinux/access"];
const MAGIC: u64 = 0xf97c_ff8c;
/// The label of a file.
pub(crate) const ATTRIBUTE: &str = "security.selinux";
/// Deeper than any tree that is meant; bounds recursion and descriptors.
const DEEPEST: usize = 200;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A policy is loaded.
pub fn is_enabled() -> bool {
    let found = rustix::fs::statfs(ROOT);
    found.is_ok_and(|status| status.f_type as u64 & 0xffff_ffff == MAGIC) && own_label().is_some()
}

/// What the policy denies is denied, not only logged.
pub fn is_enforcing() -> bool {
    read("enforce").is_some_and(|text| text.trim() == "1")
}

/// The label of this process. Before a policy is loaded it is the word `kernel`, which is none.
pub fn own_label() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/attr/current").ok()?;
    let label = text.trim_end_matches(['\0', '\n']);
    label.contains(':').then(|| label.to_owned())
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(ROOT).join(file)).ok()
}

/// The policy knows such a label.
pub fn knows(label: &str) -> bool {
    let file = File::options().write(true).open(QUESTIONS[0]);
    file.and_then(|mut file| file.write_all(label.as_bytes())).is_ok()
}

/// Whether `subject` may do all of `permissions` to an object of a class, constraints of levels included. What the policy has no
/// word for is allowed or denied by its own rule for that.
pub fn allows(subject: &str, object: &str, class: &str, permissions: &[&str]) -> bool {
    let number = |path: String| read(&path)?.trim().parse::<u32>().ok();
    let unknown_is_allowed = || number("deny_unknown".to_owned()) == Some(0);
    let Some(index) = number(format!("class/{class}/index")) else { return unknown_is_allowed() };
    let Some(vector) = decision(subject, object, index) else { return false };
    permissions.iter().all(|name| match number(format!("class/{class}/perms/{name}")) {
        Some(bit @ 1..=32) => vector & (1 << (bit - 1)) != 0,
        _ => unknown_is_allowed(),
    })
}

/// The permissions that are allowed, by bit; all of them to a domain that the policy has made permissive.
fn decision(subject: &str, object: &str, class: u32) -> Option<u32> {
    const PERMISSIVE: u32 = 1;
    let mut file = File::options().read(true).write(true).open(QUESTIONS[1]).ok()?;
    file.write_all(format!("{subject} {object} {class}").as_bytes()).ok()?;
    let mut buffer = [0_u8; 256];
    let length = file.read(&mut buffer).ok()?;
    // `allowed decided auditallow auditdeny sequence flags`
    let answer = std::str::from_utf8(&buffer[..length]).ok()?;
    let answer = answer.trim_end_matches('\0');
    let fields: Vec<&str> = answer.split_whitespace().collect();
    let number = |index: usize, radix| u32::from_str_radix(fields.get(index)?, radix).ok();
    // The flags are written in hexadecimal, as the vectors are.
    if number(5, 16).is_some_and(|flags| flags & PERMISSIVE != 0) {
        return Some(u32::MAX);
    }
    number(0, 16)
}

/// The label of an open file, where it has one.
pub fn label_of(file: impl AsFd) -> Option<String> {
    let mut value = [0_u8; 4096];
    let length = rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value).ok()?;
    let text = std::str::from_utf8(&value[..length]).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// Gives an open file a label.
pub fn set_label(file: impl AsFd, label: &str) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(file, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())?)
}

/// Gives `path` and all below it a label, the folder itself last: one that has it is whole. No link is followed, and no
/// other file system is entered. What goes away meanwhile is no failure.
pub fn relabel(path: &Path, label: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(path, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&top)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        let directory = rustix::fs::openat(&top, c".", DIRECTORY, Mode::empty())?;
        below(&directory, label, &status, 0)?;
    }
    let name = by_number(top.as_fd());
    Ok(rustix::fs::setxattr(name, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())?)
}

fn below(directory: &OwnedFd, label: &str, own: &Stat, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            match one(directory, name, label, own, depth) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
    }
    Ok(())
}

fn one(directory: &OwnedFd, name: &CStr, label: &str, own: &Stat, depth: usize) -> io::Result<()> {
    let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if status.st_dev != own.st_dev {
        return Ok(());
    }
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        let folder = rustix::fs::openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        below(&folder, label, own, depth + 1)?;
    }
    // There is no lsetxattrat(2) before Linux 6.13. A link has a label of its own, which decides on who may follow it.
    let mut path = by_number(directory.as_fd()).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.to_bytes());
    Ok(rustix::fs::lsetxattr(path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())?)
}
