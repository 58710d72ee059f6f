//! Cutting the work into units that any thread can take at any time.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU32;

use rustix::fs::{Mode, OFlags, openat};

use super::folders::Folders;
use super::metadata::failed;
use super::{Job, layout::Place};
use crate::error::Error;
use crate::plan::Piece;
use crate::tree::{InodeId, Kind};

/// Small things in one unit.
const BATCH: usize = 128;

/// A piece of a file of one of the jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobPiece {
    pub(super) job: u32,
    pub(super) piece: Piece,
}

/// Something that needs no frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Small<'a> {
    /// A file of this content.
    File(InodeId, &'a [u8]),
    /// A symbolic link or pipe.
    Special(InodeId),
    Whiteout(Place<'a>),
}

/// What a thread takes.
#[derive(Clone, Debug)]
pub(super) enum Unit {
    /// A frame, and which pieces lie in it.
    Frame(u32, Range<usize>),
    /// Which small things.
    Batch(Range<usize>),
}

/// All work.
pub(super) struct Units<'a> {
    pub(super) units: Vec<Unit>,
    /// By frame.
    pub(super) pieces: Vec<JobPiece>,
    pub(super) small: Vec<(u32, Small<'a>)>,
    /// Of files in several pieces, how many are still to be written.
    pub(super) remaining: HashMap<(u32, InodeId), AtomicU32>,
}

impl<'a> Units<'a> {
    /// Sorts the work; makes the files that come in several pieces.
    pub(super) fn new(jobs: &'a [Job<'a>]) -> Result<Self, Error> {
        let mut units =
            Self { units: Vec::new(), pieces: Vec::new(), small: Vec::new(), remaining: HashMap::new() };
        for (number, job) in (0..).zip(jobs) {
            units.add_pieces(number, job);
            units.add_small(number, job);
            units.make_files(number, job)?;
        }
        // Stable: within a frame in the order of the tar, in which folders come one after the other.
        units.pieces.sort_by_key(|piece| piece.piece.frame);
        let mut start = 0;
        for run in units.pieces.chunk_by(|a, b| a.piece.frame == b.piece.frame) {
            units.units.push(Unit::Frame(run[0].piece.frame, start..start + run.len()));
            start += run.len();
        }
        let count = units.small.len();
        units
            .units
            .extend((0..count).step_by(BATCH).map(|start| Unit::Batch(start..count.min(start + BATCH))));
        Ok(units)
    }

    fn add_pieces(&mut self, number: u32, job: &Job<'_>) {
        for run in job.plan.pieces.chunk_by(|a, b| a.inode == b.inode) {
            let inode = run[0].inode;
            if job.layout.place(inode).is_none() {
                // A later entry took its name.
                continue;
            }
            if run.len() > 1 {
                // A tar of 2^32 chunks does not fit into an index.
                self.remaining.insert((number, inode), AtomicU32::new(run.len() as u32));
            }
            self.pieces.extend(run.iter().map(|&piece| JobPiece { job: number, piece }));
        }
    }

    fn add_small(&mut self, number: u32, job: &'a Job<'a>) {
        let mut add = |small| self.small.push((number, small));
        for (inode, content) in &job.plan.inline {
            if job.layout.place(*inode).is_some() {
                add(Small::File(*inode, content));
            }
        }
        for &inode in &job.layout.files {
            if matches!(job.plan.tree.inodes[inode as usize].kind, Kind::File { size: 0 }) {
                add(Small::File(inode, b""));
            }
        }
        job.layout.specials.iter().for_each(|&inode| add(Small::Special(inode)));
        job.layout.whiteouts.iter().for_each(|&place| add(Small::Whiteout(place)));
    }

    fn make_files(&self, number: u32, job: &Job<'_>) -> Result<(), Error> {
        let mut folders = Folders::new(job.root, &job.layout);
        for &(_, inode) in self.remaining.keys().filter(|&&(owner, _)| owner == number) {
            let Some(place) = job.layout.place(inode) else { continue };
            create_file(folders.get(place.folder)?, place.name, 0o600)
                .map_err(failed("create", &|| job.layout.path(place)))?;
        }
        Ok(())
    }
}

/// Makes a file that is not there yet.
pub(super) fn create_file(folder: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, name, flags, Mode::from_raw_mode(mode))?))
}
