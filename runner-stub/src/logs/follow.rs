//! Waiting until a log may have grown, without a wake-up while nothing happens.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How often to look when the kernel cannot tell (its limit of watches is reached).
const WITHOUT_INOTIFY: Duration = Duration::from_millis(200);

/// Wakes its owner when a watched file or folder changes. It may wake it for nothing.
#[derive(Debug)]
pub(crate) struct Follower {
    inotify: Option<Inotify>,
    complete: bool,
}

impl Follower {
    /// Watches nothing yet.
    pub(crate) fn new() -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        Self { complete: inotify.is_some(), inotify }
    }

    /// Watches what happens to a container: its log grows, its records appear, it goes away.
    pub(crate) fn watch(&mut self, container: &Path) {
        self.watch_file(container, &container.join("log.json"));
    }

    /// Watches a file that grows, and the folder in which it appears.
    pub(crate) fn watch_file(&mut self, container: &Path, log: &Path) {
        let folder = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE_SELF;
        if let Some(inotify) = &self.inotify {
            let watched = inotify.add_watch(container, folder).is_ok()
                && (!log.exists() || inotify.add_watch(log, AddWatchFlags::IN_MODIFY).is_ok());
            self.complete &= watched;
        }
    }

    /// Waits for a change, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let limit = if self.complete { limit } else { limit.min(WITHOUT_INOTIFY) };
        let mut descriptors: Vec<PollFd<'_>> =
            self.inotify.iter().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut descriptors, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        // What changed does not matter: whoever woke up looks at everything.
        while self
            .inotify
            .as_ref()
            .is_some_and(|inotify| inotify.read_events().is_ok_and(|events| !events.is_empty()))
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_growing_log_wakes_and_silence_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.json");
        std::fs::write(&log, "").unwrap();
        let mut follower = Follower::new();
        follower.watch(folder.path());
        let begin = Instant::now();
        follower.wait(Duration::from_millis(300));
        assert!(begin.elapsed() >= Duration::from_millis(190));
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            std::fs::write(&log, "x").unwrap();
        });
        let begin = Instant::now();
        follower.wait(Duration::from_secs(20));
        assert!(begin.elapsed() < Duration::from_secs(10));
        writer.join().unwrap();
    }
}
