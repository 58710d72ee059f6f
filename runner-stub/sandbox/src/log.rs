//! `log.json`: what the container writes, one JSON object a line, as Docker's json-file driver has it.
//!
//! A line ends with its newline, at 16 KiB or at the end of the stream. Lines of one read are written with one `write`.
//! When the disk is full nothing blocks the container: lines are dropped and counted, a torn line is cut off again, and the
//! first line that can be written afterwards says how many are missing.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::time;

/// Longest line; longer ones are split, all but the last without a newline.
const LONGEST: usize = 16 * 1024;

/// One of a container's streams.
#[derive(Debug)]
pub(crate) struct Stream {
    name: &'static str,
    pending: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(name: &'static str) -> Self {
        Stream { name, pending: Vec::new() }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// Nothing.
    pub(crate) none: bool,
    /// Bytes after which a new file is begun.
    pub(crate) size: Option<u64>,
    /// Files that are kept, the present one included.
    pub(crate) files: u64,
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    batch: String,
    lines: u64,
    dropped: u64,
}

impl Log {
    /// Opens for appending. A torn last line (power cut) is ended.
    pub(crate) fn open(path: &Path, limits: LogLimits) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).read(true).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let mut last = [b'\n'];
        if length > 0 {
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, length - 1)?;
        }
        if last != *b"\n" {
            let _ = file.write_all(b"\n");
        }
        Ok(Log { path: path.to_owned(), limits, file, batch: String::new(), lines: 0, dropped: 0 })
    }

    /// Takes what was read from a stream and writes its whole lines.
    pub(crate) fn append(&mut self, stream: &mut Stream, mut bytes: &[u8]) {
        let time = time::now();
        while !bytes.is_empty() {
            let room = LONGEST - stream.pending.len();
            let newline = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let take = newline.map_or(room.min(bytes.len()), |at| at + 1);
            let (line, rest) = bytes.split_at(take);
            let whole = newline.is_some() || stream.pending.len() + take == LONGEST;
            if whole && stream.pending.is_empty() {
                self.add(stream.name, line, &time);
            } else {
                stream.pending.extend_from_slice(line);
                if whole {
                    self.add(stream.name, &stream.pending, &time);
                    stream.pending.clear();
                }
            }
            bytes = rest;
        }
        self.write();
    }

    /// Writes what is left of a stream that has ended.
    pub(crate) fn finish(&mut self, stream: &mut Stream) {
        if !stream.pending.is_empty() {
            self.add(stream.name, &stream.pending, &time::now());
            stream.pending = Vec::new();
            self.write();
        }
    }

    fn add(&mut self, stream: &str, line: &[u8], time: &str) {
        self.batch.push_str("{\"log\":\"");
        for chunk in line.utf8_chunks() {
            escape(chunk.valid(), &mut self.batch);
            if !chunk.invalid().is_empty() {
                self.batch.push('\u{fffd}');
            }
        }
        for part in ["\",\"stream\":\"", stream, "\",\"time\":\"", time, "\"}\n"] {
            self.batch.push_str(part);
        }
        self.lines += 1;
    }

    fn write(&mut self) {
        if self.limits.none {
            self.lines = 0;
            self.batch.clear();
            return;
        }
        if self.dropped > 0 {
            let notice = format!("dpack: {} lines of the log are missing: no space was left\n", self.dropped);
            let batch = std::mem::take(&mut self.batch);
            self.add("stderr", notice.as_bytes(), &time::now());
            self.lines -= 1;
            self.batch.push_str(&batch);
        }
        match self.write_batch() {
            Ok(()) => self.dropped = 0,
            Err(_) => self.dropped += self.lines,
        }
        self.lines = 0;
        self.batch.clear();
        self.batch.shrink_to(4 * LONGEST);
    }

    /// `log.json` becomes `log.1.json`, that `log.2.json`, and the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..self.limits.files).rev() {
            let from = if age == 1 { self.path.clone() } else { earlier(&self.path, age - 1) };
            match std::fs::rename(from, earlier(&self.path, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.limits.files <= 1 {
            std::fs::remove_file(&self.path)?;
        }
        self.file = File::options().create(true).append(true).read(true).open(&self.path)?;
        Ok(())
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let mut start = self.file.seek(SeekFrom::End(0))?;
        if self.limits.size.is_some_and(|size| start >= size) {
            self.rotate()?;
            start = 0;
        }
        let result = self.file.write_all(self.batch.as_bytes());
        if result.is_err() {
            self.file.set_len(start)?;
        }
        result
    }
}

/// The file beside `log.json` that was it `age` files ago.
fn earlier(path: &Path, age: u64) -> PathBuf {
    path.with_extension(format!("{age}.json"))
}

/// The inside of a JSON string.
fn escape(text: &str, out: &mut String) {
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        let code = character as u32;
        if code >= 0x20 && character != '"' && character != '\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(DIGITS[(code >> 4) as usize & 15]));
                out.push(char::from(DIGITS[code as usize & 15]));
            }
        }
    }
    out.push_str(&text[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let parse = |line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |key: &str| value[key].as_str().unwrap().to_owned();
            (text("stream"), text("log"))
        };
        text.lines().map(parse).collect()
    }

    #[test]
    fn lines_are_whole_escaped_and_split_at_16_kib() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Log::open(&path, LogLimits::default()).unwrap();
        let (mut out, mut err) = (Stream::new("stdout"), Stream::new("stderr"));
        log.append(&mut out, b"one\ntw");
        log.append(&mut err, b"\"q\" \\ \t\x1b \xff\xfe \xe2\x82\xac\n");
        log.append(&mut out, b"o\n");
        let long = [b'x'; LONGEST + 5];
        log.append(&mut out, &long);
        log.finish(&mut out);
        let expected = [
            ("stdout", "one\n".to_owned()),
            ("stderr", "\"q\" \\ \t\u{1b} \u{fffd}\u{fffd} €\n".to_owned()),
            ("stdout", "two\n".to_owned()),
            ("stdout", "x".repeat(LONGEST)),
            ("stdout", "xxxxx".to_owned()),
        ];
        assert_eq!(lines(&path), expected.map(|(stream, text)| (stream.to_owned(), text)));
    }

    #[test]
    fn a_torn_last_line_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        std::fs::write(&path, "{\"log\":\"tor").unwrap();
        let mut log = Log::open(&path, LogLimits::default()).unwrap();
        log.append(&mut Stream::new("stdout"), b"next\n");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("{\"log\":\"next\\n\",\"stream\":\"stdout\",\"time\":\"2")
        );
    }

    #[test]
    fn a_limited_log_is_kept_in_some_files_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let limits = LogLimits { none: false, size: Some(100), files: 3 };
        let mut log = Log::open(&path, limits).unwrap();
        let mut out = Stream::new("stdout");
        for line in ["1\n", "2\n", "3\n", "4\n", "5\n", "6\n", "7\n", "8\n"] {
            log.append(&mut out, line.as_bytes());
        }
        let texts = |path: &Path| lines(path).into_iter().map(|(_, text)| text).collect::<String>();
        assert_eq!(
            [earlier(&path, 2), earlier(&path, 1), path.clone()].map(|path| texts(&path)),
            ["3\n4\n", "5\n6\n", "7\n8\n"]
        );
        assert!(!earlier(&path, 3).exists());
        let mut log = Log::open(&path, LogLimits { none: true, ..limits }).unwrap();
        log.append(&mut out, b"9\n");
        assert_eq!(texts(&path), "7\n8\n");
    }

    #[test]
    fn a_full_disk_drops_and_counts() {
        let mut log = Log {
            path: "/dev/full".into(),
            limits: LogLimits::default(),
            file: File::options().write(true).open("/dev/full").unwrap(),
            batch: String::new(),
            lines: 0,
            dropped: 0,
        };
        let mut out = Stream::new("stdout");
        log.append(&mut out, b"1\n2\n");
        log.append(&mut out, b"3\n");
        assert_eq!(log.dropped, 3);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        log.file = File::create(&path).unwrap();
        log.append(&mut out, b"4\n");
        let found = lines(&path);
        assert_eq!(found[0].1, "dpack: 3 lines of the log are missing: no space was left\n");
        assert_eq!(found[1].1, "4\n");
    }
}
