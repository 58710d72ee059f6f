//! What a new supervisor finds: containers that run are watched, restarts that were due are made.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;

use super::lifecycle::note;
use super::limits::home;
use super::restart::{self, Exited};
use super::state::{Supervisor, Unit};
use crate::container::{Container, State};
use crate::files;
use crate::time;

impl Supervisor {
    /// Takes every container on disk in. Those that exited while no supervisor was there get what their restart policy
    /// says, unless the machine was restarted in between: after that, only `up` and `start` start something.
    pub(crate) async fn adopt(self: &Rc<Self>) -> Result<()> {
        let booted = booted();
        files::remove_leftovers(&self.project.folder)?;
        for container in Container::list(&self.project)? {
            let state = container.state;
            let folder = self.project.container(&container.identity.name);
            if !state.is_running() {
                // What is left when shim and supervisor were killed at once. No place is asked for: a scope ends by itself.
                home(&container.identity, (*self.place(false).await?).clone()).clear();
            }
            let unit = self.take_in(Unit::new(container, folder));
            match state {
                State::Running { shim, .. } => {
                    self.watch_adopted(&unit, shim);
                    self.continue_stop(&unit);
                }
                State::Exited { .. } if unit.identity.remove => {
                    let supervisor = Rc::clone(self);
                    tokio::task::spawn_local(async move {
                        if let Err(error) = supervisor.remove_for_good(&unit).await {
                            note(&error);
                        }
                    });
                }
                State::Exited { code, at } | State::Restarting { code, at } => {
                    self.continue_restarts(&unit, code, at, booted)?
                }
                State::Created => {}
            }
        }
        if self.new_namespace {
            // A network process that is there all the same lives in a namespace that nothing else is in any more.
            self.end_network().await;
        } else {
            self.adopt_network().await;
        }
        Ok(())
    }

    /// A container that runs and should not: it was asked to end, and whoever asked was killed. Whoever wants to start it
    /// waits until it has ended.
    fn continue_stop(self: &Rc<Self>, unit: &Rc<Unit>) {
        if unit.supervision().wanted || unit.identity.one_off {
            return;
        }
        let (supervisor, unit) = (Rc::clone(self), Rc::clone(unit));
        tokio::task::spawn_local(async move {
            if let Err(error) = supervisor.stop(&unit, None).await {
                note(&error);
            }
        });
    }

    fn continue_restarts(self: &Rc<Self>, unit: &Rc<Unit>, code: i32, at: u64, booted: u64) -> Result<()> {
        let supervision = unit.supervision();
        let policy = unit.identity.definition.restart;
        let exited =
            Exited { code, ran: Duration::ZERO, restarts: supervision.restarts, wanted: supervision.wanted };
        let again = restart::decide(policy, exited).filter(|_| at >= booted && !unit.identity.one_off);
        match again {
            Some(again) => self.start_again(unit, again),
            None => unit.supervise(|supervision| supervision.restarting = false),
        }
    }
}

/// When this machine was started, by its clock of now; far in the future when `/proc` does not tell.
fn booted() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    // `12345.67`, with two digits behind the point.
    let hundredths =
        uptime.split_whitespace().next().and_then(|text| text.replace('.', "").parse::<u64>().ok());
    hundredths.map_or(u64::MAX, |time| time::now().saturating_sub(time.saturating_mul(10_000_000)))
}
