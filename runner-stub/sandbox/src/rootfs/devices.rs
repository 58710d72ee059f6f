//! `/dev`: the harmless devices, bound from the host because an ordinary user can make none, and the usual links.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::mounts::{attach, clone_tree};
use super::resolve::{self, Kind};
use crate::Error;
use crate::spec::Spec;

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
    let wanted = spec.linux.devices.iter().map(|device| device.path.as_str());
    let more = wanted.filter(|path| !DEFAULT.contains(path));
    for path in DEFAULT.into_iter().chain(more) {
        bind(root, path).map_err(|source| Error::Device { path: path.to_owned(), source })?;
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

fn bind(root: &OwnedFd, path: &str) -> io::Result<()> {
    let host = super::open_outside(Path::new(path), OFlags::PATH)?;
    let file_type = FileType::from_raw_mode(rustix::fs::fstat(&host)?.st_mode);
    if !matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(io::Error::other("it is not a device on this host"));
    }
    let tree = clone_tree(&host, false)?;
    Ok(attach(&tree, &resolve::target(root, path, Kind::File)?)?)
}
