//! What a container has used: from its control group, or where it has none of its own from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::group::Group;
use crate::stat;

/// What a container has used so far. None where nobody counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Processor time in microseconds.
    pub cpu_microseconds: Option<u64>,
    /// Bytes of memory, without the part of the page cache that can be dropped at once.
    pub memory: Option<u64>,
    /// Its limit in bytes.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Their limit.
    pub processes_limit: Option<u64>,
    /// Bytes read from block devices.
    pub block_read: Option<u64>,
    /// Bytes written to block devices.
    pub block_written: Option<u64>,
    /// Bytes received on all interfaces but `lo`.
    pub network_received: Option<u64>,
    /// Bytes sent.
    pub network_sent: Option<u64>,
}

impl Statistics {
    /// Of the container with this PID 1.
    pub fn of(init: i32) -> Self {
        let mut found = Group::of_process(init).map(|group| from_group(&group)).unwrap_or_default();
        let from_proc = from_processes(&processes(init));
        found.cpu_microseconds = found.cpu_microseconds.or(from_proc.cpu_microseconds);
        found.memory = found.memory.or(from_proc.memory);
        found.processes = found.processes.or(from_proc.processes);
        let network = fs::read_to_string(format!("/proc/{init}/net/dev")).ok();
        if let Some((received, sent)) = network.as_deref().map(network_bytes) {
            (found.network_received, found.network_sent) = (Some(received), Some(sent));
        }
        found
    }
}

/// All processes of a container: those of its group; without one, PID 1 and all that descend from it.
pub fn processes(init: i32) -> Vec<i32> {
    if let Some(pids) = Group::of_process(init).and_then(|group| group.processes()) {
        return pids;
    }
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let parent = fs::read_to_string(entry.path().join("stat"))
            .ok()
            .and_then(|text| stat::field(&text, 1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![init];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found.sort_unstable();
    found
}

fn from_processes(pids: &[i32]) -> Statistics {
    let (mut ticks, mut pages, mut threads) = (0_u64, 0_u64, 0_u64);
    for pid in pids {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let value =
            |number| stat::field(&text, number).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        ticks += value(11) + value(12);
        threads += value(17);
        pages += value(21);
    }
    let page = rustix::param::page_size() as u64;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Statistics {
        cpu_microseconds: Some(ticks.saturating_mul(1_000_000) / per_second),
        memory: Some(pages.saturating_mul(page)),
        processes: Some(threads),
        ..Statistics::default()
    }
}

fn from_group(group: &Group) -> Statistics {
    let mut found = Statistics::default();
    if let Some(dir) = &group.v2 {
        let usage = keyed(dir, "cpu.stat", "usage_usec");
        found.cpu_microseconds = usage;
        if let Some(current) = number(dir, "memory.current") {
            let droppable = keyed(dir, "memory.stat", "inactive_file").unwrap_or(0);
            found.memory = Some(current.saturating_sub(droppable));
            found.memory_limit = number(dir, "memory.max");
        }
        found.processes = number(dir, "pids.current");
        found.processes_limit = number(dir, "pids.max");
        if let Ok(text) = fs::read_to_string(dir.join("io.stat")) {
            (found.block_read, found.block_written) =
                (Some(sum(&text, "rbytes=")), Some(sum(&text, "wbytes=")));
        }
    }
    let v1 = |controller: &str| group.v1.get(controller).map(std::path::PathBuf::as_path);
    if let Some(dir) = v1("cpuacct") {
        found.cpu_microseconds = number(dir, "cpuacct.usage").map(|nanoseconds| nanoseconds / 1000);
    }
    if let Some(dir) = v1("memory") {
        let droppable = keyed(dir, "memory.stat", "total_inactive_file").unwrap_or(0);
        found.memory = number(dir, "memory.usage_in_bytes").map(|usage| usage.saturating_sub(droppable));
        // "No limit" is the largest number of whole pages.
        found.memory_limit = number(dir, "memory.limit_in_bytes").filter(|limit| *limit < 1 << 60);
    }
    if let Some(dir) = v1("pids") {
        found.processes = number(dir, "pids.current");
        found.processes_limit = number(dir, "pids.max");
    }
    if let Some(text) = v1("blkio")
        .and_then(|dir| fs::read_to_string(dir.join("blkio.throttle.io_service_bytes_recursive")).ok())
    {
        let bytes = |kind: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(kind));
            lines.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum::<u64>()
        };
        (found.block_read, found.block_written) = (Some(bytes(" Read ")), Some(bytes(" Write ")));
    }
    found
}

/// A file with one number; `max` is none.
fn number(dir: &Path, name: &str) -> Option<u64> {
    fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok()
}

/// The number behind a key at the start of a line.
fn keyed(dir: &Path, name: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(name)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `8:0 rbytes=1 wbytes=2 …` over all devices.
fn sum(text: &str, key: &str) -> u64 {
    let words = text.split_whitespace().filter_map(|word| word.strip_prefix(key));
    words.filter_map(|number| number.parse::<u64>().ok()).sum()
}

/// Received and sent, of `/proc/PID/net/dev`.
fn network_bytes(text: &str) -> (u64, u64) {
    let interfaces = text.lines().filter_map(|line| line.split_once(':'));
    let (mut received, mut sent) = (0, 0);
    for (_, counters) in interfaces.filter(|(name, _)| name.trim() != "lo") {
        let mut counters = counters.split_whitespace().map(|text| text.parse::<u64>().unwrap_or(0));
        received += counters.next().unwrap_or(0);
        sent += counters.nth(7).unwrap_or(0);
    }
    (received, sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_version_2_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.current", "5000\n"),
            ("memory.stat", "anon 1\ninactive_file 1000\n"),
            ("memory.max", "max\n"),
            ("pids.current", "3\n"),
            ("pids.max", "64\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=5 rios=1\n8:16 rbytes=1 wbytes=2\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let found = from_group(&Group { v2: Some(dir.path().to_owned()), ..Group::default() });
        let expected = Statistics {
            cpu_microseconds: Some(1500),
            memory: Some(4000),
            processes: Some(3),
            processes_limit: Some(64),
            block_read: Some(11),
            block_written: Some(7),
            ..Statistics::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn own_processes_are_counted_without_a_group() {
        let own = std::process::id().cast_signed();
        let found = from_processes(&[own]);
        assert!(found.memory.is_some_and(|bytes| bytes > 100_000), "{found:?}");
        assert!(found.processes.is_some_and(|threads| threads >= 1));
        let dev = "Inter-|\n lo: 9 0 0 0 0 0 0 0 9 0\neth0: 100 2 0 0 0 0 0 0 50 1 0\n";
        assert_eq!(network_bytes(dev), (100, 50));
    }
}
