//! `stats`: what running containers use, once or again and again. Read from `/proc` and control groups; needs no supervisor.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use dpack_sandbox::cgroup::Statistics;
use serde::Serialize;

use super::super::SUCCESS;
use super::super::args::Stats;
use super::super::output::{Table, bytes, memory};
use super::super::settings::Settings;
use super::super::template::{Field, Shown};
use crate::container::{Container, State};
use crate::plan;

/// Time between two looks: also that over which processor time is measured.
const INTERVAL: Duration = Duration::from_secs(1);

/// One line of `--format json`; the names are Docker's.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Container")]
    container: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "CPUPerc")]
    cpu: String,
    #[serde(rename = "MemUsage")]
    memory: String,
    #[serde(rename = "MemPerc")]
    memory_share: String,
    #[serde(rename = "NetIO")]
    network: String,
    #[serde(rename = "BlockIO")]
    block: String,
    #[serde(rename = "PIDs")]
    processes: String,
}

/// Fields of templates, with Docker's headings.
const FIELDS: &[Field] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// What was seen of a container.
struct Seen {
    container: Container,
    at: Instant,
    statistics: Statistics,
}

/// `stats`
pub(crate) fn run(settings: &Settings, stats: &Stats) -> Result<u8> {
    if !stats.services.is_empty() {
        plan::check_services(&settings.known()?, &stats.services)?;
    }
    let mut before = look(settings, stats)?;
    let shown = &stats.format.format;
    let redraw = std::io::stdout().is_terminal() && *shown == Shown::Table;
    loop {
        std::thread::sleep(INTERVAL);
        let now = look(settings, stats)?;
        let rows: Vec<Row> =
            now.iter().map(|seen| row(seen, earlier(&before, seen), stats.no_trunc)).collect();
        let clear = if redraw && !stats.no_stream { "\x1b[H\x1b[J" } else { "" };
        shown.print(&rows, FIELDS, |rows| format!("{clear}{}", table(rows)))?;
        if stats.no_stream || now.is_empty() {
            return Ok(SUCCESS);
        }
        before = now;
    }
}

fn look(settings: &Settings, stats: &Stats) -> Result<Vec<Seen>> {
    let containers = Container::list(&settings.project)?.into_iter();
    let wanted = containers.filter(|container| {
        stats.services.is_empty() || stats.services.contains(&container.identity.service)
    });
    let seen = wanted.filter_map(|container| match container.state {
        State::Running { pid, .. } => {
            Some(Seen { at: Instant::now(), statistics: Statistics::of(pid), container })
        }
        // Nothing of it is measured.
        _ if stats.all => Some(Seen { at: Instant::now(), statistics: Statistics::default(), container }),
        _ => None,
    });
    Ok(seen.collect())
}

fn earlier<'a>(before: &'a [Seen], now: &Seen) -> Option<&'a Seen> {
    before.iter().find(|seen| seen.container.identity.id == now.container.identity.id)
}

fn row(now: &Seen, before: Option<&Seen>, whole: bool) -> Row {
    let identity = &now.container.identity;
    let statistics = &now.statistics;
    let machine = machine_memory();
    let limit = statistics.memory_limit.filter(|limit| *limit < machine).unwrap_or(machine);
    let pair = |one: Option<u64>, other: Option<u64>, shown: fn(u64) -> String| match (one, other) {
        (Some(one), Some(other)) => format!("{} / {}", shown(one), shown(other)),
        _ => "-- / --".to_owned(),
    };
    Row {
        id: if whole { identity.id.clone() } else { identity.short_id().to_owned() },
        container: identity.short_id().to_owned(),
        name: identity.name.clone(),
        cpu: before.and_then(|before| share(before, now)).map_or_else(|| "--".to_owned(), percent),
        memory: pair(statistics.memory, Some(limit), memory),
        memory_share: statistics.memory.map_or_else(|| "--".to_owned(), |used| percent(ratio(used, limit))),
        network: pair(statistics.network_received, statistics.network_sent, bytes),
        block: pair(statistics.block_read, statistics.block_written, bytes),
        processes: statistics.processes.map_or_else(|| "--".to_owned(), |count| count.to_string()),
    }
}

/// Of one processor, so that two that are busy are 200 %, as Docker shows it.
fn share(before: &Seen, now: &Seen) -> Option<f64> {
    let used = now.statistics.cpu_microseconds?.saturating_sub(before.statistics.cpu_microseconds?);
    let passed = now.at.saturating_duration_since(before.at).as_micros();
    Some(ratio(used, u64::try_from(passed).ok()?))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "NET I/O",
        "BLOCK I/O",
        "PIDS",
    ]);
    for row in rows {
        table.row(
            [
                &row.id,
                &row.name,
                &row.cpu,
                &row.memory,
                &row.memory_share,
                &row.network,
                &row.block,
                &row.processes,
            ]
            .map(Clone::clone),
        );
    }
    table
}
