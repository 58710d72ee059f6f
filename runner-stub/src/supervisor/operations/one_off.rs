//! What `run` asks for: a container beside the replicas of its service.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use tokio::task::spawn_blocking;

use super::super::create::{Making, create};
use super::super::reporter::Reporter;
use super::super::state::Supervisor;
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
    /// It answers to the names of its service.
    pub(crate) aliases: bool,
    /// It is removed when it exits.
    pub(crate) remove: bool,
}

impl Supervisor {
    /// Starts what a one-off container needs.
    pub(crate) async fn prepare_one_off(
        self: &Rc<Self>,
        desired: &Desired,
        service: &str,
        dependencies: bool,
        reporter: &Reporter,
    ) -> Result<Done> {
        plan::check_services(&desired.project, &[service.to_owned()])?;
        let needs: Vec<String> = desired
            .project
            .services
            .get(service)
            .into_iter()
            .flat_map(|service| service.depends_on.keys().cloned())
            .collect();
        if dependencies && !needs.is_empty() {
            let options = UpOptions { services: needs, ..UpOptions::default() };
            let up = self.up(desired.clone(), &options, reporter).await?;
            // Not only those that the services before needed.
            self.ensure_network(&desired.project).await?;
            return Ok(up);
        }
        if Record::load(&self.project)?.is_none() {
            let record = Record::new(desired.clone(), self.executable.build(), self.executable.layers());
            record.store(&self.project)?;
        }
        self.ensure_network(&desired.project).await?;
        Ok(self.done(&Plan::default()))
    }

    /// A one-off container in the background.
    pub(crate) async fn run_detached(
        self: &Rc<Self>,
        desired: &Desired,
        one_off: &OneOff<'_>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let OneOff { service, name, aliases, remove } = *one_off;
        let definition = desired.project.services.get(service).context("a service is gone")?.clone();
        let image = self.executable.image(service, &definition.image)?.clone();
        let step = Step::new(name.to_owned(), service, 1, Action::Create);
        let plan = Plan { steps: vec![step], orphans: Vec::new() };
        self.lay_out_files().await?;
        check_binds(&desired.project, &plan)?;
        let images = BTreeMap::from([(service.to_owned(), image.clone())]);
        let stacks = self.extract(&desired.project, &plan, &images, reporter).await?;
        let (project, id_map, driver) = (self.project.clone(), self.id_map.clone(), self.driver()?.driver);
        let (container, service) = (name.to_owned(), service.to_owned());
        let (model, executable) = (desired.project.clone(), self.executable.clone());
        let created = spawn_blocking(move || {
            create(&Making {
                project: &project,
                name: &container,
                service_name: &service,
                model: &model,
                executable: &executable,
                service: &definition,
                number: 1,
                one_off: true,
                image: &image,
                stacks: &stacks,
                anonymous_of: &container,
                driver,
                configuration: String::new(),
                id_map: &id_map,
                tty: definition.tty,
                aliases,
                remove,
            })
        });
        created
            .await
            .context("a creation was cut short")?
            .with_context(|| format!("failed to create container {name}"))?;
        let unit = self.take_in_by_name(name)?;
        self.start(&unit).await?;
        Ok(self.done(&plan))
    }
}
