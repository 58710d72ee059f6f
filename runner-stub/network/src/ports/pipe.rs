//! Pipes for splice(2), lent out while data is on its way.
//!
//! Idle connections have none, only those whose receiver is slower than their sender keep one. The kernel limits the
//! memory of one user's pipes (`pipe-user-pages-soft`, 16,384 pages: beyond that a new pipe holds a page or two, other
//! programs' too), so only a few are larger than usual.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes a pipe takes at most. Half a megabyte keeps two pages of a cache warm and the number of system calls low.
pub(super) const CAPACITY: usize = 512 * 1024;
/// Pipes kept for later, and pipes that are larger than the usual 64 KiB.
const SPARE: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    static LARGE: Cell<usize> = const { Cell::new(0) };
}

/// A pipe between two sockets.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    is_large: bool,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.is_large {
            LARGE.set(LARGE.get().saturating_sub(1));
        }
    }
}

impl Pipe {
    /// An empty pipe.
    pub(super) fn take() -> io::Result<Pipe> {
        if let Some(pipe) = POOL.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe is slower, nothing else.
        let is_large = LARGE.get() < SPARE && fcntl_setpipe_size(&writer, CAPACITY).is_ok();
        if is_large {
            LARGE.set(LARGE.get() + 1);
        }
        Ok(Pipe { reader, writer, is_large })
    }

    /// Gives an *empty* pipe back for the next connection; one that still holds data must be dropped.
    pub(super) fn give_back(self) {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < SPARE {
                pool.push(self);
            }
        });
    }
}
