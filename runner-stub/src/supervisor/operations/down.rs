//! `down`: removes what `up` made. Errors are collected, and everything that can go goes.

use std::rc::Rc;

use anyhow::Result;
use dpack_compose::project::Project;

use super::super::carry_out::{OnFailure, carry_out};
use super::super::reporter::Reporter;
use super::super::state::Supervisor;
use crate::failure::Failure;
use crate::files;
use crate::plan;
use crate::project::Record;
use crate::protocol::{Done, Item, Phase};

impl Supervisor {
    /// Stops and removes all containers, the networks and, on request, the volumes.
    pub(crate) async fn down(
        self: &Rc<Self>,
        volumes: bool,
        timeout: Option<u32>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let project = Record::load(&self.project)?.map(|record| record.desired.project).unwrap_or_default();
        let plan = plan::down(&project, &self.existing());
        let mut result = carry_out(&plan.steps, OnFailure::GoOn, |step| {
            let (supervisor, reporter) = (Rc::clone(self), reporter.clone());
            async move {
                match supervisor.unit(&step.container) {
                    Some(unit) => supervisor.stop_and_remove(&unit, timeout, &reporter).await,
                    None => Ok(()),
                }
            }
        })
        .await;
        if self.units.borrow().is_empty() {
            // Halves of containers, whose making was interrupted.
            result = result.and(dpack_store::remove_tree(&self.project.containers()).map_err(Into::into));
            self.remove_networks(&project, reporter).await;
        }
        if volumes && result.is_ok() {
            result = self.remove_volumes(&project, reporter);
        }
        self.collect_garbage().await;
        result.map(|()| self.done(&plan))
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
        files::remove(&self.project.record())
    }
}
