//! Waiting for the end of a process that need not be our child (pidfd_open(2)).

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::unix::AsyncFd;

/// A descriptor of a live process.
pub(crate) fn open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).with_context(|| format!("{pid} is no process ID"))?;
    pidfd_open(pid, PidfdFlags::empty()).context("failed to watch a process")
}

/// Waits until the process has ended, and reaps it if it was our child.
pub(crate) async fn ended(pidfd: OwnedFd) -> Result<()> {
    reaped(pidfd).await.map(drop)
}

/// Waits until our child has ended, and reaps it: its exit status, or 128 + signal.
pub(crate) async fn status(pidfd: OwnedFd) -> Result<i32> {
    reaped(pidfd).await?.context("a process that ended was not our child")
}

async fn reaped(pidfd: OwnedFd) -> Result<Option<i32>> {
    #[expect(
        deprecated,
        reason = "sound for an owned descriptor that nobody else closes; its successor is unsafe"
    )]
    let pidfd = AsyncFd::new(pidfd).context("failed to watch a process")?;
    pidfd.readable().await.context("failed to watch a process")?.retain_ready();
    let child = WaitId::PidFd(std::os::fd::AsFd::as_fd(pidfd.get_ref()));
    // Not a child of ours when an earlier supervisor started it.
    let status = waitid(child, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok().flatten();
    Ok(status
        .map(|status| status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))))
}
