//! Limits. `deploy.resources` and the older keys beside it must not say different things.

use std::collections::BTreeMap;

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{BlockIo, BlockLimit, Resources, Ulimit};
use crate::typed::values;

pub(super) fn read(node: &Node, path: &Path<'_>, report: &mut Report) -> Resources {
    let deploy = node.get("deploy").and_then(|deploy| deploy.get("resources"));
    let limits = deploy.and_then(|resources| resources.get("limits"));
    let reservations = deploy.and_then(|resources| resources.get("reservations"));
    let from = |node: Option<&Node>, key: &str| node.and_then(|node| values::decimal(node, key));
    for (old, new, key) in [
        ("cpus", limits, "cpus"),
        ("mem_limit", limits, "memory"),
        ("mem_reservation", reservations, "memory"),
        ("pids_limit", limits, "pids"),
    ] {
        if let (Some(one), Some(other)) = (values::decimal(node, old), from(new, key))
            && one != other
        {
            let at = node.get(old).map_or(node.at, |value| value.at);
            report.error(at, &path.key(old), format!("`deploy.resources` has another value for `{key}`"));
        }
    }
    let either =
        |old: &str, new: Option<&Node>, key: &str| values::decimal(node, old).or_else(|| from(new, key));
    let bytes = |old: &str, new: Option<&Node>| {
        let old = values::number(node, old);
        old.or_else(|| new.and_then(|new| values::number(new, "memory"))).filter(|bytes| *bytes > 0)
    };
    let swappiness = values::number(node, "mem_swappiness");
    if swappiness.is_some_and(|value| value > 100) {
        let at = node.get("mem_swappiness").map_or(node.at, |value| value.at);
        report.error(at, &path.key("mem_swappiness"), "expected a number from 0 to 100");
    }
    let score = values::signed(node, "oom_score_adj");
    if let Some(value) = score.filter(|value| !(-1000..=1000).contains(value)) {
        let at = node.get("oom_score_adj").map_or(node.at, |value| value.at);
        report.error(at, &path.key("oom_score_adj"), format!("expected -1000 to 1000, found {value}"));
    }
    Resources {
        cpus: either("cpus", limits, "cpus").filter(|cpus| *cpus > 0.0),
        cpus_reserved: from(reservations, "cpus").filter(|cpus| *cpus > 0.0),
        cpu_shares: values::number(node, "cpu_shares").filter(|shares| *shares > 0),
        cpu_quota: values::signed(node, "cpu_quota").filter(|quota| *quota != 0),
        cpu_period: values::number(node, "cpu_period").filter(|period| *period > 0),
        cpuset: values::text(node, "cpuset").map(str::to_owned),
        memory: bytes("mem_limit", limits),
        memory_reserved: bytes("mem_reservation", reservations),
        memory_swap: values::signed(node, "memswap_limit").filter(|bytes| *bytes != 0),
        memory_swappiness: swappiness,
        pids: either("pids_limit", limits, "pids").map(|pids| pids as i64).filter(|pids| *pids != 0),
        oom_kill_disable: values::flag(node, "oom_kill_disable"),
        oom_score_adj: score.and_then(|score| i32::try_from(score).ok()),
        block_io: node.get("blkio_config").map(block_io).unwrap_or_default(),
    }
}

fn block_io(node: &Node) -> BlockIo {
    let limits = |key: &str, value: &str| {
        let items = node.get(key).and_then(Node::as_list).unwrap_or_default();
        let limit = |item: &Node| BlockLimit {
            path: values::text(item, "path").unwrap_or_default().to_owned(),
            value: values::number(item, value).unwrap_or_default(),
        };
        items.iter().map(limit).collect::<Vec<_>>()
    };
    BlockIo {
        weight: values::number(node, "weight").and_then(|weight| u16::try_from(weight).ok()),
        weight_device: limits("weight_device", "weight"),
        read_bps: limits("device_read_bps", "rate"),
        write_bps: limits("device_write_bps", "rate"),
        read_iops: limits("device_read_iops", "rate"),
        write_iops: limits("device_write_iops", "rate"),
    }
}

/// The limits of getrlimit(2) that Docker takes, in small letters and without `RLIMIT_`. It takes none on the address space
/// (go-units: `ulimit.go`).
pub const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn ulimits(node: &Node, path: &Path<'_>, report: &mut Report) -> BTreeMap<String, Ulimit> {
    let mut ulimits = BTreeMap::new();
    let path = path.key("ulimits");
    for (name, entry) in super::entries(node.get("ulimits")) {
        if !ULIMITS.contains(&name.as_str()) {
            let hint = crate::suggest::nearest(name, ULIMITS.into_iter());
            let reported = report.error(entry.key_at, &path.key(name), format!("there is no limit `{name}`"));
            if let Some(near) = hint {
                reported.hint(format!("did you mean `{near}`?"));
            }
            continue;
        }
        let both = values::whole(&entry.node);
        let soft = both.or_else(|| values::signed(&entry.node, "soft"));
        let hard = both.or_else(|| values::signed(&entry.node, "hard"));
        let (Some(soft), Some(hard)) = (soft.or(hard), hard.or(soft)) else {
            report.error(entry.node.at, &path.key(name), "neither `soft` nor `hard` is given");
            continue;
        };
        if hard != -1 && (soft == -1 || soft > hard) {
            report.error(entry.node.at, &path.key(name), "`soft` is larger than `hard`");
        }
        ulimits.insert(name.clone(), Ulimit { soft, hard });
    }
    ulimits
}
