//! What is printed: data on standard output, everything else on standard error.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::Failure;

/// Writes to standard output. A closed pipe (`| head`) ends the program quietly, as it ends other tools; a full disk does not.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(141);
    }
    let failure = Failure::environment(format!("failed to write to standard output: {error}"));
    report(&failure);
    std::process::exit(failure.exit_status().into());
}

/// Prints a value as JSON and a newline.
pub(crate) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Writes a line to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Reports a failure: one line, and what to do about it.
pub(crate) fn report(failure: &Failure) {
    note(&format!("error: {}", failure.message));
    if let Some(hint) = &failure.hint {
        note(&format!("hint: {}", hint.replace('\n', "\n      ")));
    }
}

/// Columns, each as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}   "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Bytes as people read them, in the decimal units of Docker.
pub(crate) fn bytes(count: u64) -> String {
    scaled(count, 1_000.0, ["kB", "MB", "GB", "TB"])
}

/// Bytes of memory, in the binary units of Docker.
pub(crate) fn memory(count: u64) -> String {
    scaled(count, 1_024.0, ["KiB", "MiB", "GiB", "TiB"])
}

fn scaled(count: u64, step: f64, units: [&str; 4]) -> String {
    let mut value = count as f64;
    if value < step {
        return format!("{count}B");
    }
    value /= step;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["NAME", "PORTS"]);
        table.row(["shop-web-1".to_owned(), "0.0.0.0:80->80/tcp".to_owned()]);
        table.row(["x".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME         PORTS\nshop-web-1   0.0.0.0:80->80/tcp\nx\n");
    }

    #[test]
    fn sizes_read_like_dockers() {
        for (count, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1.00kB"),
            (12_345, "12.3kB"),
            (131_000_000, "131MB"),
            (999_700, "1.00MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (count, text) in [(1_000, "1000B"), (64 << 20, "64.0MiB"), (1023 << 10, "1.00MiB")] {
            assert_eq!(memory(count), text);
        }
    }
}
