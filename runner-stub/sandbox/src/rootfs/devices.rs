//! `/dev`: the harmless devices, bound from the host because an ordinary user can make none, and the usual links.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::options::{NO_EXEC, NO_SUID};
use super::resolve::{self, Kind};
use crate::Error;
use crate::compat::mounts::{attach, clone_tree, set_attributes};
use crate::spec::{Device, Spec};
use crate::sys::MountAttributes;

/// The runtime specification's default devices.
const DEFAULT: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills `/dev`, unless a folder of the host is bound there.
pub(super) fn make(root: &OwnedFd, spec: &Spec) -> Result<(), Error> {
    let is_bound = |mount: &&crate::spec::Mount| {
        mount.destination.trim_end_matches('/') == "/dev"
            && (mount.kind.as_deref() == Some("bind")
                || mount.options.iter().any(|option| option.ends_with("bind")))
    };
    if spec.mounts.iter().find(is_bound).is_some() {
        return Ok(());
    }
    let failed = |path: &str| {
        let path = path.to_owned();
        move |source| Error::Device { path, source }
    };
    let wanted = &spec.linux.devices;
    for path in DEFAULT.into_iter().filter(|path| !wanted.iter().any(|device| device.path == *path)) {
        bind(root, path, &|_| Ok(())).map_err(failed(path))?;
    }
    for device in wanted {
        bind(root, &device.path, &|host| agrees(host, device)).map_err(failed(&device.path))?;
    }
    let dev = resolve::existing(root, "/dev", ResolveFlags::empty())
        .map_err(|e| Error::Device { path: "/dev".to_owned(), source: e.into() })?;
    for (name, link) in LINKS {
        match rustix::fs::symlinkat(link, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::Device { path: format!("/dev/{name}"), source: e.into() }),
        }
    }
    Ok(())
}

/// The host's node has to be the device that is meant, and no more open than asked for. Its owner stays.
fn agrees(host: &Stat, device: &Device) -> io::Result<()> {
    let wanted = match device.kind.as_deref() {
        Some("c" | "u") => Some(FileType::CharacterDevice),
        Some("b") => Some(FileType::BlockDevice),
        Some(_) => return Err(io::Error::other("only character and block devices are supported")),
        None => None,
    };
    let kind = FileType::from_raw_mode(host.st_mode);
    let number = (rustix::fs::major(host.st_rdev), rustix::fs::minor(host.st_rdev));
    let differs = |wanted: Option<i64>, is: u32| wanted.is_some_and(|wanted| wanted != i64::from(is));
    if wanted.is_some_and(|wanted| wanted != kind)
        || differs(device.major, number.0)
        || differs(device.minor, number.1)
    {
        return Err(io::Error::other("this host has another device there, and no node can be made"));
    }
    if device.file_mode.is_some_and(|mode| host.st_mode & 0o777 & !mode != 0) {
        return Err(io::Error::other("the host's node has a wider mode than `fileMode`, which stays"));
    }
    Ok(())
}

/// Binds the host's node, if it is a device and to the taste of `check`.
fn bind(root: &OwnedFd, path: &str, check: &dyn Fn(&Stat) -> io::Result<()>) -> io::Result<()> {
    let host = super::open_outside(Path::new(path), OFlags::PATH)?;
    let status = rustix::fs::fstat(&host)?;
    let file_type = FileType::from_raw_mode(status.st_mode);
    if !matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(io::Error::other("it is not a device on this host"));
    }
    check(&status)?;
    let tree = clone_tree(&host, false)?;
    set_attributes(&tree, false, &MountAttributes { set: NO_SUID | NO_EXEC, ..Default::default() })?;
    Ok(attach(&tree, &resolve::target(root, path, Kind::File)?)?)
}
