//! Compressing the frames of one executable, on all processors, and writing them in order.
//!
//! ```text
//! workers: take the next frame ─ from the cache, or compress it ─┐
//!                                                              window ── writer: frame 0, 1, 2, …
//! ```
//!
//! Workers run ahead of the writer by a window of frames, which bounds memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Seek, Write};
use std::sync::{Condvar, Mutex, PoisonError};

use dpack_payload::ReadAt as _;
use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::write::{
    CompressError, FramePlan, LayerRecipe, PayloadWriter, Place, PlannedChunk, StoredFrame, WriteError,
    compress_frame,
};

use crate::cache::{self, Cache, Section};
use crate::cancel::{Cancel, Cancelled};
use crate::error::Kind;

/// Why frames could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A frame in the cache was damaged; it has been thrown away, and making it again helps.
    #[error("frame {0} in the cache is damaged")]
    DamagedFrame(Digest),
    /// Compression.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Output.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Cancelled(_) => Kind::Interrupted,
            Error::Write(WriteError::Write(_)) | Error::Cache(_) | Error::DamagedFrame(_) => {
                Kind::Environment
            }
            Error::Write(WriteError::IndexTooLarge(_) | WriteError::TooLargeForElf32(_)) => Kind::Input,
            Error::Compress(CompressError::Fetch { .. }) => Kind::Environment,
            Error::Compress(_) | Error::Write(_) => Kind::Internal,
        }
    }
}

/// Where the content of chunks is.
#[derive(Default)]
pub struct Sources {
    /// Recipes with their skeletons.
    pub recipes: HashMap<DiffId, LayerRecipe>,
    /// Tars of the layers that are needed.
    pub tars: HashMap<DiffId, File>,
}

impl Sources {
    fn read(&self, chunk: &PlannedChunk, buffer: &mut [u8]) -> std::io::Result<()> {
        let missing = || std::io::Error::other("its layer is not at hand");
        match chunk.source.place {
            Place::Skeleton(offset) => {
                let recipe = self.recipes.get(&chunk.source.layer).ok_or_else(missing)?;
                recipe.skeleton.read_exact_at(buffer, offset)
            }
            Place::Tar(offset) => {
                let tar = self.tars.get(&chunk.source.layer).ok_or_else(missing)?;
                tar.read_exact_at(buffer, offset)
            }
        }
    }
}

/// True when the frame's compressed bytes are in the cache.
pub fn is_cached(cache: &Cache, plan: &FramePlan) -> bool {
    cache.contains(Section::Frames, &plan.key.hex())
}

/// What a pipeline shares.
pub struct Pipeline<'a> {
    /// Content.
    pub sources: &'a Sources,
    /// Compressed frames, found and put.
    pub cache: &'a Cache,
    /// Workers.
    pub jobs: usize,
    /// Whether to stop.
    pub cancel: &'a Cancel,
    /// Is told the uncompressed size of each frame that had to be compressed.
    pub compressed: &'a (dyn Fn(u32) + Sync),
}

impl Pipeline<'_> {
    /// Writes all `frames` in order. Returns the stored length of each.
    pub fn write<W: Write + Seek>(
        &self,
        frames: &[FramePlan],
        writer: &mut PayloadWriter<W>,
    ) -> Result<Vec<u64>, Error> {
        let window = Window::new(self.jobs * 2);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(frames.len()) {
                scope.spawn(|| {
                    while let Some(number) = window.take(frames.len()) {
                        window.put(
                            number,
                            self.cancel
                                .check()
                                .map_err(Error::from)
                                .and_then(|()| self.stored(&frames[number])),
                        );
                    }
                });
            }
            // Whatever way the writer ends, the workers must not wait for it.
            let _close = Close(&window);
            let mut lengths = Vec::with_capacity(frames.len());
            for (number, plan) in frames.iter().enumerate() {
                let frame = window.get(number)?;
                writer.frame(plan, &frame)?;
                lengths.push(frame.bytes().len() as u64);
            }
            Ok(lengths)
        })
    }

    /// One frame, from the cache or made and put there.
    fn stored(&self, plan: &FramePlan) -> Result<StoredFrame, Error> {
        let key = plan.key.hex();
        if let Some(sealed) = self.cache.read(Section::Frames, &key, u64::MAX) {
            let frame =
                StoredFrame::from_sealed(sealed).filter(|frame| frame.raw_length() == plan.raw_length);
            return frame.ok_or_else(|| {
                self.cache.remove(Section::Frames, &key);
                Error::DamagedFrame(plan.key)
            });
        }
        let frame = compress_frame(plan, |chunk, buffer| self.sources.read(chunk, buffer))?;
        self.cache.write(Section::Frames, &key, frame.sealed())?;
        (self.compressed)(plan.raw_length);
        Ok(frame)
    }
}

/// Finished frames on their way to the writer.
struct Window {
    state: Mutex<State>,
    changed: Condvar,
    size: usize,
}

#[derive(Default)]
struct State {
    /// Next frame for a worker.
    next: usize,
    /// Frames the writer has got.
    written: usize,
    finished: BTreeMap<usize, Result<StoredFrame, Error>>,
    closed: bool,
}

impl Window {
    fn new(size: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), size }
    }

    /// The number of the next frame to make; waits while the writer is too far behind.
    fn take(&self, count: usize) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed || state.next == count {
                return None;
            }
            if state.next < state.written + self.size {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, number: usize, frame: Result<StoredFrame, Error>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.finished.insert(number, frame);
        self.changed.notify_all();
    }

    /// Waits for a frame.
    fn get(&self, number: usize) -> Result<StoredFrame, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(frame) = state.finished.remove(&number) {
                state.written += 1;
                self.changed.notify_all();
                return frame;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Close<'a>(&'a Window);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.changed.notify_all();
    }
}
