//! One container's life: start, watch, restart, stop, remove.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dpack_sandbox::record;
use dpack_sandbox::signal::{self, Signal};

use super::create::start;
use super::network::attachment;
use super::pidfd;
use super::reporter::Reporter;
use super::restart::{self, Again, Exited};
use super::sources::anonymous_volumes;
use super::state::{Supervisor, Unit};
use super::{inside, join};
use crate::container::{self, State, Supervision};
use crate::failure::Failure;
use crate::health::Health;
use crate::protocol::Phase;
use crate::{events, files, time};

/// Docker's default between the stop signal and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// After SIGKILL the kernel takes the container down; more than this means a process in uninterruptible sleep.
const AFTER_KILL: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Starts a container that is there, unless it runs.
    pub(crate) async fn start(self: &Rc<Self>, unit: &Rc<Unit>) -> Result<()> {
        let ends = |state| matches!(state, record::State::Exited(_) | record::State::Dead(_));
        if unit.running.get() && record::state(&unit.folder).is_ok_and(ends) {
            // Its shim is not done yet, so that we have not heard of it.
            unit.exited().await;
        }
        let _busy = unit.busy.lock().await;
        if unit.running.get() {
            return unit.supervise(|supervision| supervision.wanted = true);
        }
        unit.supervise(|supervision| (supervision.wanted, supervision.restarting) = (true, false))?;
        self.launch(unit).await?;
        inside::run_hooks(unit, &unit.identity.definition.post_start).await
    }

    /// Starts it; `busy` is held.
    async fn launch(self: &Rc<Self>, unit: &Rc<Unit>) -> Result<()> {
        let attachment = attachment(&unit.identity);
        let (network, folder, identity) = (self.network.clone(), unit.folder.clone(), unit.identity.clone());
        let project = self.project.clone();
        let home = self.home(&unit.identity).await?;
        let launched = tokio::task::spawn_blocking(move || {
            start(&project, &network, &folder, &identity, attachment.as_ref(), &home)
        });
        let started = launched.await.context("a start was cut short")?;
        let started = started.with_context(|| format!("failed to start container {}", unit.identity.name))?;
        events::append(&self.project, &unit.identity, "start", &[]);
        unit.running.set(true);
        unit.changed.notify_waiters();
        // It runs, and is watched, whether or not the disk has room for these.
        let healthy = unit.set_health(unit.identity.healthcheck.as_ref().map(|_| Health::starting()));
        let recorded = unit.supervise(|supervision| supervision.ports = started.ports);
        self.watch_health(unit);
        self.watch(unit, started.shim);
        healthy.and(recorded)
    }

    /// Watches a shim that an earlier supervisor started.
    pub(crate) fn watch_adopted(self: &Rc<Self>, unit: &Rc<Unit>, shim: i32) {
        match pidfd::open(shim) {
            Ok(pidfd) => {
                self.watch_health(unit);
                self.watch(unit, pidfd);
            }
            // It exited this moment.
            Err(_) => {
                let (supervisor, unit) = (Rc::clone(self), Rc::clone(unit));
                tokio::task::spawn_local(async move { supervisor.ended(&unit).await });
            }
        }
    }

    fn watch(self: &Rc<Self>, unit: &Rc<Unit>, shim: OwnedFd) {
        let (supervisor, unit) = (Rc::clone(self), Rc::clone(unit));
        tokio::task::spawn_local(async move {
            if let Err(error) = pidfd::ended(shim).await {
                note(&error);
            }
            supervisor.ended(&unit).await;
        });
    }

    /// A container has exited: its addresses and ports go, and the restart policy is asked.
    async fn ended(self: &Rc<Self>, unit: &Rc<Unit>) {
        if let Ok(home) = self.home(&unit.identity).await {
            home.clear();
        }
        let again = self.decide(unit);
        let (code, killed_for_memory) = match record::state(&unit.folder) {
            Ok(record::State::Exited(exit)) => (exit.code, exit.oom_killed),
            _ => (255, false),
        };
        if killed_for_memory {
            events::append(&self.project, &unit.identity, "oom", &[]);
        }
        events::append(&self.project, &unit.identity, "die", &[("exitCode", code.to_string())]);
        // Before anybody can see that it does not run, so that `ps` never says `exited` of one that comes again.
        if let Err(error) = unit.supervise(|supervision| {
            supervision.restarting = again.is_some();
            if again.is_none() {
                supervision.ports.clear();
            }
        }) {
            note(&error);
        }
        unit.running.set(false);
        unit.changed.notify_waiters();
        if again.is_none() {
            self.detach(&unit.identity.name).await;
        }
        match again {
            Some(again) => {
                if let Err(error) = self.start_again(unit, again) {
                    note(&error);
                }
            }
            None if unit.identity.remove => {
                if let Err(error) = self.remove_for_good(unit).await {
                    note(&error);
                }
                self.quieter.notify_one();
            }
            None => self.quieter.notify_one(),
        }
    }

    /// `run -d --rm`: the container goes, with its anonymous volumes.
    pub(crate) async fn remove_for_good(&self, unit: &Rc<Unit>) -> Result<()> {
        self.remove(unit).await?;
        for volume in anonymous_volumes(&self.project, &unit.identity.name) {
            dpack_store::remove_tree(&volume)?;
        }
        Ok(())
    }

    fn decide(&self, unit: &Unit) -> Option<Again> {
        if unit.identity.one_off {
            return None;
        }
        let supervision = unit.supervision();
        let (code, ran) = match record::state(&unit.folder) {
            Ok(record::State::Exited(exit)) => {
                let started = time::parse(&exit.started_at);
                let finished = time::parse(&exit.finished_at).unwrap_or_else(time::now);
                (exit.code, Duration::from_nanos(finished.saturating_sub(started.unwrap_or(finished))))
            }
            _ => (255, Duration::ZERO),
        };
        let exited = Exited { code, ran, restarts: supervision.restarts, wanted: supervision.wanted };
        let floor = Duration::from_millis(unit.identity.definition.restart_delay_ms.unwrap_or(0));
        restart::decide(unit.identity.definition.restart, exited)
            .map(|again| Again { delay: again.delay.max(floor), ..again })
    }

    /// Starts a container after its back-off, unless somebody changes their mind before.
    pub(crate) fn start_again(self: &Rc<Self>, unit: &Rc<Unit>, again: Again) -> Result<()> {
        unit.supervise(|supervision| {
            (supervision.restarting, supervision.restarts) = (true, again.restarts)
        })?;
        let (supervisor, unit) = (Rc::clone(self), Rc::clone(unit));
        tokio::task::spawn_local(async move {
            let wait = tokio::time::sleep(again.delay);
            tokio::pin!(wait);
            loop {
                let changed = unit.changed.notified();
                let Supervision { wanted, restarting, .. } = unit.supervision();
                if !wanted || !restarting || unit.running.get() {
                    supervisor.quieter.notify_one();
                    return;
                }
                tokio::select! {
                    () = &mut wait => break,
                    () = changed => {}
                }
            }
            let _busy = unit.busy.lock().await;
            let Supervision { wanted, restarting, .. } = unit.supervision();
            if !wanted || !restarting || unit.running.get() {
                return;
            }
            let _ = unit.supervise(|supervision| supervision.restarting = false);
            if let Err(error) = supervisor.launch(&unit).await {
                note(&error);
                // It counts as one more exit: the command may have been deleted, or a port is taken for now.
                let restarts = again.restarts;
                let exited = Exited { code: 127, ran: Duration::ZERO, restarts, wanted: true };
                let next = restart::decide(unit.identity.definition.restart, exited);
                if let Some(next) = next {
                    let _ = supervisor.start_again(&unit, next);
                }
                supervisor.quieter.notify_one();
            }
        });
        Ok(())
    }

    /// Stops a container; it is not started again. Where that cannot be recorded, it is stopped all the same and the error
    /// comes afterwards.
    pub(crate) async fn stop(self: &Rc<Self>, unit: &Rc<Unit>, timeout: Option<u32>) -> Result<()> {
        let recorded = unit.unwanted();
        self.end(unit, timeout).await?;
        recorded
    }

    /// Ends what nobody wants any more: its signal, a grace period, SIGKILL.
    async fn end(self: &Rc<Self>, unit: &Rc<Unit>, timeout: Option<u32>) -> Result<()> {
        let _busy = unit.busy.lock().await;
        if !unit.running.get() {
            return Ok(());
        }
        // A container that cannot say goodbye is stopped all the same.
        if let Err(error) = inside::run_hooks(unit, &unit.identity.definition.pre_stop).await {
            note(&error);
        }
        let own = unit.identity.definition.stop_grace_period_ms.map(Duration::from_millis);
        let grace = timeout.map(|seconds| Duration::from_secs(seconds.into())).or(own).unwrap_or(GRACE);
        let wanted: Signal = unit.identity.stop_signal.parse().unwrap_or(Signal::TERM);
        self.send(unit, wanted)
            .with_context(|| format!("failed to stop container {}", unit.identity.name))?;
        if tokio::time::timeout(grace, unit.exited()).await.is_ok() {
            events::append(&self.project, &unit.identity, "stop", &[]);
            return Ok(());
        }
        self.send(unit, Signal::KILL)
            .with_context(|| format!("failed to kill container {}", unit.identity.name))?;
        let killed = tokio::time::timeout(AFTER_KILL, unit.exited()).await;
        events::append(&self.project, &unit.identity, "stop", &[]);
        killed.map_err(|_| {
            Failure::environment(format!(
                "container {} does not end, not even by SIGKILL",
                unit.identity.name
            ))
            .hint("one of its processes waits for a device or a network file system")
            .into()
        })
    }

    /// Removes a container, which does not run, unless it was removed meanwhile: `down` and the end of a `run --rm` meet.
    /// Its anonymous volumes stay for the container that takes its place.
    pub(crate) async fn remove(&self, unit: &Rc<Unit>) -> Result<()> {
        let _busy = unit.busy.lock().await;
        if unit.removed.get() {
            return Ok(());
        }
        let (folder, project, name) = (unit.folder.clone(), self.project.clone(), unit.identity.name.clone());
        tokio::task::spawn_blocking(move || -> Result<()> {
            join::forget(&project, &name)?;
            // Without its identity it is no container any more, whatever else remains of it.
            files::remove(&folder.join("container.json"))?;
            Ok(dpack_store::remove_tree(&folder)?)
        })
        .await
        .context("a removal was cut short")?
        .with_context(|| format!("failed to remove container {}", unit.identity.name))?;
        unit.removed.set(true);
        self.detach(&unit.identity.name).await;
        self.units.borrow_mut().remove(&unit.identity.name);
        events::append(&self.project, &unit.identity, "destroy", &[]);
        Ok(())
    }

    /// Stops and removes, and says so.
    pub(crate) async fn stop_and_remove(
        self: &Rc<Self>,
        unit: &Rc<Unit>,
        timeout: Option<u32>,
        reporter: &Reporter,
    ) -> Result<()> {
        let name = &unit.identity.name;
        // A full disk has no room for the record, and the removal makes some: what is removed needs none.
        if let Err(error) = unit.unwanted() {
            note(&error);
        }
        let runs = unit.running.get();
        if runs {
            reporter.container(name, Phase::Stopping);
        }
        self.end(unit, timeout).await?;
        if runs {
            reporter.container(name, Phase::Stopped);
        }
        reporter.container(name, Phase::Removing);
        self.remove(unit).await?;
        reporter.container(name, Phase::Removed);
        Ok(())
    }

    /// Sends a signal. One that ends a container also says that the user does not want it any more (moby:
    /// `daemon/kill.go`).
    pub(crate) fn kill(&self, unit: &Unit, signal: Signal) -> Result<()> {
        let stop: Signal = unit.identity.stop_signal.parse().unwrap_or(Signal::TERM);
        let recorded = if signal == Signal::KILL || signal == stop { unit.unwanted() } else { Ok(()) };
        self.send(unit, signal)
            .with_context(|| format!("failed to signal container {}", unit.identity.name))?;
        recorded
    }

    fn send(&self, unit: &Unit, signal: Signal) -> Result<()> {
        events::append(&self.project, &unit.identity, "kill", &[("signal", signal.number().to_string())]);
        signal::send(&unit.folder, signal)?;
        Ok(())
    }

    /// What a container does now.
    pub(crate) fn state_of(unit: &Unit) -> Result<State> {
        container::state(&unit.folder, &unit.supervision())
    }
}

/// What nobody is connected to hear goes to the supervisor's log.
pub(crate) fn note(error: &anyhow::Error) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{} {error:#}", time::format(time::now()));
}
