//! The output file: written aside in the output folder, verified, then renamed. Nothing partial ever has its name.
//!
//! A build holds a lock on the file it writes. What a killed build left is therefore known by its free lock, and goes
//! when the next build begins.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dpack_payload::application::Application;
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use dpack_payload::write::{Level, PayloadWriter, SpliceError, StubHead, Summary, WriteError};
use dpack_payload::{OpenError, Payload};
use dpack_targets::stubs::stub_from;
use dpack_targets::{StubError, Target};
use tempfile::NamedTempFile;

use crate::error::Kind;
use crate::payload;

/// What the name of a file on its way ends in.
const SUFFIX: &str = ".tmp";

/// Why an executable could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No runner.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// A runner that cannot carry a payload.
    #[error("the runner for `{platform}` cannot carry a payload")]
    Splice {
        /// The platform.
        platform: Platform,
        /// Why.
        source: Box<SpliceError>,
    },
    /// The output folder or file.
    #[error("failed to {action} `{path}`")]
    Output {
        /// What was attempted.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// What was written cannot be read again.
    #[error("the executable for `{platform}` cannot be read again after it was written")]
    Verify {
        /// The platform.
        platform: Platform,
        /// What is wrong.
        source: Box<OpenError>,
    },
    /// What was written is not what was meant.
    #[error("the executable for `{0}` is another one than was written")]
    Changed(Platform),
    /// Frames.
    #[error(transparent)]
    Payload(#[from] payload::Error),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Stub(_) | Error::Splice { .. } | Error::Output { .. } | Error::Verify { .. } => {
                Kind::Environment
            }
            Error::Changed(_) => Kind::Environment,
            Error::Payload(error) => error.kind(),
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Output { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space, or write elsewhere with -o DIR".to_owned())
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("write elsewhere with -o DIR".to_owned())
                }
                _ => None,
            },
            Error::Payload(payload::Error::Cache(error)) => error.hint(),
            _ => None,
        }
    }
}

/// The runner for a target, ready to carry a payload.
pub fn head(platform: &Platform, target: &Target, stub_dir: Option<&Path>) -> Result<StubHead, Error> {
    let stub = stub_from(platform, stub_dir)?;
    StubHead::new(&stub, target.elf.machine)
        .map_err(|source| Error::Splice { platform: platform.clone(), source: Box::new(source) })
}

/// An executable on its way; removed when it is dropped.
pub struct Output {
    file: NamedTempFile,
    path: PathBuf,
    platform: Platform,
}

impl Output {
    /// Starts a file in `folder`, which is made when it is not there.
    pub fn create(folder: &Path, name: &str, platform: &Platform) -> Result<Self, Error> {
        let error = |action| move |source| Error::Output { action, path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(error("create"))?;
        let path = folder.join(name);
        if path.is_dir() {
            return Err(Error::Output { action: "write", path, source: io::ErrorKind::IsADirectory.into() });
        }
        let prefix = format!(".{name}.");
        remove_leftovers(folder, &prefix);
        loop {
            let file = tempfile::Builder::new()
                .prefix(&prefix)
                .suffix(SUFFIX)
                .tempfile_in(folder)
                .map_err(error("create a file in"))?;
            // A file system without locks keeps leftovers: nothing can be known about them.
            let locked = file.as_file().lock().is_ok();
            // Another build may have come between creation and lock.
            if !locked || file.path().exists() {
                return Ok(Self { file, path, platform: platform.clone() });
            }
        }
    }

    /// Begins with the runner.
    pub fn writer(&self, head: StubHead, level: Level) -> Result<PayloadWriter<&File>, Error> {
        PayloadWriter::new(self.file.as_file(), Some(head), level).map_err(|error| self.name(error.into()))
    }

    /// Says which file it was that could not be written.
    pub fn name(&self, error: payload::Error) -> Error {
        match error {
            payload::Error::Write(WriteError::Write(source)) => {
                Error::Output { action: "write", path: self.path.clone(), source }
            }
            error => error.into(),
        }
    }

    /// Verifies the finished file, makes it executable, and gives it its name.
    pub fn finish(self, summary: &Summary, application: &Application) -> Result<PathBuf, Error> {
        let Self { file, path, platform } = self;
        let error = |action| {
            let path = path.clone();
            move |source| Error::Output { action, path, source }
        };
        verify(file.as_file(), &platform, &summary.digest, application)?;
        set_executable(file.as_file()).map_err(error("set the mode of"))?;
        file.persist(&path).map_err(|persist| error("write")(persist.error))?;
        Ok(path)
    }
}

/// Best effort: what cannot be removed is in nobody's way.
fn remove_leftovers(folder: &Path, prefix: &str) {
    for item in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = item.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(SUFFIX));
        if is_ours
            && let Ok(file) = File::options().write(true).open(item.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(item.path());
        }
    }
}

/// Reads index and trailer again: everything else is verified by them.
fn verify(file: &File, platform: &Platform, digest: &Digest, application: &Application) -> Result<(), Error> {
    let payload = Payload::open(file)
        .map_err(|source| Error::Verify { platform: platform.clone(), source: Box::new(source) })?;
    if payload.digest() != *digest || payload.application() != application {
        return Err(Error::Changed(platform.clone()));
    }
    Ok(())
}

#[cfg(unix)]
fn set_executable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn set_executable(_: &File) -> io::Result<()> {
    Ok(())
}
