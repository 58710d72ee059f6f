//! Limits of a service as `linux.resources`, by the rules of Docker Engine (moby: `daemon/daemon_unix.go`).

use dpack_compose::project::{BlockLimit, Resources as Wanted};

use crate::spec::{BlockIo, Cpu, Memory, Pids, Resources, Throttle, WeightDevice};

/// What the device knows and a pure function cannot.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    /// Number of a block device by its path.
    pub number: &'a dyn Fn(&str) -> Option<(u32, u32)>,
    /// Swap can be limited. Without a word about it, as much swap as memory is then allowed, as in Docker.
    pub limits_swap: bool,
}

/// A block device that is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`blkio_config`: `{0}` is no block device of this device")]
pub struct NoBlockDevice(pub String);

/// Length of the period in which `cpus` are counted, in microseconds.
const PERIOD: u64 = 100_000;

/// `linux.resources`; none when nothing is limited.
pub fn resources(wanted: &Wanted, device: Device<'_>) -> Result<Option<Resources>, NoBlockDevice> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let limit = wanted.memory.filter(|bytes| *bytes > 0);
    let twice = limit.filter(|_| device.limits_swap).map(|bytes| signed(bytes).saturating_mul(2));
    let memory = Memory {
        limit: limit.map(signed),
        reservation: wanted.memory_reserved.filter(|bytes| *bytes > 0).map(signed),
        swap: wanted.memory_swap.filter(|bytes| *bytes != 0).or(twice),
        swappiness: wanted.memory_swappiness,
        disable_oom_killer: wanted.oom_kill_disable.then_some(true),
    };
    let share = wanted.cpus.filter(|cpus| *cpus > 0.0);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "CPUs are a small number"
    )]
    let quota = share.map(|cpus| (cpus * PERIOD as f64).round() as i64);
    let cpu = Cpu {
        shares: wanted.cpu_shares.filter(|shares| *shares > 0),
        quota: wanted.cpu_quota.filter(|quota| *quota != 0).or(quota),
        period: wanted.cpu_period.filter(|period| *period > 0).or(share.map(|_| PERIOD)),
        cpus: wanted.cpuset.clone().filter(|cpus| !cpus.is_empty()),
    };
    let throttles = |limits: &[BlockLimit]| -> Result<Vec<Throttle>, NoBlockDevice> {
        limits.iter().map(|limit| throttle(limit, device)).collect()
    };
    let disks = &wanted.block_io;
    let block_io = BlockIo {
        weight: disks.weight.filter(|weight| *weight > 0),
        weight_device: disks.weight_device.iter().map(|w| weight(w, device)).collect::<Result<_, _>>()?,
        throttle_read_bps_device: throttles(&disks.read_bps)?,
        throttle_write_bps_device: throttles(&disks.write_bps)?,
        throttle_read_iops_device: throttles(&disks.read_iops)?,
        throttle_write_iops_device: throttles(&disks.write_iops)?,
    };
    let resources = Resources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: wanted.pids.filter(|limit| *limit != 0).map(|limit| Pids { limit }),
        block_io: (block_io != BlockIo::default()).then_some(block_io),
    };
    Ok((resources != Resources::default()).then_some(resources))
}

fn number(path: &str, device: Device<'_>) -> Result<(u32, u32), NoBlockDevice> {
    (device.number)(path).ok_or_else(|| NoBlockDevice(path.to_owned()))
}

fn throttle(limit: &BlockLimit, device: Device<'_>) -> Result<Throttle, NoBlockDevice> {
    let (major, minor) = number(&limit.path, device)?;
    Ok(Throttle { major, minor, rate: limit.value })
}

fn weight(limit: &BlockLimit, device: Device<'_>) -> Result<WeightDevice, NoBlockDevice> {
    let (major, minor) = number(&limit.path, device)?;
    Ok(WeightDevice { major, minor, weight: u16::try_from(limit.value).unwrap_or(1000) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(wanted: &Wanted, limits_swap: bool) -> serde_json::Value {
        let number = |path: &str| (path == "/dev/sda").then_some((8, 0));
        serde_json::to_value(resources(wanted, Device { number: &number, limits_swap }).unwrap()).unwrap()
    }

    #[test]
    fn limits_are_written_as_docker_does() {
        let mut wanted = Wanted { cpus: Some(0.5), memory: Some(1000), pids: Some(-1), ..Wanted::default() };
        wanted.block_io.read_bps = vec![BlockLimit { path: "/dev/sda".into(), value: 7 }];
        let expected = serde_json::json!({
            "memory": {"limit": 1000, "swap": 2000},
            "cpu": {"quota": 50_000, "period": 100_000},
            "pids": {"limit": -1},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]},
        });
        assert_eq!(json(&wanted, true), expected);
        let swap = Wanted { memory: Some(1000), memory_swap: Some(-1), ..Wanted::default() };
        assert_eq!(json(&swap, false), serde_json::json!({"memory": {"limit": 1000, "swap": -1}}));
        assert_eq!(json(&Wanted::default(), true), serde_json::Value::Null);
    }

    #[test]
    fn a_disk_that_is_not_there_is_an_error() {
        let mut wanted = Wanted::default();
        wanted.block_io.write_iops = vec![BlockLimit { path: "/dev/nope".into(), value: 7 }];
        let device = Device { number: &|_| None, limits_swap: true };
        assert_eq!(resources(&wanted, device), Err(NoBlockDevice("/dev/nope".into())));
    }
}
