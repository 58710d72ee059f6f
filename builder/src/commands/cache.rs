//! `dpack cache ls` and `dpack cache prune`.

use std::time::SystemTime;

use anyhow::Result;
use dpack::cache::{Cache, Entry, Section};
use serde::Serialize;

use crate::args::{CacheCommand, ListFormat};
use crate::failure::Usage;
use crate::settings::{Environment, SIZE_HINT, parse_size};
use crate::text::{message, print, print_json, size, table};

pub(crate) fn run(command: &CacheCommand, environment: &Environment) -> Result<()> {
    match command {
        CacheCommand::Ls { format } => list(*format, environment),
        CacheCommand::Prune { all, keep } => prune(*all, keep.as_deref(), environment),
    }
}

/// The cache as JSON; field names are stable.
#[derive(Serialize)]
struct Listing {
    folder: String,
    size: u64,
    limit: u64,
    entries: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    section: &'static str,
    key: String,
    size: u64,
    /// Seconds since 1970.
    used: u64,
}

fn list(format: ListFormat, environment: &Environment) -> Result<()> {
    let cache = Cache::open(&environment.cache_dir()?)?;
    let limit = environment.cache_limit()?;
    let entries = cache.entries()?;
    let total: u64 = entries.iter().map(|entry| entry.size).sum();
    let folder = cache.root().display().to_string();
    if format == ListFormat::Json {
        let entries = entries.into_iter().map(|Entry { section, key, size, used }| Item {
            section: section.name(),
            key,
            size,
            used: used.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |used| used.as_secs()),
        });
        return print_json(&Listing { folder, size: total, limit, entries: entries.collect() });
    }
    let mut rows = Vec::new();
    for section in Section::ALL {
        let of: Vec<&Entry> = entries.iter().filter(|entry| entry.section == section).collect();
        let bytes = of.iter().map(|entry| entry.size).sum();
        let oldest = of.iter().map(|entry| entry.used).min().map_or("-".to_owned(), age);
        rows.push(vec![section.name().to_owned(), of.len().to_string(), size(bytes), oldest]);
    }
    rows.push(vec!["all".to_owned(), entries.len().to_string(), size(total), String::new()]);
    let table = table(&["WHAT", ">ENTRIES", ">SIZE", ">LEAST RECENTLY USED"], &rows);
    print(&format!("{table}\n{folder} is kept below {}\n", size(limit)))
}

fn prune(all: bool, keep: Option<&str>, environment: &Environment) -> Result<()> {
    let keep = match keep {
        _ if all => 0,
        Some(text) => parse_size(text)
            .ok_or_else(|| Usage::new(format!("--keep: `{text}` is not a size"), SIZE_HINT))?,
        None => environment.cache_limit()?,
    };
    let folder = environment.cache_dir()?;
    let pruned = match Cache::prune(&folder, keep, false)? {
        Some(pruned) => Some(pruned),
        None => {
            message("a build is running; waiting for it to finish\n");
            Cache::prune(&folder, keep, true)?
        }
    };
    let pruned = pruned.unwrap_or_default();
    print(&format!(
        "removed {} entries, {}; {} left\n",
        pruned.removed,
        size(pruned.removed_bytes),
        size(pruned.kept_bytes)
    ))
}

fn age(used: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(used).map_or(0, |age| age.as_secs());
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
