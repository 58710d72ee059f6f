//! What each request means: validate, plan, carry out.

mod create;
mod down;
mod layers;
mod one_off;
mod ports;
mod pre_start;
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
use down::Down;
use one_off::{OneOff, Preparation};

impl Supervisor {
    /// Carries a request out. One at a time changes the project; only `kill` does not wait, because it is how a user gets
    /// out of a stop that takes long.
    pub(crate) async fn carry_out_request(
        self: &Rc<Self>,
        request: Request,
        reporter: &Reporter,
    ) -> Result<Done> {
        if let Request::Kill { services, signal, orphans } = &request {
            let done = self.kill_services(services, signal, reporter)?;
            if !orphans {
                return Ok(done);
            }
        }
        if matches!(request, Request::Stop { .. } | Request::Down { .. }) {
            self.overruled.notify_waiters();
        }
        let _operation = self.operation.lock().await;
        match request {
            Request::Up { desired, options } => self.up(*desired, &options, reporter).await,
            Request::Prepare { desired, service, dependencies, allow_degraded } => {
                let one_off = Preparation { service: &service, dependencies, allow_degraded };
                self.prepare_one_off(&desired, one_off, reporter).await
            }
            Request::RunDetached {
                desired,
                service,
                name,
                dependencies,
                allow_degraded,
                aliases,
                remove,
            } => {
                let preparation = Preparation { service: &service, dependencies, allow_degraded };
                self.prepare_one_off(&desired, preparation, reporter).await?;
                let one_off = OneOff { service: &service, name: &name, allow_degraded, aliases, remove };
                self.run_detached(&desired, &one_off, reporter).await
            }
            Request::RemoveOrphans => self.remove_orphans(reporter).await,
            Request::Start { services } => self.start_services(&services, reporter).await,
            Request::Stop { services, timeout } => self.stop_services(&services, timeout, reporter).await,
            Request::Restart { services, dependents, timeout } => {
                let services = self.with_dependents(services, dependents)?;
                self.restart_services(&services, timeout, reporter).await
            }
            Request::Remove { services, stop, volumes } => {
                self.remove_services(&services, stop, volumes, reporter).await
            }
            Request::Down { services, volumes, orphans, timeout } => {
                self.down(&Down { services, volumes, orphans, timeout }, reporter).await
            }
            // What is left of it: the orphans.
            Request::Kill { .. } => self.remove_orphans(reporter).await,
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
            plan: String::new(),
            id: String::new(),
            supervisor: std::process::id().cast_signed(),
        }
    }

    /// Services and those whose `depends_on` says that they restart with one of them.
    fn with_dependents(&self, services: Vec<String>, dependents: bool) -> Result<Vec<String>> {
        if !dependents || services.is_empty() {
            return Ok(services);
        }
        let project = self.known()?;
        plan::check_services(&project, &services)?;
        let restarts = |service: &dpack_compose::project::Service| {
            service.depends_on.iter().any(|(name, dependency)| dependency.restart && services.contains(name))
        };
        let more = project.services.iter().filter(|(name, service)| {
            let there = self.existing().iter().any(|e| e.service == **name && e.running && !e.one_off);
            there && !services.contains(name) && restarts(service)
        });
        let more: Vec<String> = more.map(|(name, _)| name.clone()).collect();
        Ok([services, more].concat())
    }

    async fn start_services(self: &Rc<Self>, services: &[String], reporter: &Reporter) -> Result<Done> {
        let project = self.known()?;
        let plan = plan::start(&project, &self.existing(), services)?;
        self.check_layers(&plan, reporter).await?;
        self.ensure_network_for(&project, reporter).await?;
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
                    Supervisor::check_prepared(&unit)?;
                    supervisor.await_needs(&step.needs, &reporter).await?;
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
        self.ensure_network_for(&project, reporter).await?;
        let start = plan::start(&project, &self.existing(), services)?;
        self.publish_ports(&start).await?;
        let started = self.start_steps(&start, reporter).await;
        self.undo_ports(&start).await;
        started.map(|()| self.done(&start))
    }

    /// What there is, with containers that wait for their next start counted as running: they have to be stopped too.
    pub(crate) fn planned_as_running(&self) -> Vec<plan::Existing> {
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
