//! `linux.resources` of config.json as data: which file of which controller gets which value.
//!
//! One [`Setting`] for each property that is set. It names the file for both versions of control groups; a property that one
//! of them does not have cannot be enforced there, and is refused rather than forgotten.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// `linux.resources` (config-linux.md, "Control groups").
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Resources {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    block_io: Option<BlockIo>,
    hugepage_limits: Vec<HugepageLimit>,
    /// Files of version 2 by name.
    unified: BTreeMap<String, String>,
    /// Which devices may be opened. None but the usual ones and those listed in `linux.devices` are bound into the container;
    /// a rule that denies keeps all others from being made ([`Resources::denies_devices`]).
    devices: Vec<serde_json::Value>,
    network: Option<serde_json::Value>,
    rdma: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Memory {
    limit: Option<i64>,
    reservation: Option<i64>,
    /// Memory and swap together.
    swap: Option<i64>,
    kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Option<i64>,
    swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    disable_oom_killer: Option<bool>,
    use_hierarchy: Option<bool>,
    check_before_update: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    burst: Option<u64>,
    period: Option<u64>,
    realtime_runtime: Option<i64>,
    realtime_period: Option<u64>,
    cpus: Option<String>,
    mems: Option<String>,
    idle: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Pids {
    limit: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct BlockIo {
    weight: Option<u16>,
    leaf_weight: Option<u16>,
    weight_device: Vec<WeightDevice>,
    throttle_read_bps_device: Vec<Throttle>,
    throttle_write_bps_device: Vec<Throttle>,
    #[serde(rename = "throttleReadIOPSDevice")]
    throttle_read_iops_device: Vec<Throttle>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    throttle_write_iops_device: Vec<Throttle>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WeightDevice {
    major: u32,
    minor: u32,
    weight: Option<u16>,
    leaf_weight: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Throttle {
    major: u32,
    minor: u32,
    rate: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HugepageLimit {
    page_size: String,
    limit: u64,
}

/// One file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// `memory`, `cpu`, `cpuset`, `pids`, `io` (version 1: `blkio`), `hugetlb`.
    pub(super) controller: String,
    pub(super) name: String,
    pub(super) value: String,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its path in config.json.
    pub(super) property: &'static str,
    pub(super) v2: Option<File>,
    pub(super) v1: Option<File>,
    /// Other files that mean the same, on kernels where the first is missing.
    pub(super) v2_else: Option<File>,
    /// Nothing is lost when the file is not there: without swap there is no file that limits it.
    pub(super) swap: bool,
}

impl Setting {
    /// The file of a group that takes it, where `file` is the usual one; none where nothing has to be written.
    pub(super) fn file_in<'a>(&'a self, dir: &Path, v2: bool, file: &'a File) -> Option<&'a File> {
        let is_there = |file: &&File| dir.join(&file.name).exists();
        let other = || self.v2_else.as_ref().filter(|_| v2).filter(is_there);
        Some(file).filter(is_there).or_else(other).or_else(|| (!self.swap || has_swap()).then_some(file))
    }

    /// A group has no file that takes it.
    pub(super) fn is_missing_in(&self, dir: &Path, v2: bool, file: &File) -> bool {
        self.file_in(dir, v2, file).is_some_and(|file| !dir.join(&file.name).exists())
    }
}

fn has_swap() -> bool {
    !fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() <= 1)
}

fn file(controller: &str, name: &str, value: impl ToString) -> Option<File> {
    Some(File { controller: controller.to_owned(), name: name.to_owned(), value: value.to_string() })
}

fn setting(property: &'static str, v2: Option<File>, v1: Option<File>) -> Setting {
    Setting { property, v2, v1, v2_else: None, swap: false }
}

fn invalid(property: &str, reason: &str) -> Error {
    Error::Invalid { property: format!("linux.resources.{property}"), reason: reason.to_owned() }
}

/// -1 and 0 mean no limit.
fn most(value: i64) -> String {
    if value > 0 { value.to_string() } else { "max".to_owned() }
}

/// As [`most`] in version 1.
fn most_v1(value: i64) -> String {
    if value > 0 { value.to_string() } else { "-1".to_owned() }
}

impl Resources {
    /// Parses `linux.resources`; null is nothing.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let parsed: Option<Self> =
            serde_json::from_slice(json).map_err(|error| invalid("", &error.to_string()))?;
        Ok(parsed.unwrap_or_default())
    }

    /// Nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.settings().is_ok_and(|settings| settings.is_empty())
    }

    /// There is a rule that denies devices.
    pub(crate) fn denies_devices(&self) -> bool {
        self.devices.iter().any(|rule| rule.get("allow") != Some(&serde_json::Value::Bool(true)))
    }

    /// All limits, in the order in which they are written.
    pub(super) fn settings(&self) -> Result<Vec<Setting>, Error> {
        if self.network.is_some() {
            return Err(Error::Unsupported { property: "linux.resources.network" });
        }
        if self.rdma.is_some() {
            return Err(Error::Unsupported { property: "linux.resources.rdma" });
        }
        let mut all = Vec::new();
        if let Some(memory) = &self.memory {
            memory.settings(&mut all)?;
        }
        if let Some(cpu) = &self.cpu {
            cpu.settings(&mut all)?;
        }
        if let Some(limit) = self.pids.as_ref().and_then(|pids| pids.limit) {
            let file = file("pids", "pids.max", most(limit));
            all.push(setting("linux.resources.pids.limit", file.clone(), file));
        }
        if let Some(block_io) = &self.block_io {
            block_io.settings(&mut all)?;
        }
        for limit in &self.hugepage_limits {
            let property = "linux.resources.hugepageLimits";
            if limit.page_size.contains('/') {
                return Err(invalid("hugepageLimits", "a page size is needed"));
            }
            let name = |suffix| format!("hugetlb.{}.{suffix}", limit.page_size);
            all.push(setting(
                property,
                file("hugetlb", &name("max"), limit.limit),
                file("hugetlb", &name("limit_in_bytes"), limit.limit),
            ));
        }
        for (name, value) in &self.unified {
            let controller = name.split('.').next().unwrap_or_default();
            if name.contains('/') || controller == "cgroup" || !name.contains('.') {
                return Err(invalid("unified", &format!("`{name}` is no file of a controller")));
            }
            all.push(setting("linux.resources.unified", file(controller, name, value), None));
        }
        Ok(all)
    }
}

impl Memory {
    fn settings(&self, all: &mut Vec<Setting>) -> Result<(), Error> {
        if self.kernel.is_some_and(|limit| limit > 0) || self.kernel_tcp.is_some_and(|limit| limit > 0) {
            return Err(Error::Unsupported { property: "linux.resources.memory.kernel" });
        }
        if let Some(limit) = self.limit {
            let v1 = file("memory", "memory.limit_in_bytes", most_v1(limit));
            all.push(setting("linux.resources.memory.limit", file("memory", "memory.max", most(limit)), v1));
        }
        if let Some(both) = self.swap {
            let value = match (both, self.limit) {
                (..=0, _) => "max".to_owned(),
                (both, Some(limit)) if limit > 0 && both >= limit => (both - limit).to_string(),
                (_, Some(limit)) if limit > 0 => {
                    return Err(invalid(
                        "memory.swap",
                        "it includes memory, so it cannot be less than the limit",
                    ));
                }
                _ => return Err(invalid("memory.swap", "it needs a limit of memory")),
            };
            all.push(Setting {
                swap: true,
                ..setting(
                    "linux.resources.memory.swap",
                    file("memory", "memory.swap.max", value),
                    file("memory", "memory.memsw.limit_in_bytes", most_v1(both)),
                )
            });
        }
        if let Some(reservation) = self.reservation {
            let v2 = if reservation > 0 { reservation } else { 0 };
            all.push(setting(
                "linux.resources.memory.reservation",
                file("memory", "memory.low", v2),
                file("memory", "memory.soft_limit_in_bytes", most_v1(reservation)),
            ));
        }
        if let Some(swappiness) = self.swappiness {
            let v1 = file("memory", "memory.swappiness", swappiness);
            all.push(setting("linux.resources.memory.swappiness", None, v1));
        }
        if self.disable_oom_killer == Some(true) {
            let v1 = file("memory", "memory.oom_control", 1);
            all.push(setting("linux.resources.memory.disableOOMKiller", None, v1));
        }
        Ok(())
    }
}

impl Cpu {
    fn settings(&self, all: &mut Vec<Setting>) -> Result<(), Error> {
        if self.realtime_runtime.is_some_and(|runtime| runtime != 0)
            || self.realtime_period.is_some_and(|period| period != 0)
        {
            return Err(Error::Unsupported { property: "linux.resources.cpu.realtimeRuntime" });
        }
        if let Some(shares) = self.shares.filter(|shares| *shares != 0) {
            all.push(setting(
                "linux.resources.cpu.shares",
                file("cpu", "cpu.weight", weight_of_shares(shares)),
                file("cpu", "cpu.shares", shares.clamp(2, 262_144)),
            ));
        }
        let quota = self.quota.filter(|quota| *quota != 0);
        let period = self.period.filter(|period| *period != 0);
        if quota.is_some() || period.is_some() {
            let v2 = format!("{} {}", most(quota.unwrap_or(-1)), period.unwrap_or(100_000));
            // In version 1 they are two files, and the quota is checked against the period.
            if let Some(period) = period {
                let v1 = file("cpu", "cpu.cfs_period_us", period);
                all.push(setting("linux.resources.cpu.period", file("cpu", "cpu.max", &v2), v1));
            }
            if let Some(quota) = quota {
                let v1 = file("cpu", "cpu.cfs_quota_us", most_v1(quota));
                all.push(setting("linux.resources.cpu.quota", file("cpu", "cpu.max", &v2), v1));
            }
        }
        if let Some(burst) = self.burst.filter(|burst| *burst != 0) {
            all.push(setting(
                "linux.resources.cpu.burst",
                file("cpu", "cpu.max.burst", burst),
                file("cpu", "cpu.cfs_burst_us", burst),
            ));
        }
        if let Some(idle) = self.idle.filter(|idle| *idle != 0) {
            let idle = file("cpu", "cpu.idle", idle);
            all.push(setting("linux.resources.cpu.idle", idle.clone(), idle));
        }
        for (property, name, value) in [
            ("linux.resources.cpu.mems", "cpuset.mems", &self.mems),
            ("linux.resources.cpu.cpus", "cpuset.cpus", &self.cpus),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                let file = file("cpuset", name, value);
                all.push(setting(property, file.clone(), file));
            }
        }
        Ok(())
    }
}

impl BlockIo {
    fn settings(&self, all: &mut Vec<Setting>) -> Result<(), Error> {
        let leaf =
            self.weight_device.iter().any(|device| device.leaf_weight.is_some_and(|weight| weight > 0));
        if leaf || self.leaf_weight.is_some_and(|weight| weight > 0) {
            return Err(Error::Unsupported { property: "linux.resources.blockIO.leafWeight" });
        }
        if let Some(weight) = self.weight.filter(|weight| *weight != 0) {
            let property = "linux.resources.blockIO.weight";
            // 10 to 1000 in version 1, 1 to 10000 in version 2; BFQ's own file keeps the old range.
            let scaled = 1 + (u32::from(weight.max(10)) - 10) * 9999 / 990;
            all.push(Setting {
                v2_else: file("io", "io.bfq.weight", weight),
                ..setting(
                    property,
                    file("io", "io.weight", format!("default {scaled}")),
                    file("blkio", "blkio.weight", weight),
                )
            });
        }
        for device in &self.weight_device {
            let property = "linux.resources.blockIO.weightDevice";
            if let Some(weight) = device.weight.filter(|weight| *weight != 0) {
                let id = format!("{}:{}", device.major, device.minor);
                let scaled = 1 + (u32::from(weight.max(10)) - 10) * 9999 / 990;
                all.push(setting(
                    property,
                    file("io", "io.weight", format!("{id} {scaled}")),
                    file("blkio", "blkio.weight_device", format!("{id} {weight}")),
                ));
            }
        }
        for (property, key, v1, list) in [
            (
                "linux.resources.blockIO.throttleReadBpsDevice",
                "rbps",
                "blkio.throttle.read_bps_device",
                &self.throttle_read_bps_device,
            ),
            (
                "linux.resources.blockIO.throttleWriteBpsDevice",
                "wbps",
                "blkio.throttle.write_bps_device",
                &self.throttle_write_bps_device,
            ),
            (
                "linux.resources.blockIO.throttleReadIOPSDevice",
                "riops",
                "blkio.throttle.read_iops_device",
                &self.throttle_read_iops_device,
            ),
            (
                "linux.resources.blockIO.throttleWriteIOPSDevice",
                "wiops",
                "blkio.throttle.write_iops_device",
                &self.throttle_write_iops_device,
            ),
        ] {
            for Throttle { major, minor, rate } in list {
                let v2 = file("io", "io.max", format!("{major}:{minor} {key}={rate}"));
                all.push(setting(property, v2, file("blkio", v1, format!("{major}:{minor} {rate}"))));
            }
        }
        Ok(())
    }
}

/// Shares (2 to 262144, 1024 by default) as a weight (1 to 10000, 100 by default): the curve through the three points that
/// runc and crun have used since 2025.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        _ => {}
    }
    #[expect(clippy::cast_precision_loss, reason = "shares are below 2^18 here")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = ten_to(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// 10 to the power of something between 0 and 4. `f64::powf` brings 8 KB of tables.
fn ten_to(exponent: f64) -> f64 {
    let part = exponent.fract() * std::f64::consts::LN_10;
    let (mut term, mut sum) = (1.0, 1.0);
    for number in 1_u8..30 {
        term *= part / f64::from(number);
        sum += term;
    }
    (1..=4).filter(|power| f64::from(*power) <= exponent).fold(sum, |sum, _| sum * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str) -> Result<Vec<(String, String)>, Error> {
        let resources = Resources::parse(json.as_bytes())?;
        let files = resources.settings()?.into_iter().filter_map(|setting| setting.v2);
        Ok(files.map(|file| (file.name, file.value)).collect())
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn weights_are_those_of_the_standard_library() {
        for shares in 3..262_144_u64 {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            assert_eq!(weight_of_shares(shares), 10_f64.powf(exponent).ceil() as u64, "{shares}");
        }
    }

    #[test]
    fn limits_of_version_2() {
        let json = r#"{"memory":{"limit":1000,"swap":1500,"reservation":200},"pids":{"limit":-1},
            "cpu":{"shares":1024,"quota":50000,"cpus":"0-1"}}"#;
        let expected = [
            ("memory.max", "1000"),
            ("memory.swap.max", "500"),
            ("memory.low", "200"),
            ("cpu.weight", "100"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0-1"),
            ("pids.max", "max"),
        ];
        assert_eq!(written(json).unwrap(), pairs(&expected));
        let json = r#"{"blockIO":{"weight":10,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#;
        let expected = [("io.weight", "default 1"), ("io.max", "8:0 rbps=5")];
        assert_eq!(written(json).unwrap(), pairs(&expected));
    }

    #[test]
    fn what_makes_no_sense_or_would_be_lost_is_refused() {
        for (json, text) in [
            (r#"{"memory":{"swap":5}}"#, "needs a limit"),
            (r#"{"memory":{"limit":9,"swap":5}}"#, "cannot be less"),
            (r#"{"rdma":{}}"#, "linux.resources.rdma"),
            (r#"{"cpu":{"realtimePeriod":5}}"#, "realtime"),
            (r#"{"unified":{"../x.y":"1"}}"#, "no file of a controller"),
            (r#"{"unified":{"cgroup.procs":"1"}}"#, "no file of a controller"),
            (r#"{"memory":{"limits":5}}"#, "unknown field"),
        ] {
            let error = written(json).unwrap_err().to_string();
            assert!(error.contains(text), "{json}: {error}");
        }
    }

    #[test]
    fn shares_become_weights_as_in_runc() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (2048, 174)] {
            let found = weight_of_shares(shares);
            assert!(found.abs_diff(weight) <= 1, "{shares} -> {found}, not {weight}");
        }
    }
}
