//! What a container may use. `deploy.resources` and the older keys beside it end up in the same fields.

use serde::{Deserialize, Serialize};

use super::is_default;

/// Limits of a control group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Number of CPUs, as 0.5 (`cpus`, `deploy.resources.limits.cpus`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Number of CPUs that are kept free (`deploy.resources.reservations.cpus`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus_reserved: Option<f64>,
    /// Relative weight; 1024 is usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// Length of the period in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<u64>,
    /// CPUs that may be used, as `0-2,4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Bytes of memory (`mem_limit`, `deploy.resources.limits.memory`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes of memory kept when memory is short (`mem_reservation`, `deploy.resources.reservations.memory`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reserved: Option<u64>,
    /// Bytes of memory and swap together; -1 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// Inclination to swap, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_swappiness: Option<u64>,
    /// Processes and threads; -1 for no limit (`pids_limit`, `deploy.resources.limits.pids`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
    /// No process is killed when memory runs out.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_kill_disable: bool,
    /// Preference of the kernel for killing these processes, -1000 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Disks.
    #[serde(skip_serializing_if = "is_default")]
    pub block_io: BlockIo,
}

/// `blkio_config`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// Relative weight, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Weight on single devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<BlockLimit>,
    /// Bytes read per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_bps: Vec<BlockLimit>,
    /// Bytes written per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_bps: Vec<BlockLimit>,
    /// Reads per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_iops: Vec<BlockLimit>,
    /// Writes per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write_iops: Vec<BlockLimit>,
}

/// A limit on one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimit {
    /// The device, as `/dev/sda`.
    pub path: String,
    /// The limit.
    pub value: u64,
}

/// One entry of `ulimits`; -1 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What applies.
    pub soft: i64,
    /// What it can be raised to.
    pub hard: i64,
}
