//! A small cache of decompressed frames, for random access from several threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::index::FrameId;

/// The frames used last, up to a number of bytes. Frames are few (hundreds), so a list in order of use is fast enough.
pub(crate) struct FrameCache {
    state: Mutex<State>,
}

struct State {
    capacity: usize,
    used: usize,
    /// Most recently used first.
    frames: VecDeque<(FrameId, Arc<Vec<u8>>)>,
}

impl FrameCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::new(State { capacity, used: 0, frames: VecDeque::new() }) }
    }

    pub(crate) fn get(&self, id: FrameId) -> Option<Arc<Vec<u8>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let position = state.frames.iter().position(|(other, _)| *other == id)?;
        if position != 0 {
            let entry = state.frames.remove(position)?;
            state.frames.push_front(entry);
        }
        state.frames.front().map(|(_, bytes)| Arc::clone(bytes))
    }

    /// Remembers a frame; the one used least recently goes. Two threads may decompress the same frame at once: the
    /// second result is dropped.
    pub(crate) fn insert(&self, id: FrameId, bytes: &Arc<Vec<u8>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.frames.iter().any(|(other, _)| *other == id) {
            return;
        }
        state.used += bytes.len();
        state.frames.push_front((id, Arc::clone(bytes)));
        state.shrink();
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.capacity = capacity;
        state.shrink();
    }
}

impl State {
    /// The newest frame stays in any case.
    fn shrink(&mut self) {
        while self.used > self.capacity && self.frames.len() > 1 {
            if let Some((_, bytes)) = self.frames.pop_back() {
                self.used -= bytes.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_used_least_recently_goes_first() {
        let cache = FrameCache::new(20);
        for id in 0..2 {
            cache.insert(FrameId(id), &Arc::new(vec![0; 10]));
        }
        assert!(cache.get(FrameId(0)).is_some());
        cache.insert(FrameId(2), &Arc::new(vec![0; 10]));
        assert!(cache.get(FrameId(1)).is_none());
        assert!(cache.get(FrameId(0)).is_some() && cache.get(FrameId(2)).is_some());
        cache.insert(FrameId(3), &Arc::new(vec![0; 100]));
        assert_eq!(cache.get(FrameId(3)).unwrap().len(), 100);
        assert!(cache.get(FrameId(0)).is_none());
    }
}
