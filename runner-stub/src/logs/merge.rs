//! Several logs as one, ordered by time.

use anyhow::Result;

use super::{Line, Reader};

/// Logs being merged. Lines of one log keep their order; between logs the earlier time comes first.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    reader: Reader,
    head: Option<Line>,
}

impl Merged {
    /// Adds a log; its number comes with each of its lines.
    pub(crate) fn add(&mut self, reader: Reader) -> usize {
        self.sources.push(Source { reader, head: None });
        self.sources.len() - 1
    }

    /// The earliest line that is there by now, and the number of its log.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Line)>> {
        for source in self.sources.iter_mut().filter(|source| source.head.is_none()) {
            source.head = source.reader.next()?;
        }
        let times = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(number, source)| Some((source.head.as_ref()?.time, number)));
        let earliest = times.min().map(|(_, number)| number);
        Ok(earliest.and_then(|number| Some((number, self.sources[number].head.take()?))))
    }

    /// What is left of a line of log `number` that its writer never ended.
    pub(crate) fn rest(&mut self, number: usize) -> Option<Line> {
        self.sources.get_mut(number)?.reader.rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Start;

    #[test]
    fn lines_come_by_time_and_late_ones_when_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: &[(&str, u32)]| {
            let content: String = lines
                .iter()
                .map(|(text, s)| format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:{s:02}Z\"}}\n"))
                .collect();
            std::fs::write(folder.path().join(name), content).unwrap();
        };
        write("a", &[("a1", 1), ("a4", 4), ("a5", 5)]);
        write("b", &[("b2", 2), ("b3", 3)]);
        let mut merged = Merged::default();
        for name in ["a", "b", "c"] {
            merged.add(Reader::open(&folder.path().join(name), Start::Beginning).unwrap());
        }
        let drain = |merged: &mut Merged| -> Vec<(usize, String)> {
            std::iter::from_fn(|| merged.next().unwrap()).map(|(number, line)| (number, line.text)).collect()
        };
        let expected =
            [(0, "a1"), (1, "b2"), (1, "b3"), (0, "a4"), (0, "a5")].map(|(n, text)| (n, text.to_owned()));
        assert_eq!(drain(&mut merged), expected);
        write("c", &[("c0", 0)]);
        assert_eq!(drain(&mut merged), [(2, "c0".to_owned())]);
    }
}
