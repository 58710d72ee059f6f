//! How a container gets its root file system out of the layers.
//!
//! | driver | how | where |
//! |---|---|---|
//! | `overlay` | the layers stay where they are, under the container's own upper folder | overlayfs in user namespaces: Linux 5.11, and a file system with user extended attributes and whiteouts |
//! | `copy` | each container gets a copy: shared blocks where the file system can (btrfs, xfs), hard links where the root is read-only | anywhere |
//!
//! What this device can is found out by trying, once per boot, and kept in `layers/driver`.

use std::fmt;
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::marker::BootId;
use crate::remove::remove_tree;

/// How a container gets its root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// overlayfs.
    Overlay,
    /// A copy of all layers for each container.
    Copy,
}

impl Driver {
    /// As it is written in settings and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// It is no name of a driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no storage driver: there are `overlay` and `copy`")]
pub struct UnknownDriver(String);

impl FromStr for Driver {
    type Err = UnknownDriver;

    fn from_str(name: &str) -> Result<Self, UnknownDriver> {
        [Self::Overlay, Self::Copy]
            .into_iter()
            .find(|driver| driver.name() == name)
            .ok_or_else(|| UnknownDriver(name.to_owned()))
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is used.
    pub driver: Driver,
    /// Why it is not overlayfs, when nobody asked for anything else.
    pub reason: Option<String>,
}

/// The driver for a data folder: what was asked for, else what works. Runs inside the user namespace, in a mount namespace
/// of its own.
pub fn find(data_dir: &Path, asked: Option<Driver>) -> Result<Found, Error> {
    if let Some(driver) = asked {
        return Ok(Found { driver, reason: None });
    }
    let layers = data_dir.join("layers");
    fs::create_dir_all(&layers).map_err(Error::disk("create", &layers))?;
    let (kept, boot) = (layers.join("driver"), BootId::current()?);
    // Half a line, after a power cut, has another boot's ID or none.
    let text = fs::read_to_string(&kept).unwrap_or_default();
    if let Some(found) = text.strip_suffix('\n').and_then(|line| remembered(line, &boot)) {
        return Ok(found);
    }
    let folder = layers.join(format!("try.{}", std::process::id()));
    let found = match try_overlay(&folder) {
        Ok(()) => Found { driver: Driver::Overlay, reason: None },
        Err(Refusal::Overlay(reason)) => Found { driver: Driver::Copy, reason: Some(reason) },
        Err(Refusal::Disk(error)) => return Err(error),
    };
    let line = format!("{} {} {}\n", boot.0, found.driver, found.reason.as_deref().unwrap_or_default());
    fs::write(&kept, line).map_err(Error::disk("write", &kept))?;
    Ok(found)
}

fn remembered(line: &str, boot: &BootId) -> Option<Found> {
    let mut words = line.splitn(3, ' ');
    if words.next() != Some(&boot.0) {
        return None;
    }
    let driver = words.next()?.parse().ok()?;
    Some(Found { driver, reason: words.next().filter(|reason| !reason.is_empty()).map(str::to_owned) })
}

/// Why overlayfs was not mounted.
#[derive(Debug)]
pub enum Refusal {
    /// It does not work here: what failed, and the kernel's word for it.
    Overlay(String),
    /// The trial could not be made.
    Disk(Error),
}

/// Mounts an overlay in `folder`, which is made and removed again, and does in it what needs whiteouts and attributes. Runs inside
/// the user namespace: what overlayfs leaves in its work folder is closed to the user outside.
pub fn try_overlay(folder: &Path) -> Result<(), Refusal> {
    let tried = mount_overlay(folder);
    remove_tree(folder).map_err(Refusal::Disk)?;
    tried
}

fn mount_overlay(folder: &Path) -> Result<(), Refusal> {
    let disk = |action, path: &Path| {
        let path = path.to_owned();
        move |error: Errno| Refusal::Disk(Error::disk(action, &path)(error))
    };
    let make = |path: &Path| mkdirat(CWD, path, Mode::RWXU).map_err(disk("create", path));
    make(folder)?;
    for part in ["lower", "lower/folder", "upper", "work", "merged"] {
        make(&folder.join(part))?;
    }
    let refused = |step: &'static str| move |error: Errno| Refusal::Overlay(format!("{step}: {error}"));
    // The names are short, and a data folder may have any: commas and colons would be the mount's own.
    let open = |part: &str| {
        let path = folder.join(part);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).map_err(disk("open", &path))
    };
    let (lower, upper, work) = (open("lower")?, open("upper")?, open("work")?);
    let number = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let (lowerdir, upperdir, workdir) = (number(&lower), number(&upper), number(&work));
    let options = format!("lowerdir={lowerdir},upperdir={upperdir},workdir={workdir},userxattr");
    let options = std::ffi::CString::new(options).map_err(|_| refused("mount overlayfs")(Errno::INVAL))?;
    let merged = folder.join("merged");
    mount("overlay", &merged, "overlay", MountFlags::NODEV, options.as_c_str())
        .map_err(refused("overlayfs cannot be mounted in a user namespace"))?;
    // The first leaves a whiteout, the second an opaque folder.
    let inner = merged.join("folder");
    let changed = unlinkat(CWD, &inner, AtFlags::REMOVEDIR)
        .and_then(|()| mkdirat(CWD, &inner, Mode::RWXU))
        .map_err(refused("the file system has no user extended attributes or whiteouts for overlayfs"));
    unmount(&merged, UnmountFlags::DETACH).map_err(disk("unmount", &merged))?;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_remembered_for_this_boot_only() {
        let boot = BootId("b".to_owned());
        let found = |driver, reason: Option<&str>| Found { driver, reason: reason.map(str::to_owned) };
        assert_eq!(remembered("b overlay ", &boot), Some(found(Driver::Overlay, None)));
        assert_eq!(remembered("b copy it: is so", &boot), Some(found(Driver::Copy, Some("it: is so"))));
        for other in ["", "b", "b over", "c overlay ", "b overlay2 x"] {
            assert_eq!(remembered(other, &boot), None, "{other:?}");
        }
    }
}
