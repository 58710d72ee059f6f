//! Rows of results, and how they are printed.

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::race::Sample;

/// Median, smallest and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of at least one number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 };
        Self { median, min: at(0), max: at(values.len().wrapping_sub(1)) }
    }

    /// The spread of the times of a contender.
    pub(crate) fn seconds(samples: &[Sample]) -> Self {
        Self::of(samples.iter().map(|sample| sample.seconds))
    }

    fn exactly(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
}

/// What the numbers of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    /// Megabytes (10^6) of input per second of processor time.
    Throughput,
    /// Bytes a second, shown in Gbit/s.
    Speed,
    /// So many a second.
    Rate,
}

/// What a row should be; compared with its ratio, or with its own value when there is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

impl Aim {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: Unit,
    ours: Spread,
    peer: Option<(String, Spread)>,
    ratio: Option<f64>,
    aim: Option<Aim>,
    met: Option<bool>,
}

impl Row {
    /// Two contenders of a race. The ratio is the median of the ratios of each round: what slowed the machine for a while
    /// slowed both.
    pub(crate) fn times(what: &str, ours: &[Sample], peer: &str, theirs: &[Sample]) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.seconds / theirs.seconds);
        let ratio = Spread::of(ratios).median;
        let peer = Some((peer.to_owned(), Spread::seconds(theirs)));
        Self { peer, ratio: Some(ratio), ..Self::alone(what, Unit::Seconds, Spread::seconds(ours)) }
    }

    /// What two contenders measured themselves, round by round; the ratio as in [`Row::times`].
    pub(crate) fn rates(what: &str, unit: Unit, ours: &[f64], peer: &str, theirs: &[f64]) -> Self {
        let ratio = Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs)).median;
        let peer = Some((peer.to_owned(), Spread::of(theirs.iter().copied())));
        Self { peer, ratio: Some(ratio), ..Self::alone(what, unit, Spread::of(ours.iter().copied())) }
    }

    /// Two sizes in bytes.
    pub(crate) fn sizes(what: &str, ours: u64, peer: &str, theirs: u64) -> Self {
        let (ours, theirs) = (ours as f64, theirs as f64);
        let peer = Some((peer.to_owned(), Spread::exactly(theirs)));
        Self { peer, ratio: Some(ours / theirs), ..Self::alone(what, Unit::Bytes, Spread::exactly(ours)) }
    }

    /// A size that nothing is compared with.
    pub(crate) fn size(what: &str, bytes: u64) -> Self {
        Self::alone(what, Unit::Bytes, Spread::exactly(bytes as f64))
    }

    /// A value that nothing is compared with.
    pub(crate) fn alone(what: &str, unit: Unit, ours: Spread) -> Self {
        Self { what: what.to_owned(), unit, ours, peer: None, ratio: None, aim: None, met: None }
    }

    /// The same with an aim.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.met = Some(aim.is_met(self.ratio.unwrap_or(self.ours.median)));
        self.aim = Some(aim);
        self
    }
}

/// Everything that was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// A benchmark that did not come to an end.
    pub(crate) fn fail(&mut self, benchmark: &str, error: &anyhow::Error) {
        self.failures.push(format!("{benchmark}: {error:#}"));
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// An error when a benchmark did not come to an end. An aim that was not met is none.
    pub(crate) fn into_result(self) -> Result<()> {
        if !self.failures.is_empty() {
            bail!("failed: {}", self.failures.join("\n"));
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let heading = ["", "dpack", "(min-max)", "peer", "", "(min-max)", "ratio", "aim", ""];
        let mut lines = vec![heading.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let widths: Vec<usize> = (0..heading.len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for line in lines {
            let padded = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; 9] {
    let range = |spread: &Spread| match spread.min == spread.max {
        true => String::new(),
        false => format!("({}-{})", value(spread.min, row.unit), value(spread.max, row.unit)),
    };
    let (name, peer, peer_range) = match &row.peer {
        Some((name, spread)) => (name.clone(), value(spread.median, row.unit), range(spread)),
        None => Default::default(),
    };
    let number = |limit: f64| match row.ratio {
        Some(_) => format!("{limit:.2}"),
        None => value(limit, row.unit),
    };
    let aim = match row.aim {
        Some(Aim::AtMost(limit)) => format!("<= {}", number(limit)),
        Some(Aim::Below(limit)) => format!("< {}", number(limit)),
        Some(Aim::AtLeast(limit)) => format!(">= {}", number(limit)),
        None => String::new(),
    };
    let met = match row.met {
        Some(true) => "met",
        Some(false) => "NOT MET",
        None => "",
    };
    [
        row.what.clone(),
        value(row.ours.median, row.unit),
        range(&row.ours),
        name,
        peer,
        peer_range,
        row.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
        aim,
        met.to_owned(),
    ]
}

fn value(number: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if number < 1e-3 => format!("{:.1} us", number * 1e6),
        Unit::Seconds if number < 1.0 => format!("{:.1} ms", number * 1e3),
        Unit::Seconds => format!("{number:.2} s"),
        Unit::Bytes if number < 1e6 => format!("{:.0} kB", number / 1e3),
        Unit::Bytes => format!("{:.2} MB", number / 1e6),
        Unit::Throughput => format!("{number:.1} MB/s"),
        Unit::Speed => format!("{:.2} Gbit/s", number * 8.0 / 1e9),
        Unit::Rate => format!("{number:.0}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: &[f64]) -> Vec<Sample> {
        seconds.iter().map(|&seconds| Sample { seconds, processor_seconds: 0.0 }).collect()
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // the second round was ten times slower for both
        let row = Row::times("start", &samples(&[0.02, 0.2, 0.02]), "crun", &samples(&[0.01, 0.1, 0.01]));
        assert_eq!(row.ratio, Some(2.0));
        assert_eq!(row.clone().aim(Aim::AtMost(2.0)).met, Some(true));
        assert_eq!(row.aim(Aim::Below(2.0)).met, Some(false));
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_a_missed_aim_is_no_error() {
        let mut report = Report::default();
        report.add(Row::sizes("size", 12_000_000, "zstd", 10_000_000).aim(Aim::AtMost(1.1)));
        report.add(Row::size("stub", 2_400_000).aim(Aim::Below(2.5e6)));
        let table = report.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("12.00 MB") && lines[1].contains("1.200  <= 1.10"), "{table}");
        assert!(lines[1].ends_with("NOT MET") && lines[2].ends_with("< 2.50 MB  met"), "{table}");
        assert!(report.to_json().unwrap().contains("\"at_most\": 1.1"));
        assert!(report.into_result().is_ok());
    }
}
