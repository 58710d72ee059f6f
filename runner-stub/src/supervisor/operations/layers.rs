//! Layers on the device: extracted when something needs them, removed when nothing does.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use dpack_compose::project::Project;
use dpack_payload::application::Image;
use dpack_payload::digest::DiffId;
use dpack_store::{Driver, Store};
use tokio::task::spawn_blocking;

use super::super::create::{Stacks, store_kind};
use super::super::labels;
use super::super::lifecycle::note;
use super::super::project_files::lay_out;
use super::super::reporter::Reporter;
use super::super::state::Supervisor;
use crate::failure::extracting;
use crate::plan::{Action, Plan, Step};
use crate::project::layers_in_use;

impl Supervisor {
    /// Removes layers that no project needs. What cannot be removed now is next time.
    pub(crate) async fn collect_garbage(&self) {
        let (store, paths, ours) = (self.store(), self.paths.clone(), self.executable.layers());
        let (unused, name) = (self.unused_store(), self.name.clone());
        let collected = spawn_blocking(move || -> Result<()> {
            // A record that cannot be read stops us: its layers must not go.
            let before = layers_in_use(&paths, None)?;
            let in_use = || layers_in_use(&paths, None).unwrap_or_default();
            store?.collect_garbage(|| [in_use(), before.clone(), ours].concat())?;
            if let Some(unused) = unused? {
                // We use the other driver; containers that were made with this one have its layers all the same.
                unused.collect_garbage(|| layers_in_use(&paths, Some(&name)).unwrap_or(before))?;
            }
            Ok(())
        });
        if let Ok(Err(error)) = collected.await {
            note(&error.context("failed to remove unused layers"));
        }
    }

    /// What was extracted for the driver that is not used: it was another kernel, or asked for.
    fn unused_store(&self) -> Result<Option<Store>> {
        let driver = match self.driver()?.driver {
            Driver::Overlay => Driver::Copy,
            Driver::Copy => Driver::Overlay,
        };
        let kind = store_kind(&self.id_map);
        match Store::folder(&self.paths.data, kind, driver).is_dir() {
            true => Ok(Some(Store::open(&self.paths.data, kind, driver)?)),
            false => Ok(None),
        }
    }

    /// Extracts the layers of every image that the plan needs; folders by image reference.
    pub(crate) async fn extract(
        &self,
        project: &Project,
        plan: &Plan,
        images: &BTreeMap<String, Image>,
        reporter: &Reporter,
    ) -> Result<Stacks> {
        let makes = |step: &Step| matches!(step.action, Action::Create | Action::Recreate);
        if let (Some(reason), true) = (&self.driver()?.reason, plan.steps.iter().any(makes)) {
            reporter.warn(format!(
                "each container gets a copy of its image, which takes time and room: {reason}"
            ));
        }
        let mut needed: BTreeMap<String, Vec<DiffId>> = BTreeMap::new();
        for step in &plan.steps {
            let Some(service) = project.services.get(&step.service) else { continue };
            let others = service.other_images().map(|image| self.executable.image(&step.service, image));
            for image in images.get(&step.service).map(Ok).into_iter().chain(others) {
                let image = image?;
                needed.insert(image.reference.clone(), image.layers.clone());
            }
        }
        let (store, executable) = (self.store()?, self.executable.clone());
        labels::prepare_store(&store);
        let extraction = reporter.extraction();
        let extracted = spawn_blocking(move || -> Result<_> {
            // All at once, so that threads and progress know of everything; then what each image stacks.
            let mut all: Vec<DiffId> = needed.values().flatten().copied().collect();
            all.sort();
            all.dedup();
            let ensured = store.ensure(executable.payload(), &all, threads(), &extraction);
            extracting(ensured, || "failed to extract the images".to_owned())?;
            let mut folders = BTreeMap::new();
            for (reference, layers) in &needed {
                let ensured = store.ensure(executable.payload(), layers, threads(), &dpack_store::Silent);
                let ensured = extracting(ensured, || format!("failed to extract image `{reference}`"))?;
                folders.insert(reference.clone(), ensured);
            }
            Ok((folders, extraction.happened()))
        });
        let (folders, extracted) = extracted.await.context("an extraction was cut short")??;
        if extracted {
            let store = self.store()?;
            // Nobody waits for it; until then, a power cut only costs another extraction.
            drop(spawn_blocking(move || {
                store.settle().inspect_err(|error| note(&anyhow::anyhow!("{error}")))
            }));
        }
        Ok(folders)
    }

    /// Lays out the files of the project folder that travel in the executable.
    pub(crate) async fn lay_out_files(&self) -> Result<()> {
        let (store, executable, project) = (self.store()?, self.executable.clone(), self.project.clone());
        let Some(files) = executable.project_files() else { return Ok(()) };
        let done = spawn_blocking(move || lay_out(&files.layer, || Ok(&executable), &project, &store));
        done.await.context("laying out files was cut short")?
    }

    /// Makes sure that the layers of containers that are there have not gone.
    pub(crate) async fn check_layers(&self, plan: &Plan, reporter: &Reporter) -> Result<()> {
        let mut images = BTreeMap::new();
        for step in plan.steps.iter().filter(|step| step.action == Action::Start) {
            let Some(unit) = self.unit(&step.container) else { continue };
            let identity = &unit.identity;
            match self.executable.images().find(|image| image.digest == identity.digest) {
                Some(image) => {
                    images.insert(step.service.clone(), image.clone());
                }
                None => reporter.warn(format!("container {} is of an earlier executable", identity.name)),
            }
        }
        let steps = plan.steps.iter().filter(|step| images.contains_key(&step.service)).cloned().collect();
        let plan = Plan { steps, orphans: Vec::new() };
        self.extract(&self.known()?, &plan, &images, reporter).await.map(drop)
    }
}

/// Extraction uses every processor.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
