//! Waiting for the end of a process that need not be our child (pidfd_open(2), or asking again and again).

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dpack_sandbox::pidfd;
use tokio::io::unix::AsyncFd;

/// How long an end may go unseen where no descriptor tells it.
const LATENESS: Duration = Duration::from_millis(50);

/// Stands for a live process.
pub(crate) fn open(pid: i32) -> Result<OwnedFd> {
    pidfd::open(pid).context("failed to watch a process")
}

/// Waits until the process has ended, and reaps it if it was our child.
pub(crate) async fn ended(pidfd: OwnedFd) -> Result<()> {
    reaped(pidfd).await.map(drop)
}

/// Waits until our child has ended, and reaps it: its exit status, or 128 + signal.
pub(crate) async fn status(pidfd: OwnedFd) -> Result<i32> {
    reaped(pidfd).await?.context("a process that ended was not our child")
}

async fn reaped(process: OwnedFd) -> Result<Option<i32>> {
    let process = readable(process).await?;
    // Not a child of ours when an earlier supervisor started it.
    let status = pidfd::reap(process);
    Ok(status
        .map(|status| status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))))
}

async fn readable(process: OwnedFd) -> Result<OwnedFd> {
    if !pidfd::is_pollable(&process) {
        while !pidfd::has_ended(&process) {
            tokio::time::sleep(LATENESS).await;
        }
        return Ok(process);
    }
    #[expect(
        deprecated,
        reason = "sound for an owned descriptor that nobody else closes; its successor is unsafe"
    )]
    let process = AsyncFd::new(process).context("failed to watch a process")?;
    process.readable().await.context("failed to watch a process")?.retain_ready();
    Ok(process.into_inner())
}
