//! Checks whether containers are well, as long as they run: a command executed inside, again and again.

use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dpack_sandbox::exec::{self, ExecOptions, User};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;

use super::lifecycle::note;
use super::pidfd;
use super::state::{Supervisor, Unit};
use crate::container::State;
use crate::health::{Check, Health, OUTPUT, Probe};
use crate::{events, time};

/// A command inside a container that nobody sits in front of.
pub(crate) struct Inside {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// `NAME=value` over the container's own.
    pub(crate) env: Vec<String>,
    /// Working directory; the container's own when absent.
    pub(crate) cwd: Option<String>,
    /// User; the container's own when absent.
    pub(crate) user: Option<User>,
    /// How long it may take; it is killed then.
    pub(crate) limit: Option<Duration>,
}

/// How a command inside a container ended.
pub(crate) struct Outcome {
    /// Exit status.
    pub(crate) code: i32,
    /// The beginning of what it wrote.
    pub(crate) output: String,
}

/// Executes a command in a container and waits for its end.
pub(crate) async fn inside(unit: &Unit, inside: Inside) -> Result<Outcome> {
    let folder = unit.folder.clone();
    let (output, theirs) = std::io::pipe().context("failed to create a pipe")?;
    let spawned = spawn_blocking(move || {
        let options = ExecOptions {
            container_dir: &folder,
            args: inside.command,
            env: inside.env,
            cwd: inside.cwd,
            user: inside.user,
            tty: false,
            stdin: false,
        };
        exec::spawn(&options, theirs.as_fd(), inside.limit)
    });
    let child = spawned.await.context("an execution was cut short")??;
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))
        .context("failed to read the output of a command")?;
    let mut text = Vec::new();
    let mut block = [0; 1024];
    let ended = pidfd::status(child.pidfd);
    tokio::pin!(ended);
    let mut open = true;
    let code = loop {
        tokio::select! {
            // What was written before the end is read before it.
            biased;
            read = output.read(&mut block), if open => match read {
                Ok(length @ 1..) => {
                    let room = OUTPUT.saturating_sub(text.len());
                    text.extend_from_slice(&block[..length.min(room)]);
                }
                _ => open = false,
            },
            code = &mut ended => break code?,
        }
    };
    Ok(Outcome { code, output: String::from_utf8_lossy(&text).into_owned() })
}

impl Supervisor {
    /// Checks a container that runs until it does not.
    pub(crate) fn watch_health(self: &Rc<Self>, unit: &Rc<Unit>) {
        let Some(check) = unit.identity.healthcheck.clone() else { return };
        let Ok(State::Running { since, pid, .. }) = Self::state_of(unit) else { return };
        let (supervisor, unit) = (Rc::clone(self), Rc::clone(unit));
        tokio::task::spawn_local(async move {
            let ours = || matches!(Self::state_of(&unit), Ok(State::Running { pid: now, .. }) if now == pid);
            let age = || Duration::from_nanos(time::now().saturating_sub(since));
            loop {
                let Some(health) = unit.health() else { return };
                tokio::select! {
                    () = tokio::time::sleep(check.pause(health.status, age())) => {}
                    () = unit.exited() => return,
                }
                let begin = age();
                let probe = tokio::select! {
                    probe = probe(&unit, &check) => probe,
                    () = unit.exited() => return,
                };
                // It may have been started anew meanwhile; that one has a watch of its own.
                if !ours() {
                    return;
                }
                supervisor.take_in_health(&unit, health.after(&check, probe, begin));
            }
        });
    }

    /// Notes what a check told.
    pub(crate) fn take_in_health(&self, unit: &Unit, health: Health) {
        if unit.health().is_none_or(|before| before.status != health.status) && !health.log.is_empty() {
            let action = format!("health_status: {}", health.status.word());
            events::append(&self.project, &unit.identity, &action, &[]);
        }
        if let Err(error) = unit.set_health(Some(health)) {
            note(&error);
        }
    }
}

async fn probe(unit: &Unit, check: &Check) -> Probe {
    let (start, began) = (time::format(time::now()), std::time::Instant::now());
    let command = Inside {
        command: check.command.clone(),
        env: Vec::new(),
        cwd: None,
        user: None,
        limit: Some(check.timeout),
    };
    let (exit_code, output) = match inside(unit, command).await {
        Ok(outcome) if outcome.code == exec::TIMED_OUT && began.elapsed() >= check.timeout => {
            (-1, format!("Health check exceeded timeout ({:?}): {}", check.timeout, outcome.output))
        }
        Ok(outcome) => (outcome.code, outcome.output),
        Err(error) => (-1, format!("{error:#}")),
    };
    Probe { start, end: time::format(time::now()), exit_code, output }
}
