//! `down`: removes what `up` made. Errors are collected, and everything that can go goes.

use std::rc::Rc;

use anyhow::{Context as _, Result};
use dpack_compose::project::Project;

use super::super::carry_out::{OnFailure, carry_out};
use super::super::reporter::Reporter;
use super::super::sources::anonymous_volumes;
use super::super::state::Supervisor;
use crate::failure::{Context as _, Failure};
use crate::files;
use crate::plan::{self, Plan};
use crate::project::Record;
use crate::protocol::{Done, Item, Phase};

/// What `down` is told.
pub(crate) struct Down {
    /// Services; all, with the networks, when empty.
    pub(crate) services: Vec<String>,
    /// The volumes too.
    pub(crate) volumes: bool,
    /// Containers of services that the project no longer has too.
    pub(crate) orphans: bool,
    /// Seconds between the stop signal and SIGKILL.
    pub(crate) timeout: Option<u32>,
}

impl Supervisor {
    /// Stops and removes all containers, the networks and, on request, the volumes.
    pub(crate) async fn down(self: &Rc<Self>, down: &Down, reporter: &Reporter) -> Result<Done> {
        let record = Record::load(&self.project)?;
        // Without a record nobody can tell what is an orphan.
        let orphans = down.orphans || record.is_none();
        let project = record.map(|record| record.desired.project).unwrap_or_default();
        let plan = plan::down(&project, &self.existing(), &down.services, orphans)?;
        self.warn_orphans(&plan, reporter);
        let mut result = self.remove_steps(&plan, down.timeout, down.volumes, reporter).await;
        let whole = down.services.is_empty();
        if whole && self.units.borrow().is_empty() {
            // Halves of containers, whose making was interrupted.
            result = result.and(dpack_store::remove_tree(&self.project.containers()).map_err(Into::into));
            self.remove_networks(&project, reporter).await;
            if down.volumes && result.is_ok() {
                result = self.remove_volumes(&project, reporter);
            }
        }
        self.collect_garbage().await;
        result.map(|()| self.done(&plan))
    }

    /// `rm`: containers that do not run, or all of them.
    pub(crate) async fn remove_services(
        self: &Rc<Self>,
        services: &[String],
        stop: bool,
        volumes: bool,
        reporter: &Reporter,
    ) -> Result<Done> {
        let plan = plan::remove(&self.known()?, &self.planned_as_running(), services, stop)?;
        self.remove_steps(&plan, None, volumes, reporter).await?;
        Ok(self.done(&plan))
    }

    /// Removes containers of services that the project no longer has.
    pub(crate) async fn remove_orphans(self: &Rc<Self>, reporter: &Reporter) -> Result<Done> {
        let project = self.known()?;
        let existing = self.existing();
        let orphans = existing.into_iter().filter(|e| !plan::is_known(&project, &e.service));
        let plan = plan::down(&Project::default(), &orphans.collect::<Vec<_>>(), &[], true)?;
        self.remove_steps(&plan, None, false, reporter).await?;
        Ok(self.done(&plan))
    }

    async fn remove_steps(
        self: &Rc<Self>,
        plan: &Plan,
        timeout: Option<u32>,
        volumes: bool,
        reporter: &Reporter,
    ) -> Result<()> {
        carry_out(&plan.steps, OnFailure::GoOn, |step| {
            let (supervisor, reporter) = (Rc::clone(self), reporter.clone());
            async move {
                let Some(unit) = supervisor.unit(&step.container) else { return Ok(()) };
                supervisor.stop_and_remove(&unit, timeout, &reporter).await?;
                let anonymous = anonymous_volumes(&supervisor.project, &step.container);
                for volume in anonymous.iter().filter(|_| volumes) {
                    dpack_store::remove_tree(volume)?;
                }
                Ok(())
            }
        })
        .await
    }

    async fn remove_networks(&self, project: &Project, reporter: &Reporter) {
        let names: Vec<&str> = project.networks.values().map(|network| network.name.as_str()).collect();
        if self.end_network().await {
            for name in names {
                reporter.item(Item::Network, name, Phase::Removed);
            }
        }
    }

    /// Named volumes and anonymous ones; then nothing of the project is left but the lock.
    fn remove_volumes(&self, project: &Project, reporter: &Reporter) -> Result<()> {
        let folder = self.project.volumes();
        let mut failed = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(key) = entry.file_name().into_string() else { continue };
            let name = project.volumes.get(&key).map_or(key.as_str(), |volume| volume.name.as_str());
            let named = !key.starts_with('@');
            if named {
                reporter.item(Item::Volume, name, Phase::Removing);
            }
            match dpack_store::remove_tree(&entry.path()) {
                Ok(()) if named => reporter.item(Item::Volume, name, Phase::Removed),
                Ok(()) => {}
                Err(error) => failed.push(format!("{name} ({error})")),
            }
        }
        if !failed.is_empty() {
            return Err(
                Failure::environment(format!("failed to remove volumes: {}", failed.join(", "))).into()
            );
        }
        files::remove_tree(&folder)?;
        // Containers may have written into them under other owners.
        let travelled = self.project.all_files();
        if travelled.exists() {
            dpack_store::remove_tree(&travelled)
                .with_context(|| format!("failed to remove `{}`", travelled.display()))
                .environment()?;
        }
        files::remove(&self.project.record())
    }
}
