//! Progress of a request, on standard error: a list that is drawn over on a terminal, plain lines elsewhere.

use std::io::{self, Write as _};

use super::output;
use crate::protocol::{Event, Item, Phase, Progress};

/// Going up works only as far as the screen reaches: with more lines than this, they are printed one by one.
const MOST_LINES: usize = 20;

/// Shows progress.
#[derive(Debug)]
pub(crate) struct Display {
    redraw: bool,
    /// What is on the screen, from the top.
    items: Vec<(String, String, bool)>,
    drawn: usize,
    layers: Option<(u64, u64)>,
    /// Only warnings are shown.
    quiet: bool,
}

impl Display {
    /// `redraw`: standard error is a terminal that can go up a line.
    pub(crate) fn new(redraw: bool) -> Self {
        Self { redraw, items: Vec::new(), drawn: 0, layers: None, quiet: false }
    }

    /// Shows warnings only.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true, ..Self::new(false) }
    }

    /// Shows an event that is not the last.
    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Progress(_) if self.quiet => {}
            Event::Progress(Progress::Item { kind, name, phase }) => self.item(*kind, name, *phase),
            Event::Progress(Progress::Layers { done, total }) => self.layers(*done, *total),
            Event::Warning(text) => {
                self.items.clear();
                self.drawn = 0;
                output::note(&format!("warning: {text}"));
            }
            Event::Uplink | Event::Done(_) | Event::Failed(_) | Event::Superseded => {}
        }
    }

    fn item(&mut self, kind: Item, name: &str, phase: Phase) {
        let title = match kind {
            Item::Container => format!("Container {name}"),
            Item::Network => format!("Network {name}"),
            Item::Volume => format!("Volume {name}"),
        };
        self.line(title, format!("{phase:?}"), phase.is_final());
    }

    fn layers(&mut self, done: u64, total: u64) {
        let finished = done >= total;
        let first = self.layers.is_none();
        self.layers = Some((done, total));
        let state = if finished {
            format!("Extracted {}", output::bytes(total))
        } else if self.redraw {
            format!("Extracting {}/{}", output::bytes(done), output::bytes(total))
        } else {
            format!("Extracting {}", output::bytes(total))
        };
        if self.redraw || first || finished {
            self.line("Layers".to_owned(), state, finished);
        }
    }

    fn line(&mut self, title: String, state: String, finished: bool) {
        let known = self.items.iter().any(|(known, ..)| *known == title);
        self.redraw &= known || self.items.len() < MOST_LINES;
        if !self.redraw {
            output::note(&format!(" {title}  {state}"));
            return;
        }
        match self.items.iter_mut().find(|(known, ..)| *known == title) {
            Some(item) => (item.1, item.2) = (state, finished),
            None => self.items.push((title, state, finished)),
        }
        self.draw();
    }

    /// Goes up over what was drawn and draws it anew.
    fn draw(&mut self) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let width = self.items.iter().map(|(title, ..)| title.chars().count()).max().unwrap_or(0);
        for (title, state, finished) in &self.items {
            let mark = if *finished { '✔' } else { ' ' };
            text.push_str(&format!("\r\x1b[K {mark} {title:<width$}  {state}\n"));
        }
        self.drawn = self.items.len();
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
