//! `<diff id>.boot`: this layer was extracted under that boot of the device, and is not known to be on its disk.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A name for this boot of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BootId(pub(crate) String);

impl BootId {
    /// random(4), `/proc/sys/kernel/random`.
    pub(crate) fn current() -> Result<Self, Error> {
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        Ok(Self(fs::read_to_string(path).map_err(Error::disk("read", path))?.trim().to_owned()))
    }
}

/// What the marker of a layer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// None: the layer is on the disk.
    Settled,
    /// Extracted under this boot: complete, in memory at least.
    ThisBoot,
    /// Extracted under another boot, or unreadable: nobody knows what reached the disk.
    Doubtful,
}

/// Which file on the disk a marker is, to recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, i64, i64);

/// The marker of the layer in `layer`.
pub(crate) fn path(layer: &Path) -> PathBuf {
    layer.with_extension("boot")
}

/// Reads the marker of a layer.
pub(crate) fn read(layer: &Path, boot: &BootId) -> Result<Mark, Error> {
    let path = path(layer);
    match fs::read(&path) {
        Ok(content) if content == boot.0.as_bytes() => Ok(Mark::ThisBoot),
        Ok(_) => Ok(Mark::Doubtful),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark::Settled),
        Err(error) => Err(Error::disk("read", &path)(error)),
    }
}

/// Writes the marker of a layer. An unfinished one is doubtful, so it need not be written aside.
pub(crate) fn write(layer: &Path, boot: &BootId) -> Result<(), Error> {
    let path = path(layer);
    let write = || fs::File::create(&path)?.write_all(boot.0.as_bytes());
    write().map_err(Error::disk("write", &path))
}

/// Removes the marker of a layer, if there is one.
pub(crate) fn remove(layer: &Path) -> Result<(), Error> {
    let path = path(layer);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::disk("remove", &path)(error)),
        _ => Ok(()),
    }
}

/// Recognises the marker at a path later; none when it is not there.
pub(crate) fn identify(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(Identity(metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
