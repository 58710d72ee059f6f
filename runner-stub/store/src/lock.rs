//! One lock for each store: shared while looking, exclusive while extracting or removing. The kernel lets go of it when its
//! holder dies, however it dies.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::error::Error;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until nobody extracts or removes.
    pub(crate) fn shared(dir: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        Self::wait(dir, FlockOperation::NonBlockingLockShared, FlockOperation::LockShared, waiting)
    }

    /// Waits until nobody looks, extracts or removes.
    pub(crate) fn exclusive(dir: &Path, waiting: impl FnOnce()) -> Result<Self, Error> {
        Self::wait(dir, FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive, waiting)
    }

    /// None when somebody else has it.
    pub(crate) fn try_exclusive(dir: &Path) -> Result<Option<Self>, Error> {
        let (path, file) = open_file(dir)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::disk("lock", &path)(error)),
        }
    }

    fn wait(
        dir: &Path,
        at_once: FlockOperation,
        blocking: FlockOperation,
        waiting: impl FnOnce(),
    ) -> Result<Self, Error> {
        let (path, file) = open_file(dir)?;
        match flock(&file, at_once) {
            Ok(()) => return Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => waiting(),
            Err(error) => return Err(Error::disk("lock", &path)(error)),
        }
        loop {
            match flock(&file, blocking) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::disk("lock", &path)(error)),
            }
        }
    }
}

fn open_file(dir: &Path) -> Result<(PathBuf, File), Error> {
    let path = dir.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(Error::disk("open", &path))?;
    Ok((path, File::from(file)))
}
