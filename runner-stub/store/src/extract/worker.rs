//! The threads that write files.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{FileType, Mode, OFlags, makedev, mknodat, openat, symlinkat};

use super::folders::Folders;
use super::metadata::{Owners, failed, finish, finish_at};
use super::units::{JobPiece, Small, Unit, Units, create_file};
use super::{Job, mark};
use crate::copy::HIDDEN;
use crate::driver::Driver;
use crate::error::Error;
use crate::progress::Progress;
use crate::source::Source;
use crate::tree::{InodeId, Kind};

/// What all threads see.
struct Shared<'a, S> {
    source: &'a S,
    jobs: &'a [Job<'a>],
    units: &'a Units<'a>,
    owners: Owners,
    progress: &'a dyn Progress,
    next: AtomicUsize,
    stop: AtomicBool,
    error: Mutex<Option<Error>>,
}

/// Does all units; the first error stops every thread.
pub(super) fn run<S: Source>(
    source: &S,
    jobs: &[Job<'_>],
    units: &Units<'_>,
    threads: usize,
    owners: Owners,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let shared = Shared {
        source,
        jobs,
        units,
        owners,
        progress,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, units.units.len().max(1)) {
            scope.spawn(|| {
                if let Err(error) = Worker::new(&shared).run() {
                    shared.stop.store(true, Ordering::Relaxed);
                    if let Ok(mut first) = shared.error.lock() {
                        first.get_or_insert(error);
                    }
                }
            });
        }
    });
    match shared.error.into_inner() {
        Ok(Some(error)) => Err(error),
        _ => Ok(()),
    }
}

/// One thread.
struct Worker<'a, S> {
    shared: &'a Shared<'a, S>,
    /// Of each job.
    folders: Vec<Folders<'a>>,
    /// Files get their mode when they are made; otherwise a mask takes bits away.
    unmasked: bool,
}

impl<'a, S: Source> Worker<'a, S> {
    fn new(shared: &'a Shared<'a, S>) -> Self {
        let folders = shared.jobs.iter().map(|job| Folders::new(job.root, &job.layout)).collect();
        // A file mode creation mask of this thread's own, which saves a system call for each file.
        let unmasked = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).is_ok();
        if unmasked {
            rustix::process::umask(Mode::empty());
        }
        Self { shared, folders, unmasked }
    }

    fn run(mut self) -> Result<(), Error> {
        let Shared { source, units, .. } = *self.shared;
        let mut decoder = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            match units.units.get(number) {
                None => break,
                Some(Unit::Batch(range)) => {
                    let (mut bytes, count) = (0, range.len() as u64);
                    for &(job, small) in &units.small[range.clone()] {
                        bytes += self.small(job, small)?;
                    }
                    self.shared.progress.advance(bytes, count);
                }
                Some(&Unit::Frame(frame, ref range)) => {
                    let error = |source| Error::Frame { frame, source };
                    let decoder = match &mut decoder {
                        Some(decoder) => decoder,
                        none => none.insert(source.decoder().map_err(error)?),
                    };
                    let content = source.frame(decoder, frame).map_err(error)?;
                    let (mut bytes, mut files) = (0, 0);
                    for piece in &units.pieces[range.clone()] {
                        let finished = self.piece(content, piece)?;
                        bytes += u64::from(piece.piece.length);
                        files += u64::from(finished);
                    }
                    self.shared.progress.advance(bytes, files);
                }
            }
        }
        Ok(())
    }

    /// Writes a piece; whether its file is finished with it.
    fn piece(&mut self, content: &[u8], &JobPiece { job: number, piece }: &JobPiece) -> Result<bool, Error> {
        let job = &self.shared.jobs[number as usize];
        let start = piece.offset as usize;
        let content = content.get(start..start + piece.length as usize).ok_or_else(|| Error::Frame {
            frame: piece.frame,
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })?;
        let Some(remaining) = self.shared.units.remaining.get(&(number, piece.inode)) else {
            self.file(number, piece.inode, content)?;
            return Ok(true);
        };
        let Some(place) = job.layout.place(piece.inode) else { return Ok(false) };
        let path = || job.layout.path(place);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = self.folders[number as usize].get(place.folder)?;
        let file = openat(folder, place.name, flags, Mode::empty()).map_err(failed("open", &path))?;
        let file = std::fs::File::from(file);
        file.write_all_at(content, piece.position).map_err(failed("write", &path))?;
        // Release what we wrote, acquire what the others wrote.
        let last = remaining.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            let metadata = &job.plan.tree.inodes[piece.inode as usize].metadata;
            finish(file.as_fd(), metadata, 0o600, self.shared.owners, &path)?;
        }
        Ok(last)
    }

    fn small(&mut self, number: u32, small: Small<'_>) -> Result<u64, Error> {
        let job = &self.shared.jobs[number as usize];
        match small {
            Small::File(inode, content) => {
                self.file(number, inode, content)?;
                return Ok(content.len() as u64);
            }
            Small::Whiteout(place) => {
                let folder = self.folders[number as usize].get(place.folder)?;
                let made = match job.driver {
                    // What overlayfs takes for a whiteout; anyone may make it since Linux 5.8.
                    Driver::Overlay => {
                        let device = FileType::CharacterDevice;
                        mknodat(folder, place.name, device, Mode::empty(), makedev(0, 0))
                    }
                    Driver::Copy => mark(folder, &[HIDDEN, place.name].concat()),
                };
                made.map_err(failed("create the whiteout", &|| job.layout.path(place)))?;
            }
            Small::Special(inode) => {
                let Some(place) = job.layout.place(inode) else { return Ok(0) };
                let path = || job.layout.path(place);
                let folder = self.folders[number as usize].get(place.folder)?;
                let node = &job.plan.tree.inodes[inode as usize];
                let has_mode = match &node.kind {
                    Kind::Symlink(target) => {
                        symlinkat(target.as_slice(), folder, place.name).map_err(failed("create", &path))?;
                        false
                    }
                    _ => {
                        mknodat(folder, place.name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                            .map_err(failed("create", &path))?;
                        true
                    }
                };
                finish_at(folder, place.name, &node.metadata, has_mode, self.shared.owners, &path)?;
            }
        }
        Ok(0)
    }

    /// Writes a whole file.
    fn file(&mut self, number: u32, inode: InodeId, content: &[u8]) -> Result<(), Error> {
        let job = &self.shared.jobs[number as usize];
        let Some(place) = job.layout.place(inode) else { return Ok(()) };
        let path = || job.layout.path(place);
        let metadata = &job.plan.tree.inodes[inode as usize].metadata;
        // Never set-user-ID before it has its owner and content.
        let mode = if self.unmasked { metadata.mode & 0o777 } else { 0o600 };
        let folder = self.folders[number as usize].get(place.folder)?;
        let mut file = create_file(folder, place.name, mode).map_err(failed("create", &path))?;
        file.write_all(content).map_err(failed("write", &path))?;
        finish(file.as_fd(), metadata, mode, self.shared.owners, &path)
    }
}
