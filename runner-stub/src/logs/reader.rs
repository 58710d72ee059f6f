//! One log file, line by line, from any point, while it grows.

use std::borrow::Cow;
use std::collections::VecDeque;
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

/// Files of one log that are looked at for the one that was open.
const MOST_FILES: u64 = 100;

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
    /// Files that come after it, up to the one at `path`.
    next: VecDeque<File>,
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
            next: VecDeque::new(),
            buffer: Vec::new(),
            used: 0,
            skipping: false,
            partial: [None, None],
        };
        if reader.reopen()? {
            reader.go_to(start).with_context(|| format!("failed to read `{}`", path.display()))?;
        }
        Ok(reader)
    }

    /// Goes to where reading begins: in the file that is open, or in one that was the log before it.
    fn go_to(&mut self, start: Start) -> std::io::Result<()> {
        let Some(newest) = self.file.take() else { return Ok(()) };
        let mut files = VecDeque::from([newest]);
        let mut offset = 0;
        match start {
            Start::Offset(known) => offset = known,
            Start::Beginning => {
                for age in 1.. {
                    let Ok(file) = File::open(earlier(&self.path, age)) else { break };
                    files.push_front(file);
                }
            }
            Start::Last(mut missing) => {
                for age in 1.. {
                    let (found, left) = offset_of_last(&files[0], missing)?;
                    (offset, missing) = (found, left);
                    if left == 0 {
                        break;
                    }
                    let Ok(file) = File::open(earlier(&self.path, age)) else { break };
                    files.push_front(file);
                }
            }
        }
        if let Some(mut file) = files.pop_front() {
            file.seek(SeekFrom::Start(offset))?;
            self.inode = file.metadata()?.ino();
            self.file = Some(file);
        }
        self.next = files;
        Ok(())
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
            if !self.read_block()? && !self.next_file()? && !self.reopen()? {
                return Ok(None);
            }
        }
    }

    /// What is left of a line that its writer never ended; for when the container is gone.
    pub(crate) fn rest(&mut self) -> Option<Line> {
        self.partial.iter_mut().find_map(Option::take)
    }

    /// The file that is open is now the one `age` files before the log.
    fn is_now(&self, age: u64) -> bool {
        self.file.is_some()
            && std::fs::metadata(earlier(&self.path, age)).is_ok_and(|found| found.ino() == self.inode)
    }

    /// Goes on with the file after the one that is open, if there is one.
    fn next_file(&mut self) -> Result<bool> {
        let Some(file) = self.next.pop_front() else { return Ok(false) };
        self.inode = file.metadata()?.ino();
        self.file = Some(file);
        Ok(true)
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
        // What was written between our last look and the change is still in the old file.
        if self.file.is_some() && self.read_block()? {
            return Ok(true);
        }
        if let Some(age) = (1..=MOST_FILES).find(|age| self.is_now(*age)) {
            let newer = (1..age).rev().filter_map(|age| File::open(earlier(&self.path, age)).ok());
            self.next = newer.chain(File::open(&self.path).ok()).collect();
            return self.next_file();
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

/// The file beside the log that was it `age` files ago.
fn earlier(path: &Path, age: u64) -> PathBuf {
    path.with_extension(format!("{age}.json"))
}

/// Offset from which `lines` lines follow, found from the end: the log may be large. And how many are missing when the
/// file has less.
fn offset_of_last(file: &File, lines: usize) -> std::io::Result<(u64, usize)> {
    let size = file.metadata()?.len();
    if lines == 0 {
        return Ok((size, 0));
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
                return Ok((from + end as u64 + 1, 0));
            }
            tail.truncate(begin + 1);
        }
    }
    // The very first object is left.
    missing -= usize::from(tail.strip_suffix(b"\n").is_some_and(ends_a_line));
    Ok(if missing == 0 { (tail.len() as u64, 0) } else { (0, missing - 1) })
}

fn ends_a_line(object: &[u8]) -> bool {
    serde_json::from_slice::<Object<'_>>(object).is_ok_and(|object| object.log.ends_with('\n'))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
