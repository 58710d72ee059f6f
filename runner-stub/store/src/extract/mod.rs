//! Writing planned layers into their folders.
//!
//! 1. Folders are made, parents first, private to us.
//! 2. Threads take units of work: a frame with all pieces of files that lie in it (decompressed once for all layers), or a
//!    batch of small things: symbolic links, whiteouts, files without a frame.
//! 3. Hard links are made, since the files are there.
//! 4. Folders get their owner, mode and time, children first: whatever is made in a folder changes its time.
//!
//! A file in one piece is opened, written and finished at once. One in several pieces is made beforehand; who writes its last
//! piece finishes it.

mod folders;
mod layout;
mod metadata;
mod units;
mod worker;

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use dpack_payload::digest::DiffId;
use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags, fsetxattr, linkat, mkdirat, openat};
use rustix::io::Errno;

use self::folders::Folders;
use self::layout::Layout;
pub(crate) use self::metadata::Owners;
use self::metadata::{failed, finish};
use self::units::{Units, create_file};
use crate::copy::OPAQUE;
use crate::driver::Driver;
use crate::error::Error;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::source::{Source, Tar as _};
use crate::tree::{InodeId, ROOT};

/// Mode of folders while we work in them.
const PRIVATE: Mode = Mode::RWXU;

/// One layer and the empty folder that it goes into.
pub(crate) struct Target {
    pub(crate) layer: DiffId,
    pub(crate) plan: Plan,
    pub(crate) root: OwnedFd,
}

/// How layers are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) owners: Owners,
    /// Says how it is written down what a layer hides.
    pub(crate) driver: Driver,
}

/// A target with everything in order.
struct Job<'a> {
    layer: DiffId,
    plan: &'a Plan,
    layout: Layout<'a>,
    root: BorrowedFd<'a>,
    driver: Driver,
}

/// Extracts all targets.
pub(crate) fn extract<S: Source>(
    source: &S,
    targets: &[Target],
    threads: usize,
    style: Style,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let owners = style.owners;
    let jobs: Vec<Job<'_>> = targets
        .iter()
        .map(|target| Job {
            layer: target.layer,
            plan: &target.plan,
            layout: Layout::new(&target.plan.tree),
            root: target.root.as_fd(),
            driver: style.driver,
        })
        .collect();
    for job in &jobs {
        job.make_folders()?;
    }
    let units = Units::new(&jobs)?;
    worker::run(source, &jobs, &units, threads, owners, progress)?;
    for job in &jobs {
        job.copy_strays(source, owners, progress)?;
        job.make_links()?;
        job.finish_folders(owners)?;
    }
    Ok(())
}

/// An empty file whose name says everything.
fn mark(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::RUSR).map(drop)
}

impl Job<'_> {
    fn make_folders(&self) -> Result<(), Error> {
        let mut folders = Folders::new(self.root, &self.layout);
        for &id in &self.layout.folders {
            let Some(place) = self.layout.place(id) else { continue };
            mkdirat(folders.get(place.folder)?, place.name, PRIVATE)
                .map_err(failed("create", &|| self.layout.path(place)))?;
        }
        for &id in &self.layout.opaque {
            if self.driver == Driver::Copy {
                let folder = folders.get(id)?;
                mark(folder, OPAQUE).map_err(failed("make opaque", &|| self.path(id)))?;
                continue;
            }
            // `userxattr` overlays, the only kind an ordinary user can mount, look for this name.
            let fd = self.open_folder(&mut folders, id)?;
            fsetxattr(&fd, "user.overlay.opaque", b"y", XattrFlags::empty()).map_err(
                |error| match error {
                    Errno::OPNOTSUPP => Error::NoAttributes { path: self.path(id) },
                    error => failed("make opaque", &|| self.path(id))(error),
                },
            )?;
        }
        Ok(())
    }

    fn copy_strays<S: Source>(
        &self,
        source: &S,
        owners: Owners,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        use std::io::Write as _;
        let mut folders = Folders::new(self.root, &self.layout);
        for stray in &self.plan.strays {
            let Some(place) = self.layout.place(stray.inode) else { continue };
            let mut tar = source.tar(&self.layer).ok_or(Error::Missing(self.layer))?;
            let mut file = create_file(folders.get(place.folder)?, place.name, 0o600)
                .map_err(failed("create", &|| self.layout.path(place)))?;
            let mut buffer = vec![0; 1 << 20];
            let mut done = 0;
            while done < stray.size {
                let length = (stray.size - done).min(buffer.len() as u64) as usize;
                tar.read_exact_at(&mut buffer[..length], stray.position + done)
                    .map_err(|source| Error::Read { layer: self.layer, source })?;
                file.write_all(&buffer[..length]).map_err(failed("write", &|| self.layout.path(place)))?;
                done += length as u64;
            }
            let metadata = &self.plan.tree.inodes[stray.inode as usize].metadata;
            finish(file.as_fd(), metadata, 0o600, owners, &|| self.layout.path(place))?;
            progress.advance(stray.size, 1);
        }
        Ok(())
    }

    fn make_links(&self) -> Result<(), Error> {
        let mut old = Folders::new(self.root, &self.layout);
        let mut new = Folders::new(self.root, &self.layout);
        for &(id, place) in &self.layout.links {
            let Some(target) = self.layout.place(id) else { continue };
            let (from, to) = (old.get(target.folder)?, new.get(place.folder)?);
            linkat(from, target.name, to, place.name, AtFlags::empty())
                .map_err(failed("link", &|| self.layout.path(place)))?;
        }
        Ok(())
    }

    fn finish_folders(&self, owners: Owners) -> Result<(), Error> {
        let mut folders = Folders::new(self.root, &self.layout);
        for &id in self.layout.folders.iter().rev().chain([&ROOT]) {
            let fd = self.open_folder(&mut folders, id)?;
            let metadata = &self.plan.tree.inodes[id as usize].metadata;
            finish(fd.as_fd(), metadata, PRIVATE.bits(), owners, &|| self.path(id))?;
        }
        Ok(())
    }

    /// A descriptor that can do more than `O_PATH`.
    fn open_folder(&self, folders: &mut Folders<'_>, id: InodeId) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match self.layout.place(id) {
            Some(place) => openat(folders.get(place.folder)?, place.name, flags, Mode::empty()),
            None => openat(self.root, ".", flags, Mode::empty()),
        };
        fd.map_err(failed("open", &|| self.path(id)))
    }

    fn path(&self, id: InodeId) -> String {
        self.layout.place(id).map_or_else(|| ".".to_owned(), |place| self.layout.path(place))
    }
}
