//! `up`: everything is checked before anything is changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use dpack_compose::project::{MountSource, Project, VolumePlace};
use dpack_payload::application::Image;

use super::super::carry_out::{OnFailure, carry_out};
use super::super::create::Stacks;
use super::super::labels::{self, Labelling};
use super::super::reporter::Reporter;
use super::super::sources::{anonymous_volumes, check_files, check_volume, provide_bind};
use super::super::state::Supervisor;
use super::create::Order;
use crate::container::configuration_hash;
use crate::failure::{Context as _, Failure};
use crate::plan::{self, Action, Plan, Step, UpOptions};
use crate::project::Record;
use crate::protocol::{Desired, Done, Item, Phase};

/// What steps of one `up` share.
pub(super) struct Up {
    pub(super) project: Arc<Project>,
    configurations: BTreeMap<String, String>,
    images: BTreeMap<String, Image>,
    pub(super) stacks: Arc<Stacks>,
    timeout: Option<u32>,
    renew_volumes: bool,
}

impl Supervisor {
    /// Makes and starts services and what they depend on: all are made before the first is started, as in Docker
    /// Compose, so that a mistake in one leaves the others as they were.
    pub(crate) async fn up(
        self: &Rc<Self>,
        desired: Desired,
        options: &UpOptions,
        reporter: &Reporter,
    ) -> Result<Done> {
        let project = desired.project.clone();
        let project = self.within_limits(project, options, reporter).await?;
        let images = self.images(&project)?;
        let configurations = self.configurations(&project, &images)?;
        let plan = plan::up(&project, &configurations, &self.existing(), options)?;
        if options.dry_run {
            return Ok(Done { plan: plan.to_string(), ..self.done(&plan) });
        }
        self.lay_out_files().await?;
        check_binds(&project, &plan)?;
        let labelling = labels::look(self.driver()?.driver);
        self.check_labels(&labelling, &project, &plan)?;
        self.warn_orphans(&plan, reporter);
        warn_labels(&labelling, &plan, reporter);
        let record = Record::new(desired, self.executable.build(), self.executable.layers());
        self.write_record(record).await?;
        let stacks = self.extract(&project, &plan, &images, reporter).await?;
        self.make_networks_and_volumes(&project, &plan, reporter).await?;
        let up = Rc::new(Up {
            project: Arc::new(project),
            configurations,
            images,
            stacks: Arc::new(stacks),
            timeout: options.timeout,
            renew_volumes: options.renew_volumes,
        });
        if !options.create_only {
            self.publish_ports_of(&up.project, &plan).await?;
        }
        let mut result = self.make(&up, &plan, reporter).await;
        if result.is_ok() && !options.create_only {
            result = self.start_made(&up, &plan, reporter).await;
        }
        if result.is_ok() && options.wait {
            result = self.await_all(&up.project, &plan, options, reporter).await;
        }
        self.undo_ports(&plan).await;
        result.map(|()| self.done(&plan))
    }

    /// Removes what the plan removes, then makes what it makes.
    async fn make(self: &Rc<Self>, up: &Rc<Up>, plan: &Plan, reporter: &Reporter) -> Result<()> {
        let at_once = |wanted: fn(&Action) -> bool| -> Vec<Step> {
            let steps = plan.steps.iter().filter(|step| wanted(&step.action)).cloned();
            steps.map(|step| Step { after: Vec::new(), ..step }).collect()
        };
        carry_out(&at_once(|action| matches!(action, Action::Remove)), OnFailure::Skip, |step| {
            let (supervisor, up, reporter) = (Rc::clone(self), Rc::clone(up), reporter.clone());
            async move {
                let Some(unit) = supervisor.unit(&step.container) else { return Ok(()) };
                supervisor.stop_and_remove(&unit, up.timeout, &reporter).await
            }
        })
        .await?;
        // They are started again in their turn.
        carry_out(&at_once(|action| matches!(action, Action::Restart)), OnFailure::Skip, |step| {
            let (supervisor, up, reporter) = (Rc::clone(self), Rc::clone(up), reporter.clone());
            async move {
                let Some(unit) = supervisor.unit(&step.container) else { return Ok(()) };
                reporter.container(&step.container, Phase::Stopping);
                supervisor.stop(&unit, up.timeout).await?;
                reporter.container(&step.container, Phase::Stopped);
                Ok(())
            }
        })
        .await?;
        carry_out(&at_once(makes), OnFailure::Skip, |step| {
            let (supervisor, up, reporter) = (Rc::clone(self), Rc::clone(up), reporter.clone());
            async move { supervisor.make_step(&up, &step, &reporter).await }
        })
        .await
    }

    async fn make_step(self: &Rc<Self>, up: &Rc<Up>, step: &Step, reporter: &Reporter) -> Result<()> {
        let name = &step.container;
        let (begin, end) = match step.action {
            Action::Recreate => (Phase::Recreate, Phase::Recreated),
            _ => (Phase::Creating, Phase::Created),
        };
        reporter.container(name, begin);
        if let Some(unit) = self.unit(name) {
            self.stop(&unit, up.timeout).await?;
            self.remove(&unit).await?;
            for volume in anonymous_volumes(&self.project, name).iter().filter(|_| up.renew_volumes) {
                dpack_store::remove_tree(volume)?;
            }
        }
        self.create_replica(up, step).await?;
        reporter.container(name, end);
        Ok(())
    }

    /// Starts what the plan makes, starts or keeps, each after what it depends on.
    async fn start_made(self: &Rc<Self>, up: &Rc<Up>, plan: &Plan, reporter: &Reporter) -> Result<()> {
        let steps: Vec<Step> =
            plan.steps.iter().filter(|step| step.action != Action::Remove).cloned().collect();
        carry_out(&steps, OnFailure::Skip, |step| {
            let (supervisor, up, reporter) = (Rc::clone(self), Rc::clone(up), reporter.clone());
            async move { supervisor.start_step(&up, &step, &reporter).await }
        })
        .await
    }

    async fn start_step(self: &Rc<Self>, up: &Rc<Up>, step: &Step, reporter: &Reporter) -> Result<()> {
        let name = &step.container;
        let unit = self.unit(name).with_context(|| format!("container {name} is gone"))?;
        if step.action == Action::Keep {
            // It may be about to end: an earlier supervisor was killed while it stopped this container.
            self.start(&unit).await?;
            reporter.container(name, Phase::Running);
            return Ok(());
        }
        self.await_needs(&step.needs, reporter).await?;
        self.pre_start(up, &unit, reporter).await?;
        reporter.container(name, Phase::Starting);
        self.start(&unit).await?;
        reporter.container(name, Phase::Started);
        Ok(())
    }

    async fn create_replica(self: &Rc<Self>, up: &Rc<Up>, step: &Step) -> Result<()> {
        let order = Order {
            name: step.container.clone(),
            service_name: step.service.clone(),
            service: up.project.services.get(&step.service).context("a service is gone")?.clone(),
            image: up.images.get(&step.service).context("an image is gone")?.clone(),
            model: Arc::clone(&up.project),
            stacks: Arc::clone(&up.stacks),
            anonymous_of: step.container.clone(),
            number: step.number,
            one_off: false,
            configuration: up.configurations.get(&step.service).cloned().unwrap_or_default(),
            aliases: false,
            remove: false,
        };
        self.create_container(order).await.map(drop)
    }

    /// The image of every service: also of those that are not selected, so that a mistake shows early.
    fn images(&self, project: &Project) -> Result<BTreeMap<String, Image>> {
        let image =
            |(name, service): (&String, &dpack_compose::project::Service)| -> Result<(String, Image)> {
                for image in service.other_images() {
                    self.executable.image(name, image)?;
                }
                Ok((name.clone(), self.executable.image(name, &service.image)?.clone()))
            };
        project.services.iter().map(image).collect()
    }

    fn configurations(
        &self,
        project: &Project,
        images: &BTreeMap<String, Image>,
    ) -> Result<BTreeMap<String, String>> {
        let services =
            project.services.iter().filter_map(|(name, service)| Some((name, service, images.get(name)?)));
        services
            .map(|(name, service, image)| {
                let others = service.other_images();
                let others = others.map(|other| Ok(self.executable.image(name, other)?.digest));
                let others: Vec<_> = others.collect::<Result<_, Failure>>()?;
                let hash = configuration_hash(project, service, &image.digest, &others, &self.id_map)?;
                Ok((name.clone(), hash))
            })
            .collect()
    }

    pub(crate) fn warn_orphans(&self, plan: &Plan, reporter: &Reporter) {
        if !plan.orphans.is_empty() {
            reporter.warn(format!(
                "containers of services that the project no longer has: {}; `--remove-orphans` removes them",
                plan.orphans.join(", ")
            ));
        }
    }

    /// Where the device has SELinux, folders that must keep their labels stop us before anything is made.
    fn check_labels(&self, labelling: &Labelling, project: &Project, plan: &Plan) -> Result<()> {
        let Labelling::Possible(found) = labelling else { return Ok(()) };
        for step in plan.steps.iter().filter(|step| makes(&step.action)) {
            let service =
                project.services.get(&step.service).filter(|service| found.of_service(service).is_some());
            for mount in service.iter().flat_map(|service| &service.volumes) {
                if let MountSource::Bind { source, selinux: Some(_), .. } = &mount.source {
                    labels::check_path(&self.project, &step.service, Path::new(source))?;
                }
            }
        }
        Ok(())
    }

    /// Writes `project.json`. Layers of an earlier executable that nobody needs any more go.
    async fn write_record(&self, record: Record) -> Result<()> {
        let updated = Record::load(&self.project)?.is_some_and(|earlier| earlier.layers != record.layers);
        record.store(&self.project)?;
        if updated {
            self.collect_garbage().await;
        }
        Ok(())
    }

    async fn make_networks_and_volumes(
        self: &Rc<Self>,
        project: &Project,
        plan: &Plan,
        reporter: &Reporter,
    ) -> Result<()> {
        for (key, volume) in &project.volumes {
            let used = |service: &String| {
                project.services.get(service).is_some_and(|service| {
                    service.volumes.iter().any(|mount| matches!(&mount.source, MountSource::Volume { source: Some(source), .. } if source == key))
                })
            };
            let folder = self.project.volumes().join(key);
            if plan.steps.iter().any(|step| used(&step.service)) && !folder.is_dir() {
                reporter.item(Item::Volume, &volume.name, Phase::Creating);
                std::fs::create_dir_all(&folder)
                    .with_context(|| format!("failed to create volume `{key}`"))
                    .environment()?;
                reporter.item(Item::Volume, &volume.name, Phase::Created);
            }
        }
        let new = self.all().iter().all(|unit| !unit.running.get());
        let named: Vec<&str> = project.networks.values().map(|network| network.name.as_str()).collect();
        if new {
            named.iter().for_each(|name| reporter.item(Item::Network, name, Phase::Creating));
        }
        self.ensure_network_for(project, reporter).await?;
        if new {
            named.iter().for_each(|name| reporter.item(Item::Network, name, Phase::Created));
        }
        Ok(())
    }
}

/// A container is made.
const fn makes(action: &Action) -> bool {
    matches!(action, Action::Create | Action::Recreate)
}

/// Where containers that are made cannot be labelled, that is said.
fn warn_labels(labelling: &Labelling, plan: &Plan, reporter: &Reporter) {
    if plan.steps.iter().any(|step| makes(&step.action))
        && let Some((warning, hint)) = labels::warning(labelling)
    {
        reporter.warn(format!("{warning}\nhint: {hint}"));
    }
}

/// Bind sources that are missing are made; those that cannot be stop us before anything starts.
pub(crate) fn check_binds(project: &Project, plan: &Plan) -> Result<(), Failure> {
    for step in plan.steps.iter().filter(|step| makes(&step.action)) {
        let Some(service) = project.services.get(&step.service) else { continue };
        check_files(project, service)?;
        for mount in &service.volumes {
            if let MountSource::Bind { source, create_host_path, .. } = &mount.source {
                provide_bind(&step.service, Path::new(source), *create_host_path)?;
            }
            if let MountSource::Volume { source: Some(key), .. } = &mount.source
                && let Some(VolumePlace::Bind(path)) =
                    project.volumes.get(key).and_then(|volume| volume.place.as_ref())
            {
                check_volume(key, Path::new(path))?;
            }
        }
    }
    Ok(())
}
