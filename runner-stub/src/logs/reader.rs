//! One log file, line by line, from any point, while it grows.

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::time::{self, Nanoseconds};

/// What is read at once.
const BLOCK: usize = 64 << 10;
/// A line of output longer than this is shown in pieces; an object longer than this is skipped.
const LONGEST: usize = 1 << 20;

/// Which stream a line was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a container's output, without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When its beginning was written.
    pub(crate) time: Nanoseconds,
    /// Where it was written to.
    pub(crate) stream: Stream,
    /// The text.
    pub(crate) text: String,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the first line.
    Beginning,
    /// So that this many lines come.
    Last(usize),
    /// At this offset, which a reader has told before.
    Offset(u64),
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Reads one log file.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    /// Bytes read and not yet understood, from `used` on.
    buffer: Vec<u8>,
    used: usize,
    /// The object being read is too long; drop what comes up to the next newline.
    skipping: bool,
    /// Beginnings of lines, by stream: stdout, stderr.
    partial: [Option<Line>; 2],
}

impl Reader {
    /// A reader for the log at `path`, which may not be there yet.
    pub(crate) fn open(path: &Path, start: Start) -> Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            file: None,
            inode: 0,
            buffer: Vec::new(),
            used: 0,
            skipping: false,
            partial: [None, None],
        };
        if reader.reopen()?
            && let Some(file) = &mut reader.file
        {
            let offset = match start {
                Start::Beginning => 0,
                Start::Last(lines) => offset_of_last(file, lines)
                    .with_context(|| format!("failed to read `{}`", path.display()))?,
                Start::Offset(offset) => offset,
            };
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(reader)
    }

    /// The size of the log at `path`: where a reader begins that wants only what is still to come.
    pub(crate) fn end_of(path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |metadata| metadata.len())
    }

    /// The next line, if it is there by now.
    pub(crate) fn next(&mut self) -> Result<Option<Line>> {
        loop {
            while let Some(end) = self.buffer[self.used..].iter().position(|byte| *byte == b'\n') {
                let object = self.used..self.used + end;
                self.used += end + 1;
                if std::mem::take(&mut self.skipping) {
                    continue;
                }
                if let Some(line) = take(&mut self.partial, &self.buffer[object]) {
                    return Ok(Some(line));
                }
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            if self.buffer.len() > LONGEST {
                self.buffer.clear();
                self.skipping = true;
            }
            if !self.read_block()? && !self.reopen()? {
                return Ok(None);
            }
        }
    }

    /// What is left of a line that its writer never ended; for when the container is gone.
    pub(crate) fn rest(&mut self) -> Option<Line> {
        self.partial.iter_mut().find_map(Option::take)
    }

    fn read_block(&mut self) -> Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let before = self.buffer.len();
        self.buffer.resize(before + BLOCK, 0);
        let read = file.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + read.as_ref().map_or(0, |count| *count));
        Ok(read.with_context(|| format!("failed to read `{}`", self.path.display()))? > 0)
    }

    /// Opens the file behind the path if it is another one than the one that is open: the container was made anew.
    fn reopen(&mut self) -> Result<bool> {
        let inode = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.ino(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read `{}`", self.path.display()));
            }
        };
        if self.file.is_some() && inode == self.inode {
            return Ok(false);
        }
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.with_context(|| format!("failed to open `{}`", self.path.display()))?,
        };
        self.inode = file.metadata()?.ino();
        self.file = Some(file);
        self.buffer.clear();
        self.used = 0;
        self.partial = [None, None];
        Ok(true)
    }
}

/// Takes one object in. Bytes that are no object (a power cut in the middle of a write) are skipped.
fn take(partial: &mut [Option<Line>; 2], bytes: &[u8]) -> Option<Line> {
    let object: Object<'_> = serde_json::from_slice(bytes).ok()?;
    let (slot, stream) = if object.stream == "stderr" { (1, Stream::Stderr) } else { (0, Stream::Stdout) };
    let line = partial[slot].get_or_insert_with(|| Line {
        time: time::parse(&object.time).unwrap_or(0),
        stream,
        text: String::new(),
    });
    line.text.push_str(object.log.strip_suffix('\n').unwrap_or(&object.log));
    if object.log.ends_with('\n') || line.text.len() > LONGEST { partial[slot].take() } else { None }
}

/// Offset from which `lines` lines follow, found from the end: the log may be large.
fn offset_of_last(file: &File, lines: usize) -> std::io::Result<u64> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok(size);
    }
    let (mut from, mut missing) = (size, lines + 1);
    let mut tail: Vec<u8> = Vec::new();
    while from > 0 {
        let block = usize::try_from(from).unwrap_or(usize::MAX).min(BLOCK);
        from -= block as u64;
        let mut bytes = vec![0; block];
        file.read_exact_at(&mut bytes, from)?;
        bytes.append(&mut tail);
        tail = bytes;
        // Objects from the end; the first one in `tail` may be cut and waits for the next block.
        while let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') {
            let Some(begin) = tail[..end].iter().rposition(|byte| *byte == b'\n') else { break };
            missing -= usize::from(ends_a_line(&tail[begin + 1..end]));
            if missing == 0 {
                return Ok(from + end as u64 + 1);
            }
            tail.truncate(begin + 1);
        }
    }
    // The very first object is left; it is needed in any case.
    Ok(0)
}

fn ends_a_line(object: &[u8]) -> bool {
    serde_json::from_slice::<Object<'_>>(object).is_ok_and(|object| object.log.ends_with('\n'))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
