//! How an operation tells its client how far it is: from any thread, and whether or not the client still listens.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dpack_payload::digest::DiffId;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::protocol::{Event, Item, Phase, Progress};

/// Extraction is reported at most this often.
const PAUSE: Duration = Duration::from_millis(100);

/// The client's end of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    events: UnboundedSender<Event>,
    /// Told when the client has answered [`Event::Uplink`]; none when it cannot do what that asks for.
    answered: Option<Arc<Notify>>,
}

impl Reporter {
    /// Events go to `events`.
    pub(crate) fn new(events: UnboundedSender<Event>, answered: Option<Arc<Notify>>) -> Self {
        Self { events, answered }
    }

    /// Lets the client make the kernel's way out, if it can, and waits until it has tried.
    pub(crate) async fn make_uplink(&self) {
        if let Some(answered) = &self.answered {
            self.send(Event::Uplink);
            answered.notified().await;
        }
    }

    /// Sends an event. A client that went away is no error: what it asked for is done all the same.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Something has got further.
    pub(crate) fn item(&self, kind: Item, name: &str, phase: Phase) {
        self.send(Event::Progress(Progress::Item { kind, name: name.to_owned(), phase }));
    }

    /// A container has got further.
    pub(crate) fn container(&self, name: &str, phase: Phase) {
        self.item(Item::Container, name, phase);
    }

    /// Something the user should know.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning(text.into()));
    }

    /// For the store, which extracts in threads.
    pub(crate) fn extraction(&self) -> Extraction {
        Extraction { reporter: self.clone(), state: Mutex::default() }
    }
}

/// Adds up what the threads of an extraction report.
pub(crate) struct Extraction {
    reporter: Reporter,
    state: Mutex<Extracted>,
}

#[derive(Default)]
struct Extracted {
    done: u64,
    total: u64,
    told: Option<Instant>,
}

impl Extraction {
    /// Whether anything was extracted.
    pub(crate) fn happened(&self) -> bool {
        self.state.lock().is_ok_and(|state| state.told.is_some())
    }

    fn tell(&self, change: impl FnOnce(&mut Extracted), urgent: bool) {
        let Ok(mut state) = self.state.lock() else { return };
        change(&mut state);
        let due = state.told.is_none_or(|told| told.elapsed() >= PAUSE);
        if urgent || due {
            state.told = Some(Instant::now());
            self.reporter.send(Event::Progress(Progress::Layers { done: state.done, total: state.total }));
        }
    }
}

impl dpack_store::Progress for Extraction {
    fn waiting(&self) {
        self.reporter.warn("another project is extracting layers; waiting for it");
    }

    fn begin(&self, _layers: &[DiffId], bytes: u64, _entries: u64) {
        self.tell(|state| state.total = bytes, true);
    }

    fn advance(&self, bytes: u64, _entries: u64) {
        // `end` says that all is done.
        self.tell(|state| state.done = (state.done + bytes).min(state.total.saturating_sub(1)), false);
    }

    fn end(&self, _skipped: u64) {
        if self.happened() {
            self.tell(|state| state.done = state.total, true);
        }
    }
}
