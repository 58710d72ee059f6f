//! What `run` asks for: a container beside the replicas of its service.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::super::reporter::Reporter;
use super::super::state::Supervisor;
use super::create::Order;
use super::up::check_binds;
use crate::plan::{self, Action, Plan, Step, UpOptions};
use crate::project::Record;
use crate::protocol::{Desired, Done};

/// A container in the background, as `run` wants it.
#[derive(Clone, Copy)]
pub(crate) struct OneOff<'a> {
    /// Its service, which is already changed as the command line says.
    pub(crate) service: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// It goes on without limits that cannot be enforced.
    pub(crate) allow_degraded: bool,
    /// It answers to the names of its service.
    pub(crate) aliases: bool,
    /// It is removed when it exits.
    pub(crate) remove: bool,
}

/// What a container beside the replicas of its service needs.
#[derive(Clone, Copy)]
pub(crate) struct Preparation<'a> {
    /// Its service.
    pub(crate) service: &'a str,
    /// What it depends on is started.
    pub(crate) dependencies: bool,
    /// That goes on without limits that cannot be enforced.
    pub(crate) allow_degraded: bool,
}

impl Supervisor {
    /// Starts what a one-off container needs.
    pub(crate) async fn prepare_one_off(
        self: &Rc<Self>,
        desired: &Desired,
        preparation: Preparation<'_>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let Preparation { service, dependencies, allow_degraded } = preparation;
        plan::check_services(&desired.project, &[service.to_owned()])?;
        let needs: Vec<String> = desired
            .project
            .services
            .get(service)
            .into_iter()
            .flat_map(|service| service.depends_on.keys().cloned())
            .collect();
        if dependencies && !needs.is_empty() {
            let options = UpOptions { services: needs, allow_degraded, ..UpOptions::default() };
            let up = self.up(desired.clone(), &options, reporter).await?;
            // Not only those that the services before needed.
            self.ensure_network_for(&desired.project, reporter).await?;
            return Ok(up);
        }
        if Record::load(&self.project)?.is_none() {
            let record = Record::new(desired.clone(), self.executable.build(), self.executable.layers());
            record.store(&self.project)?;
        }
        self.ensure_network_for(&desired.project, reporter).await?;
        Ok(self.done(&Plan::default()))
    }

    /// A one-off container in the background.
    pub(crate) async fn run_detached(
        self: &Rc<Self>,
        desired: &Desired,
        one_off: &OneOff<'_>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let OneOff { service, name, allow_degraded, aliases, remove } = *one_off;
        let mut definition = desired.project.services.get(service).context("a service is gone")?.clone();
        self.within(service, &mut definition, allow_degraded, reporter).await?;
        let image = self.executable.image(service, &definition.image)?.clone();
        let step = Step::new(name.to_owned(), service, 1, Action::Create);
        let plan = Plan { steps: vec![step], orphans: Vec::new() };
        self.lay_out_files().await?;
        check_binds(&desired.project, &plan)?;
        let images = BTreeMap::from([(service.to_owned(), image.clone())]);
        let stacks = self.extract(&desired.project, &plan, &images, reporter).await?;
        let order = Order {
            name: name.to_owned(),
            service_name: service.to_owned(),
            service: definition,
            image,
            model: Arc::new(desired.project.clone()),
            stacks: Arc::new(stacks),
            anonymous_of: name.to_owned(),
            number: 1,
            one_off: true,
            configuration: String::new(),
            aliases,
            remove,
        };
        let unit = self.create_container(order).await?;
        self.start(&unit).await?;
        Ok(Done { id: unit.identity.id.clone(), ..self.done(&plan) })
    }
}
