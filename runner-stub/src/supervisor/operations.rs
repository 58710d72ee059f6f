//! What each request means: validate, plan, carry out.

mod down;
mod layers;
mod one_off;
mod ports;
mod up;

pub(crate) use layers::threads;

use std::rc::Rc;

use anyhow::{Context as _, Result};
use dpack_compose::project::Project;
use dpack_sandbox::signal::Signal;

use super::carry_out::{OnFailure, carry_out};
use super::reporter::Reporter;
use super::state::Supervisor;
use crate::failure::Failure;
use crate::plan::{self, Action, Plan};
use crate::project::Record;
use crate::protocol::{Done, Phase, Request};

impl Supervisor {
    /// Carries a request out. One at a time changes the project; only `kill` does not wait, because it is how a user gets
    /// out of a stop that takes long.
    pub(crate) async fn carry_out_request(
        self: &Rc<Self>,
        request: Request,
        reporter: &Reporter,
    ) -> Result<Done> {
        if let Request::Kill { services, signal } = &request {
            return self.kill_services(services, signal, reporter);
        }
        let _operation = self.operation.lock().await;
        match request {
            Request::Up { desired, services, timeout } => {
                self.up(*desired, &services, timeout, reporter).await
            }
            Request::Prepare { desired, service, dependencies } => {
                self.prepare_one_off(&desired, &service, dependencies, reporter).await
            }
            Request::RunDetached { desired, service, name, dependencies } => {
                self.run_detached(&desired, &service, &name, dependencies, reporter).await
            }
            Request::Start { services } => self.start_services(&services, reporter).await,
            Request::Stop { services, timeout } => self.stop_services(&services, timeout, reporter).await,
            Request::Restart { services, timeout } => {
                self.restart_services(&services, timeout, reporter).await
            }
            Request::Down { volumes, timeout } => self.down(volumes, timeout, reporter).await,
            Request::Kill { .. } => Ok(self.done(&Plan::default())),
        }
    }

    /// The project as the last `up` left it.
    pub(crate) fn known(&self) -> Result<Project> {
        let record = Record::load(&self.project)?;
        record.map(|record| record.desired.project).ok_or_else(|| {
            Failure::usage(format!("project `{}` has never been up", self.name))
                .hint("create its containers with: up")
                .into()
        })
    }

    pub(crate) fn done(&self, plan: &Plan) -> Done {
        Done {
            containers: plan.steps.iter().map(|step| step.container.clone()).collect(),
            supervisor: std::process::id().cast_signed(),
        }
    }

    async fn start_services(self: &Rc<Self>, services: &[String], reporter: &Reporter) -> Result<Done> {
        let project = self.known()?;
        let plan = plan::start(&project, &self.existing(), services)?;
        self.check_layers(&plan, reporter).await?;
        self.ensure_network(&project).await?;
        self.publish_ports(&plan).await?;
        let started = self.start_steps(&plan, reporter).await;
        self.undo_ports(&plan).await;
        started.map(|()| self.done(&plan))
    }

    /// Starts what the plan starts or keeps.
    async fn start_steps(self: &Rc<Self>, plan: &Plan, reporter: &Reporter) -> Result<()> {
        carry_out(&plan.steps, OnFailure::Skip, |step| {
            let (supervisor, reporter) = (Rc::clone(self), reporter.clone());
            async move {
                let unit = supervisor
                    .unit(&step.container)
                    .with_context(|| format!("container {} is gone", step.container))?;
                let begins = step.action == Action::Start;
                if begins {
                    reporter.container(&step.container, Phase::Starting);
                }
                supervisor.start(&unit).await?;
                if begins {
                    reporter.container(&step.container, Phase::Started);
                }
                Ok(())
            }
        })
        .await
    }

    async fn stop_services(
        self: &Rc<Self>,
        services: &[String],
        timeout: Option<u32>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let project = self.known()?;
        let plan = plan::stop(&project, &self.planned_as_running(), services)?;
        self.stop_steps(&plan, timeout, reporter).await?;
        Ok(self.done(&plan))
    }

    async fn stop_steps(
        self: &Rc<Self>,
        plan: &Plan,
        timeout: Option<u32>,
        reporter: &Reporter,
    ) -> Result<()> {
        carry_out(&plan.steps, OnFailure::GoOn, |step| {
            let (supervisor, reporter) = (Rc::clone(self), reporter.clone());
            async move {
                let Some(unit) = supervisor.unit(&step.container) else { return Ok(()) };
                reporter.container(&step.container, Phase::Stopping);
                supervisor.stop(&unit, timeout).await?;
                reporter.container(&step.container, Phase::Stopped);
                Ok(())
            }
        })
        .await
    }

    async fn restart_services(
        self: &Rc<Self>,
        services: &[String],
        timeout: Option<u32>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let project = self.known()?;
        let stop = plan::stop(&project, &self.planned_as_running(), services)?;
        self.check_layers(&plan::start(&project, &self.existing(), services)?, reporter).await?;
        self.stop_steps(&stop, timeout, reporter).await?;
        self.ensure_network(&project).await?;
        let start = plan::start(&project, &self.existing(), services)?;
        self.publish_ports(&start).await?;
        let started = self.start_steps(&start, reporter).await;
        self.undo_ports(&start).await;
        started.map(|()| self.done(&start))
    }

    /// What there is, with containers that wait for their next start counted as running: they have to be stopped too.
    fn planned_as_running(&self) -> Vec<plan::Existing> {
        let mut existing = self.existing();
        for container in &mut existing {
            container.running |= self.unit(&container.name).is_some_and(|unit| unit.supervision().restarting);
        }
        existing
    }

    fn kill_services(&self, services: &[String], signal: &str, reporter: &Reporter) -> Result<Done> {
        let parsed: Signal = signal.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let plan = plan::stop(&self.known()?, &self.planned_as_running(), services)?;
        for step in &plan.steps {
            let Some(unit) = self.unit(&step.container) else { continue };
            reporter.container(&step.container, Phase::Killing);
            self.kill(&unit, parsed)?;
            reporter.container(&step.container, Phase::Killed);
        }
        Ok(self.done(&plan))
    }
}
