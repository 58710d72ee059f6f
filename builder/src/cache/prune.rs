//! Listing the cache, and keeping it within its bounds: what was not used for longest goes first.

use std::fs::{self, TryLockError};
use std::path::Path;
use std::time::SystemTime;

use super::{Cache, Error, Section};

/// One entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub section: Section,
    /// Its name there.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Time of last use.
    pub used: SystemTime,
}

/// What a prune removed and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Entries removed.
    pub removed: usize,
    /// Bytes removed.
    pub removed_bytes: u64,
    /// Bytes left.
    pub kept_bytes: u64,
}

impl Cache {
    /// Every entry, oldest use first.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for section in Section::ALL {
            let folder = self.root.join(section.name());
            for item in fs::read_dir(&folder).map_err(Error::new("read", &folder))? {
                let item = item.map_err(Error::new("read", &folder))?;
                // An entry that vanishes meanwhile was removed by another build.
                let Ok(metadata) = item.metadata() else { continue };
                let (true, Ok(key)) = (metadata.is_file(), item.file_name().into_string()) else { continue };
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push(Entry { section, key, size: metadata.len(), used });
            }
        }
        entries.sort_by(|a, b| (a.used, a.section, &a.key).cmp(&(b.used, b.section, &b.key)));
        Ok(entries)
    }

    /// Shrinks the cache in `root` to at most `keep` bytes. With `wait` it waits for running builds to finish; without,
    /// it gives `None` when there are any. Must not be called while this process has the cache open.
    pub fn prune(root: &Path, keep: u64, wait: bool) -> Result<Option<Pruned>, Error> {
        let cache = Self::open_unlocked(root)?;
        if wait {
            cache.lock.lock().map_err(Error::new("lock", root))?;
        } else {
            match cache.lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(Error::new("lock", root)(source)),
            }
        }
        // Nobody builds now: what lies in `tmp` was left by a build that was killed.
        let tmp = root.join("tmp");
        for item in fs::read_dir(&tmp).map_err(Error::new("read", &tmp))?.flatten() {
            let _ = fs::remove_file(item.path());
        }
        let entries = cache.entries()?;
        let total: u64 = entries.iter().map(|entry| entry.size).sum();
        let mut pruned = Pruned { kept_bytes: total, ..Pruned::default() };
        for entry in excess(&entries, keep) {
            let path = cache.path(entry.section, &entry.key);
            fs::remove_file(&path).map_err(Error::new("remove", &path))?;
            pruned.removed += 1;
            pruned.removed_bytes += entry.size;
            pruned.kept_bytes -= entry.size;
        }
        Ok(Some(pruned))
    }
}

/// The entries to remove, from `entries` in order of last use, so that at most `keep` bytes are left.
fn excess(entries: &[Entry], keep: u64) -> &[Entry] {
    let mut total: u64 = entries.iter().map(|entry| entry.size).sum();
    let mut count = 0;
    for entry in entries {
        if total <= keep {
            break;
        }
        total -= entry.size;
        count += 1;
    }
    // `keep` 0 means everything, empty entries too.
    if keep == 0 { entries } else { &entries[..count] }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_running_builds_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for (age, key) in [(3, "oldest"), (2, "middle"), (1, "newest")] {
            cache.write(Section::Frames, key, &[0; 100]).unwrap();
            let file = fs::File::options().write(true).open(cache.path(Section::Frames, key)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 10_000)).unwrap();
        }
        fs::write(folder.path().join("tmp/left"), b"x").unwrap();
        assert_eq!(Cache::prune(folder.path(), 150, false).unwrap(), None, "a build is running");

        drop(cache);
        let pruned = Cache::prune(folder.path(), 150, false).unwrap().unwrap();
        assert_eq!(pruned, Pruned { removed: 2, removed_bytes: 200, kept_bytes: 100 });
        let left = Cache::open(folder.path()).unwrap().entries().unwrap();
        assert_eq!(left.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["newest"]);
        assert!(!folder.path().join("tmp/left").exists());

        assert_eq!(Cache::prune(folder.path(), 0, false).unwrap().unwrap().kept_bytes, 0);
    }
}
