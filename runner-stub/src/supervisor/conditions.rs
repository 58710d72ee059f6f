//! Waiting for what `depends_on` and `up --wait` ask for. The errors are Docker Compose's.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use dpack_compose::project::{Condition, Project};

use super::reporter::Reporter;
use super::state::{Supervisor, Unit};
use crate::container::State;
use crate::failure::Failure;
use crate::health::Status;
use crate::plan::{Need, Plan, UpOptions};
use crate::protocol::Phase;
use crate::time;

/// A container without a check that ends sooner than this did not come up (Docker Compose looks every half second).
const SETTLED: Duration = Duration::from_millis(500);

/// How a container stands to what is wanted of it.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    NotYet,
    Reached,
    Never(String),
}

impl Supervisor {
    /// Waits for what has to be before a container is started.
    pub(crate) async fn await_needs(&self, needs: &[Need], reporter: &Reporter) -> Result<()> {
        for need in needs.iter().filter(|need| need.condition != Condition::Started) {
            match self.await_need(need, need.condition == Condition::Completed, reporter).await {
                Err(error) if !need.required => {
                    reporter
                        .warn(format!("optional dependency `{}` failed to start: {error:#}", need.service));
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// `up --wait`: until everything runs and is well, or has done its work where others wait for that.
    pub(crate) async fn await_all(
        &self,
        project: &Project,
        plan: &Plan,
        options: &UpOptions,
        reporter: &Reporter,
    ) -> Result<()> {
        let mut services: Vec<&String> = plan.steps.iter().map(|step| &step.service).collect();
        services.sort();
        services.dedup();
        let completes = |name: &String| {
            let mut others = project.services.values().filter_map(|service| service.depends_on.get(name));
            others.any(|dependency| dependency.condition == Condition::Completed)
        };
        let all = async {
            for service in services.into_iter().filter(|name| project.services.contains_key(*name)) {
                let (service, required) = (service.clone(), true);
                let completes = completes(&service);
                let need = Need { service, condition: Condition::Started, required };
                self.await_need(&need, completes, reporter).await?;
            }
            Ok(())
        };
        match options.wait_timeout.filter(|seconds| *seconds > 0) {
            None => all.await,
            Some(seconds) => {
                let limited = tokio::time::timeout(Duration::from_secs(seconds.into()), all).await;
                limited.unwrap_or_else(|_| {
                    Err(Failure::environment(format!("application not healthy after {seconds}s"))
                        .hint("see which: ps; and why: logs")
                        .into())
                })
            }
        }
    }

    async fn await_need(&self, need: &Need, completed: bool, reporter: &Reporter) -> Result<()> {
        let units = self.all().into_iter();
        let units = units.filter(|unit| unit.identity.service == need.service && !unit.identity.one_off);
        for unit in units {
            self.await_unit(&unit, need.condition, completed, reporter).await?;
        }
        Ok(())
    }

    async fn await_unit(
        &self,
        unit: &Rc<Unit>,
        condition: Condition,
        completed: bool,
        reporter: &Reporter,
    ) -> Result<()> {
        let name = &unit.identity.name;
        let mut told = false;
        loop {
            let (changed, overruled) = (unit.changed.notified(), self.overruled.notified());
            let standing = match completed {
                true => completion(Self::state_of(unit)?, &unit.identity.service),
                false => wellness(unit, Self::state_of(unit)?, condition),
            };
            match standing {
                Standing::Reached => {
                    let phase = if completed { Phase::Exited } else { Phase::Healthy };
                    if told {
                        reporter.container(name, phase);
                    }
                    return Ok(());
                }
                Standing::Never(why) => return Err(Failure::environment(why).into()),
                Standing::NotYet => {}
            }
            let settled = async {
                match Self::state_of(unit) {
                    Ok(State::Running { since, .. }) if condition == Condition::Started => {
                        let age = Duration::from_nanos(time::now().saturating_sub(since));
                        tokio::time::sleep(SETTLED.saturating_sub(age)).await;
                    }
                    _ => std::future::pending().await,
                }
            };
            if !std::mem::replace(&mut told, true) {
                reporter.container(name, Phase::Waiting);
            }
            tokio::select! {
                () = changed => {}
                () = settled => {}
                () = overruled => {
                    let why = format!("no longer waiting for container {name}: another command came");
                    return Err(Failure::environment(why).into());
                }
            }
        }
    }
}

fn completion(state: State, service: &str) -> Standing {
    match state {
        State::Exited { code: 0, .. } => Standing::Reached,
        State::Exited { code, .. } => {
            Standing::Never(format!("service \"{service}\" didn't complete successfully: exit {code}"))
        }
        State::Created | State::Running { .. } | State::Restarting { .. } => Standing::NotYet,
    }
}

/// Healthy, or for `--wait` of a container without a check: running.
fn wellness(unit: &Unit, state: State, condition: Condition) -> Standing {
    let name = &unit.identity.name;
    let failed =
        |what: String| Standing::Never(format!("dependency failed to start: container {name} {what}"));
    match state {
        State::Exited { code, .. } => failed(format!("exited ({code})")),
        State::Created | State::Restarting { .. } => Standing::NotYet,
        State::Running { since, .. } => match unit.health().map(|health| health.status) {
            Some(Status::Healthy) => Standing::Reached,
            Some(Status::Unhealthy) => failed("is unhealthy".to_owned()),
            Some(Status::Starting) => Standing::NotYet,
            None if condition == Condition::Healthy => failed("has no healthcheck configured".to_owned()),
            None if time::now().saturating_sub(since) < SETTLED.as_nanos() as u64 => Standing::NotYet,
            None => Standing::Reached,
        },
    }
}
