//! The content-addressed cache of a user's builds.
//!
//! ```text
//! lock              flock: shared by every build, exclusive while pruning
//! tmp/              being written; whoever holds the lock exclusively clears it
//! blobs/<hex>       compressed layers, manifests and configs, by digest
//! recipes/<key>     how a layer is cut into chunks, by diff ID
//! frames/<key>      compressed frames, by what they hold and how it was compressed
//! ```
//!
//! Entries are written aside and renamed, so two builds at once only do some work twice. Nothing is synced: an entry is
//! verified when it is used, and one that is damaged is thrown away and made again. The time of last use is the file's
//! modification time, set when an entry is used.

mod prune;

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dpack_payload::digest::Digest;
use tempfile::NamedTempFile;

pub use prune::{Entry, Pruned};

/// How stale a time of last use may get before it is written again.
const TOUCH_AFTER: Duration = Duration::from_secs(60 * 60);

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Bytes as a registry serves them, by digest.
    Blobs,
    /// Layer recipes.
    Recipes,
    /// Compressed frames.
    Frames,
}

impl Section {
    /// All sections.
    pub const ALL: [Section; 3] = [Section::Blobs, Section::Recipes, Section::Frames];

    /// Name of the folder.
    pub fn name(self) -> &'static str {
        match self {
            Section::Blobs => "blobs",
            Section::Recipes => "recipes",
            Section::Frames => "frames",
        }
    }
}

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{path}`")]
pub struct Error {
    /// What was attempted.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Cause.
    pub source: io::Error,
}

impl Error {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { action, path: path.to_owned(), source }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "free some space, run `dpack cache prune`, or set DPACK_CACHE_DIR to a larger disk"
                    .to_owned(),
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Some("set DPACK_CACHE_DIR to a folder that you may write to".to_owned())
            }
            _ => None,
        }
    }
}

/// An open cache. While it lives nobody prunes it.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    lock: File,
}

/// A file on its way into the cache; removed when it is dropped.
#[derive(Debug)]
pub struct Staged {
    file: NamedTempFile,
}

impl Cache {
    /// Opens the cache in `root`, creates what is missing, and keeps others from pruning it.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let cache = Self::open_unlocked(root)?;
        cache.lock.lock_shared().map_err(Error::new("lock", root))?;
        Ok(cache)
    }

    fn open_unlocked(root: &Path) -> Result<Self, Error> {
        let folders = Section::ALL.map(Section::name);
        for folder in folders.iter().copied().chain(["tmp"]) {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(Error::new("create", &path))?;
        }
        let path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::new("open", &path))?;
        Ok(Self { root: root.to_owned(), lock })
    }

    /// Folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of an entry, whether it is there or not. Keys are file names made by this program: hex digits and dots.
    pub fn path(&self, section: Section, key: &str) -> PathBuf {
        debug_assert!(!key.contains('/') && !key.starts_with('.'), "`{key}` is no cache key");
        self.root.join(section.name()).join(key)
    }

    /// True when the entry is there.
    pub fn contains(&self, section: Section, key: &str) -> bool {
        self.path(section, key).is_file()
    }

    /// Opens an entry and marks it as used.
    pub fn open_entry(&self, section: Section, key: &str) -> Option<File> {
        let file = File::open(self.path(section, key)).ok()?;
        let used = file.metadata().and_then(|metadata| metadata.modified()).ok();
        let stale =
            used.is_none_or(|used| SystemTime::now().duration_since(used).is_ok_and(|age| age > TOUCH_AFTER));
        if stale {
            // Best effort: in a cache that is shared read-only the time of last use stays as it is.
            let _ = file.set_modified(SystemTime::now());
        }
        Some(file)
    }

    /// Reads an entry of at most `limit` bytes; a larger one counts as absent.
    pub fn read(&self, section: Section, key: &str, limit: u64) -> Option<Vec<u8>> {
        let file = self.open_entry(section, key)?;
        let size = file.metadata().ok()?.len();
        if size > limit {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Reads a small blob and verifies it; a damaged one is removed.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Option<Vec<u8>> {
        let bytes = self.read(Section::Blobs, &digest.hex(), limit)?;
        if Digest::of(&bytes) == *digest {
            return Some(bytes);
        }
        self.remove(Section::Blobs, &digest.hex());
        None
    }

    /// Throws an entry away.
    pub fn remove(&self, section: Section, key: &str) {
        // One that another build removed first is just as gone.
        let _ = fs::remove_file(self.path(section, key));
    }

    /// Starts a new entry.
    pub fn stage(&self) -> Result<Staged, Error> {
        let folder = self.root.join("tmp");
        let file = NamedTempFile::new_in(&folder).map_err(Error::new("create a file in", &folder))?;
        Ok(Staged { file })
    }

    /// An unlinked file for data that is needed during this build only.
    pub fn scratch(&self) -> Result<File, Error> {
        let folder = self.root.join("tmp");
        tempfile::tempfile_in(&folder).map_err(Error::new("create a file in", &folder))
    }

    /// Puts a finished entry in its place.
    pub fn commit(&self, staged: Staged, section: Section, key: &str) -> Result<(), Error> {
        let path = self.path(section, key);
        staged.file.persist(&path).map_err(|error| Error::new("create", &path)(error.error))?;
        Ok(())
    }

    /// Writes a whole entry.
    pub fn write(&self, section: Section, key: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut staged = self.stage()?;
        let path = staged.file.path().to_owned();
        staged.file.write_all(bytes).map_err(Error::new("write", &path))?;
        self.commit(staged, section, key)
    }
}

impl Staged {
    /// The file itself.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Turns a failure to write the file into an error that names it.
    pub fn error(&self, source: io::Error) -> Error {
        Error { action: "write", path: self.file.path().to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_blob_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let digest = Digest::of(b"blob");
        assert_eq!(cache.read_blob(&digest, 10), None);
        cache.write(Section::Blobs, &digest.hex(), b"blob").unwrap();
        assert_eq!(cache.read_blob(&digest, 10).unwrap(), b"blob");
        assert_eq!(cache.read_blob(&digest, 3), None, "larger than the limit");

        cache.write(Section::Blobs, &digest.hex(), b"blub").unwrap();
        assert_eq!(cache.read_blob(&digest, 10), None);
        assert!(!cache.contains(Section::Blobs, &digest.hex()));
    }

    #[test]
    fn an_entry_that_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let mut staged = cache.stage().unwrap();
        staged.file().write_all(b"half").unwrap();
        drop(staged);
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn use_renews_an_old_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        cache.write(Section::Frames, "a", b"x").unwrap();
        let path = cache.path(Section::Frames, "a");
        let old = SystemTime::now() - TOUCH_AFTER * 2;
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        cache.open_entry(Section::Frames, "a").unwrap();
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > old + TOUCH_AFTER);
    }
}
