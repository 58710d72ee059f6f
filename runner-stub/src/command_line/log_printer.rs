//! How lines of logs look: prefixes, colours, times; and following them.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::output;
use crate::container::{self, Container, State};
use crate::logs::{Follower, Line, Merged, Reader, Stream};
use crate::paths::ProjectPaths;
use crate::time::{self, Nanoseconds};

/// Docker Compose's colours for service names, in its order.
const COLOURS: [&str; 10] = ["36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1"];
/// A container that exited may be started again by its restart policy a moment later.
const GONE_FOR_GOOD: Duration = Duration::from_millis(400);
/// A shim that was killed leaves no record to be woken by.
const LOOK: Duration = Duration::from_secs(2);

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Prefixes in colour.
    pub(crate) colour: bool,
    /// No prefixes.
    pub(crate) plain: bool,
    /// Show when each line was written.
    pub(crate) timestamps: bool,
    /// What was written to standard error is printed there.
    pub(crate) streams_apart: bool,
    /// Only lines from then on.
    pub(crate) since: Option<Nanoseconds>,
    /// Only lines up to then.
    pub(crate) until: Option<Nanoseconds>,
}

/// A container that exited while its log was followed.
#[derive(Debug)]
pub(crate) struct Exited<'a> {
    /// Its folder's name.
    pub(crate) container: &'a str,
    /// Its name as prefixes have it.
    pub(crate) prefix: &'a str,
    /// Exit status.
    pub(crate) code: i32,
}

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Go on until every container is gone.
    On,
    /// Nothing more.
    End,
}

/// Prints the logs of some containers.
pub(crate) struct Printer {
    look: Look,
    project: ProjectPaths,
    merged: Merged,
    sources: Vec<Source>,
    width: usize,
}

struct Source {
    folder: PathBuf,
    prefix: String,
    colour: &'static str,
    /// Its lines are not shown.
    silent: bool,
    running: bool,
    /// Not running since.
    still: Option<Instant>,
}

impl Printer {
    /// Prints nothing yet.
    pub(crate) fn new(look: Look, project: &ProjectPaths) -> Self {
        Self { look, project: project.clone(), merged: Merged::default(), sources: Vec::new(), width: 0 }
    }

    /// Adds a container's log.
    pub(crate) fn add(&mut self, container: &str, project_name: &str, reader: Reader) {
        let number = self.merged.add(reader);
        let prefix = container::prefix(container, project_name).to_owned();
        self.width = self.width.max(prefix.chars().count());
        let folder = self.project.container(container);
        let colour = COLOURS[number % COLOURS.len()];
        self.sources.push(Source { folder, prefix, colour, silent: false, running: false, still: None });
    }

    /// Shows nothing of the container that was added last; its exit counts all the same.
    pub(crate) fn silence(&mut self) {
        if let Some(source) = self.sources.last_mut() {
            source.silent = true;
        }
        let shown = self.sources.iter().filter(|source| !source.silent);
        self.width = shown.map(|source| source.prefix.chars().count()).max().unwrap_or(0);
    }

    /// Names of the containers as their prefixes have them.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.sources.iter().filter(|source| !source.silent).map(|source| source.prefix.as_str()).collect()
    }

    /// Prints every line that is there by now.
    pub(crate) fn drain(&mut self) -> Result<()> {
        while let Some((number, line)) = self.merged.next()? {
            self.print(number, &line);
        }
        Ok(())
    }

    /// Prints beginnings of lines whose end never came.
    pub(crate) fn rest(&mut self) {
        for number in 0..self.sources.len() {
            while let Some(line) = self.merged.rest(number) {
                self.print(number, &line);
            }
        }
    }

    /// Prints what comes until every container is gone for good, or `exited` has seen enough.
    pub(crate) fn follow(&mut self, exited: &mut dyn FnMut(&Exited<'_>) -> Follow) -> Result<()> {
        let mut follower = Follower::new();
        let mut watched: BTreeMap<usize, bool> = BTreeMap::new();
        loop {
            for (number, source) in self.sources.iter().enumerate() {
                // The log comes with the first start, so that a second watch is needed then.
                let log = source.folder.join("log.json").exists();
                if watched.get(&number) != Some(&log) {
                    follower.watch(&source.folder);
                    watched.insert(number, log);
                }
            }
            let ended = self.look_at_states()?;
            self.drain()?;
            for (number, code) in ended {
                while let Some(line) = self.merged.rest(number) {
                    self.print(number, &line);
                }
                let source = &self.sources[number];
                let container = source.folder.file_name().unwrap_or_default().to_string_lossy();
                if exited(&Exited { container: &container, prefix: &source.prefix, code }) == Follow::End {
                    return Ok(());
                }
            }
            let longest_wait =
                match self.sources.iter().map(|source| source.still.map(|since| since.elapsed())).min() {
                    None => return Ok(()),
                    Some(None) => LOOK,
                    Some(Some(_)) => {
                        let last = self.sources.iter().filter_map(|source| source.still).max();
                        let quiet = last.map_or(Duration::ZERO, |since| since.elapsed());
                        if quiet >= GONE_FOR_GOOD {
                            return Ok(());
                        }
                        GONE_FOR_GOOD - quiet
                    }
                };
            follower.wait(longest_wait);
        }
    }

    /// Containers that exited since the last look, and their exit status.
    fn look_at_states(&mut self) -> Result<Vec<(usize, i32)>> {
        let mut exited = Vec::new();
        for (number, source) in self.sources.iter_mut().enumerate() {
            let state = Container::load(&source.folder)?.map(|container| container.state);
            let ended = match state {
                Some(State::Exited { code, .. } | State::Restarting { code, .. }) => Some(code),
                None => Some(137),
                _ => None,
            };
            // A container that was gone before we looked for the first time exited unseen.
            match ended {
                Some(code) if source.running => exited.push((number, code)),
                _ => {}
            }
            source.running = state.is_some_and(State::is_running);
            let gone = matches!(state, None | Some(State::Exited { .. } | State::Created));
            source.still = if gone { Some(source.still.unwrap_or_else(Instant::now)) } else { None };
        }
        Ok(exited)
    }

    /// Counts every container as one that was seen running: an exit that comes before our first look is told too.
    pub(crate) fn expect_running(&mut self) {
        self.sources.iter_mut().for_each(|source| source.running = true);
    }

    fn print(&self, number: usize, line: &Line) {
        let source = &self.sources[number];
        let outside = self.look.since.is_some_and(|since| line.time < since)
            || self.look.until.is_some_and(|until| line.time > until);
        if source.silent || outside {
            return;
        }
        let mut text = String::with_capacity(line.text.len() + 64);
        if !self.look.plain {
            let (prefix, width) = (&source.prefix, self.width);
            match self.look.colour {
                true => text.push_str(&format!("\x1b[{}m{prefix:<width$}  | \x1b[0m", source.colour)),
                false => text.push_str(&format!("{prefix:<width$}  | ")),
            }
        }
        if self.look.timestamps {
            text.push_str(&time::format(line.time));
            text.push(' ');
        }
        text.push_str(&line.text);
        text.push('\n');
        match line.stream {
            Stream::Stdout => output::print(&text),
            Stream::Stderr if !self.look.streams_apart => output::print(&text),
            Stream::Stderr => {
                let _ = io::stderr().lock().write_all(text.as_bytes());
            }
        }
    }
}
