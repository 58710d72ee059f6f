//! The folder of extracted layers, and what happens to it when power fails at any moment.
//!
//! ```text
//! layers/<id map>/lock                  flock(2): shared to look, exclusive to change
//! layers/<id map>/tmp.<random>/         being extracted or removed
//! layers/<id map>/<diff id hex>/        a layer
//! layers/<id map>/<diff id hex>.boot    boot ID under which it was extracted
//! layers/<id map>-copy/                 the same for the driver `copy`
//! layers/driver                         which driver this device can use, and the boot ID for which that is known
//! ```
//!
//! Nobody waits for the disk when a layer is extracted: it is written into a `tmp.` folder, then the marker is written, then
//! the folder is renamed. The data reach the disk later. What is found at each point where work can be cut off:
//!
//! | cut off | found | done by the next |
//! |---|---|---|
//! | while extracting (killed, no space, power) | `tmp.` folder | removed under the exclusive lock |
//! | after the marker, before the rename | marker, no layer | nothing: the marker is overwritten when the layer is extracted |
//! | after the rename: process killed | layer, marker of this boot | used: the page cache has everything |
//! | after the rename: power | layer, marker of another boot | thrown away and extracted again: files may be empty |
//! | power, and the marker's own content is lost | layer, empty marker | the same |
//! | in `settle`, after syncfs(2) | layer on disk, marker | the same: once too often, never once too few |
//! | while removing | `tmp.` folder, perhaps a marker | removed; the marker is overwritten |
//!
//! The marker must not reach the disk after the layer's new name. Both are entries of one folder, made one after the other,
//! and journalling file systems (ext4, xfs, btrfs, f2fs) keep that order.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use dpack_payload::digest::DiffId;
use rustix::fs::{Mode, OFlags, getxattr, open, syncfs};

use crate::driver::Driver;
use crate::error::Error;
use crate::extract::{self, Owners, Style, Target};
use crate::ids;
use crate::lock::Lock;
use crate::marker::{self, BootId, Mark};
use crate::plan;
use crate::progress::Progress;
use crate::remove::remove_tree;
use crate::source::Source;
use crate::space::Needed;
use crate::tar::EntryError;

/// Which IDs exist in the user namespace that extracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMapKind {
    /// Many: files get the owner that the image names.
    Full,
    /// One: every file belongs to the user.
    Single,
}

impl IdMapKind {
    /// The store's folder name.
    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Single => "single",
        }
    }
}

/// What garbage collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers removed.
    pub layers: u64,
}

/// The extracted layers of one user with one kind of ID map.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    kind: IdMapKind,
    driver: Driver,
    boot: BootId,
}

impl Store {
    /// Opens [`Self::folder`], making it where it is missing.
    pub fn open(data_dir: &Path, kind: IdMapKind, driver: Driver) -> Result<Self, Error> {
        let dir = Self::folder(data_dir, kind, driver);
        fs::create_dir_all(&dir).map_err(Error::disk("create", &dir))?;
        Ok(Self { dir, kind, driver, boot: BootId::current()? })
    }

    /// `<data_dir>/layers/<kind>`, for [`Driver::Copy`] `<kind>-copy`: what layers hide is written down differently.
    pub fn folder(data_dir: &Path, kind: IdMapKind, driver: Driver) -> PathBuf {
        let suffix = match driver {
            Driver::Overlay => "",
            Driver::Copy => "-copy",
        };
        data_dir.join("layers").join(format!("{}{suffix}", kind.name()))
    }

    /// The folder that it has its layers in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The driver that its layers are for.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Where a layer lies, whether it is there or not.
    pub fn path(&self, layer: &DiffId) -> PathBuf {
        self.dir.join(layer.hex())
    }

    /// Makes sure that `layers` (lowest first) are extracted; returns the folders to stack, lowest first. These can be fewer:
    /// what lies below a layer that hides everything is left out, and a layer that occurs twice counts where it is highest.
    /// Runs inside the user namespace. Blocks.
    ///
    /// Whoever calls this has written down before that it needs `layers`, where the caller of [`Self::collect_garbage`] looks.
    pub fn ensure<S: Source>(
        &self,
        source: &S,
        layers: &[DiffId],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, Error> {
        if let Some(stack) = self.present(layers, progress)? {
            return Ok(stack);
        }
        let _lock = Lock::exclusive(&self.dir, || progress.waiting())?;
        self.remove_leftovers()?;
        // Somebody else may have been faster.
        let missing = self.missing(layers)?;
        if !missing.is_empty() {
            self.extract(source, &missing, threads, progress)?;
        }
        self.stack(layers)
    }

    /// The same where all of them are extracted already; else nothing.
    pub fn present(&self, layers: &[DiffId], progress: &dyn Progress) -> Result<Option<Vec<PathBuf>>, Error> {
        let _lock = Lock::shared(&self.dir, || progress.waiting())?;
        if self.missing(layers)?.is_empty() { self.stack(layers).map(Some) } else { Ok(None) }
    }

    /// Waits until everything extracted is on the disk (seconds, on slow disks), then takes away the markers that say
    /// otherwise. For a background thread.
    pub fn settle(&self) -> Result<(), Error> {
        let mut markers = Vec::new();
        for name in self.names()? {
            let path = self.dir.join(&name);
            let is_marker = name.ends_with(".boot");
            if is_marker && marker::read(&path, &self.boot)? == Mark::ThisBoot {
                markers.push((marker::identify(&path), path));
            }
        }
        if markers.is_empty() {
            return Ok(());
        }
        let dir = open(&self.dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::disk("open", &self.dir))?;
        syncfs(&dir).map_err(Error::disk("write out the file system of", &self.dir))?;
        // Nobody extracts now; a layer that was removed and extracted again meanwhile has a marker of its own.
        let _lock = Lock::shared(&self.dir, || ())?;
        for (identity, path) in markers {
            if identity.is_some() && marker::identify(&path) == identity {
                marker::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes every layer that `used` does not name, and what was left behind half done. `used` is asked while nobody can
    /// extract. Does nothing (`None`) while another process uses the store.
    pub fn collect_garbage(&self, used: impl FnOnce() -> Vec<DiffId>) -> Result<Option<Collected>, Error> {
        let Some(_lock) = Lock::try_exclusive(&self.dir)? else { return Ok(None) };
        let used = used();
        self.remove_leftovers()?;
        let mut collected = Collected::default();
        for name in self.names()? {
            let hex = name.strip_suffix(".boot").unwrap_or(&name);
            let Ok(layer) = DiffId::from_str(&format!("sha256:{hex}")) else { continue };
            if !used.contains(&layer) {
                collected.layers += u64::from(self.discard(&layer)?);
            }
        }
        Ok(Some(collected))
    }

    /// Those that are not there, or not known to be whole; each once.
    fn missing(&self, layers: &[DiffId]) -> Result<Vec<DiffId>, Error> {
        let mut missing = Vec::new();
        for layer in layers {
            let path = self.path(layer);
            let whole = path.is_dir() && marker::read(&path, &self.boot)? != Mark::Doubtful;
            if !whole && !missing.contains(layer) {
                missing.push(*layer);
            }
        }
        Ok(missing)
    }

    fn extract<S: Source>(
        &self,
        source: &S,
        layers: &[DiffId],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        for layer in layers {
            self.discard(layer)?;
        }
        let mut plans = Vec::with_capacity(layers.len());
        let (mut needed, mut bytes, mut entries, mut skipped) = (Needed::default(), 0_u64, 0, 0);
        for &layer in layers {
            let mut tar = source.tar(&layer).ok_or(Error::Missing(layer))?;
            let plan = plan::plan(&mut tar).map_err(|error| match error {
                EntryError::Layer(source) => Error::Layer { layer, source },
                EntryError::Read(source) => Error::Read { layer, source },
            })?;
            needed.add(plan.bytes, plan.entries);
            bytes = bytes.saturating_add(plan.bytes);
            entries += plan.entries;
            skipped += plan.skipped;
            plans.push((layer, plan));
        }
        if self.kind == IdMapKind::Full {
            let inodes = || plans.iter().flat_map(|(_, plan)| &plan.tree.inodes);
            let (uids, gids) =
                (inodes().map(|inode| inode.metadata.uid), inodes().map(|inode| inode.metadata.gid));
            ids::check(uids, gids)?;
        }
        needed.check(&self.dir)?;
        progress.begin(layers, bytes, entries);
        let mut targets = Vec::with_capacity(layers.len());
        let mut folders = Vec::with_capacity(layers.len());
        let result = self.make_targets(plans, &mut targets, &mut folders).and_then(|()| {
            let owners = match self.kind {
                IdMapKind::Full => Owners::Image,
                IdMapKind::Single => Owners::Extractor,
            };
            let style = Style { owners, driver: self.driver };
            extract::extract(source, &targets, threads, style, progress)?;
            for (layer, folder) in &folders {
                self.publish(layer, folder)?;
            }
            Ok(())
        });
        if let Err(error) = result {
            // Space is counted before it is given back.
            let error = needed.explain(&self.dir, error);
            for (_, folder) in &folders {
                // A failure here leaves what the next one removes.
                let _ = remove_tree(folder);
            }
            return Err(error);
        }
        progress.end(skipped);
        Ok(())
    }

    fn make_targets(
        &self,
        plans: Vec<(DiffId, plan::Plan)>,
        targets: &mut Vec<Target>,
        folders: &mut Vec<(DiffId, PathBuf)>,
    ) -> Result<(), Error> {
        for (layer, plan) in plans {
            let folder = self.temporary();
            let root = make_private(&folder).map_err(Error::disk("create", &folder))?;
            folders.push((layer, folder));
            targets.push(Target { layer, plan, root });
        }
        Ok(())
    }

    /// Gives an extracted layer its name; the order is what makes it safe.
    fn publish(&self, layer: &DiffId, folder: &Path) -> Result<(), Error> {
        let path = self.path(layer);
        marker::write(&path, &self.boot)?;
        fs::rename(folder, &path).map_err(Error::disk("rename", folder))
    }

    /// Removes a layer, first its name, so that nobody ever finds half of it; whether there was one.
    fn discard(&self, layer: &DiffId) -> Result<bool, Error> {
        let (path, aside) = (self.path(layer), self.temporary());
        let renamed = match fs::rename(&path, &aside) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::disk("rename", &path)(error)),
        };
        marker::remove(&path)?;
        if renamed {
            remove_tree(&aside)?;
        }
        Ok(renamed)
    }

    /// Removes what was being extracted or removed when its process ended.
    fn remove_leftovers(&self) -> Result<(), Error> {
        for name in self.names()? {
            if name.starts_with("tmp.") {
                remove_tree(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Which folders to stack.
    fn stack(&self, layers: &[DiffId]) -> Result<Vec<PathBuf>, Error> {
        let mut stack = Vec::with_capacity(layers.len());
        for (position, layer) in layers.iter().enumerate() {
            // overlayfs refuses the same folder twice; the upper one hides the lower one's effect.
            if layers[position + 1..].contains(layer) {
                continue;
            }
            let path = self.path(layer);
            // overlayfs does not look for the attribute in a layer's root.
            let mut value = [0; 1];
            let opaque = getxattr(&path, "user.overlay.opaque", &mut value) == Ok(1) && value == *b"y";
            if self.driver == Driver::Overlay && opaque {
                stack.clear();
            }
            stack.push(path);
        }
        Ok(stack)
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(Error::disk("read", &self.dir))? {
            // Names that are not UTF-8 are not ours.
            names.extend(entry.map_err(Error::disk("read", &self.dir))?.file_name().into_string());
        }
        Ok(names)
    }

    /// A free name; the lock keeps it free.
    fn temporary(&self) -> PathBuf {
        use std::hash::{BuildHasher as _, Hasher as _};
        loop {
            let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
            let path = self.dir.join(format!("tmp.{random:016x}"));
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }
}

/// Makes a folder that only we can look into, and opens it.
fn make_private(path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::mkdir(path, Mode::RWXU)?;
    Ok(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}
