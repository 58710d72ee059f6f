//! Checks whether containers are well, as long as they run: a command executed inside, again and again.

use std::rc::Rc;
use std::time::Duration;

use dpack_sandbox::exec;

use super::inside::{Inside, inside};
use super::lifecycle::note;
use super::state::{Supervisor, Unit};
use crate::container::State;
use crate::health::{Check, Health, Probe};
use crate::{events, time};

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
