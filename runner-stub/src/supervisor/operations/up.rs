//! `up`, and what `run` needs before its container: everything is checked before anything is changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use dpack_compose::project::{MountSource, Project, Protocol};
use dpack_payload::application::Image;
use dpack_payload::digest::DiffId;
use tokio::task::spawn_blocking;

use super::super::attach::lock;
use super::super::carry_out::{OnFailure, carry_out};
use super::super::create::{Making, check_bind, create};
use super::super::lifecycle::note;
use super::super::network::{attachment, service_ports};
use super::super::reporter::Reporter;
use super::super::state::{Supervisor, Unit};
use crate::container::{Container, configuration_hash};
use crate::failure::{Context as _, Failure};
use crate::plan::{self, Action, Plan, Step};
use crate::project::{Record, layers_in_use};
use crate::protocol::{Desired, Done, Item, Phase};

/// What steps of one `up` share.
struct Up {
    project: Project,
    configurations: BTreeMap<String, String>,
    images: BTreeMap<String, Image>,
    layers: BTreeMap<String, Vec<PathBuf>>,
    timeout: Option<u32>,
}

impl Supervisor {
    /// Makes and starts services and what they depend on.
    pub(crate) async fn up(
        self: &Rc<Self>,
        desired: Desired,
        services: &[String],
        timeout: Option<u32>,
        reporter: &Reporter,
    ) -> Result<Done> {
        let project = desired.project.clone();
        let images = self.images(&project)?;
        let configurations = self.configurations(&project, &images)?;
        let plan = plan::up(&project, &configurations, &self.existing(), services)?;
        check_binds(&project, &plan)?;
        self.warn_orphans(&plan, reporter);
        let record = Record::new(desired, self.executable.build(), self.executable.layers());
        self.write_record(record).await?;
        let layers = self.extract(&plan, &images, reporter).await?;
        self.make_networks_and_volumes(&project, &plan, reporter).await?;
        let up = Rc::new(Up { project, configurations, images, layers, timeout });
        self.publish_ports_of(&up.project, &plan).await?;
        let started = carry_out(&plan.steps, OnFailure::Skip, |step| {
            let (supervisor, up, reporter) = (Rc::clone(self), Rc::clone(&up), reporter.clone());
            async move { supervisor.up_step(&up, &step, &reporter).await }
        })
        .await;
        self.undo_ports(&plan).await;
        started.map(|()| self.done(&plan))
    }

    async fn up_step(self: &Rc<Self>, up: &Rc<Up>, step: &Step, reporter: &Reporter) -> Result<()> {
        let name = &step.container;
        let there = self.unit(name);
        match (step.action, there) {
            (Action::Keep, Some(unit)) => {
                // It may be about to end: an earlier supervisor was killed while it stopped this container.
                self.start(&unit).await?;
                reporter.container(name, Phase::Running);
                return Ok(());
            }
            (Action::Remove, Some(unit)) => return self.stop_and_remove(&unit, up.timeout, reporter).await,
            (Action::Recreate, Some(unit)) => {
                reporter.container(name, Phase::Recreate);
                self.stop(&unit, up.timeout).await?;
                self.remove(&unit).await?;
                self.create_container(up, step).await?;
                reporter.container(name, Phase::Recreated);
            }
            (Action::Start, Some(_)) => {}
            _ => {
                reporter.container(name, Phase::Creating);
                self.create_container(up, step).await?;
                reporter.container(name, Phase::Created);
            }
        }
        let unit = self.unit(name).with_context(|| format!("container {name} is gone"))?;
        reporter.container(name, Phase::Starting);
        self.start(&unit).await?;
        reporter.container(name, Phase::Started);
        Ok(())
    }

    async fn create_container(self: &Rc<Self>, up: &Rc<Up>, step: &Step) -> Result<()> {
        let service = up.project.services.get(&step.service).context("a service is gone")?.clone();
        let image = up.images.get(&step.service).context("an image is gone")?.clone();
        let layers = up.layers.get(&image.reference).context("an image has no layers")?.clone();
        let configuration = up.configurations.get(&step.service).cloned().unwrap_or_default();
        let (project, id_map, step) = (self.project.clone(), self.id_map.clone(), step.clone());
        let name = step.container.clone();
        let created = spawn_blocking(move || {
            create(&Making {
                project: &project,
                name: &step.container,
                service_name: &step.service,
                service: &service,
                number: step.number,
                one_off: false,
                image: &image,
                layers: &layers,
                configuration,
                id_map: &id_map,
                tty: false,
            })
        });
        created
            .await
            .context("a creation was cut short")?
            .with_context(|| format!("failed to create container {name}"))?;
        self.take_in_by_name(&name)?;
        Ok(())
    }

    fn take_in_by_name(&self, name: &str) -> Result<Rc<Unit>> {
        let folder = self.project.container(name);
        let container = Container::load(&folder)?.with_context(|| format!("container {name} is gone"))?;
        Ok(self.take_in(Unit::new(container, folder)))
    }

    /// The image of every service: also of those that are not selected, so that a mistake shows early.
    fn images(&self, project: &Project) -> Result<BTreeMap<String, Image>> {
        let image =
            |(name, service): (&String, &dpack_compose::project::Service)| -> Result<(String, Image)> {
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
                Ok((name.clone(), configuration_hash(service, &image.digest, &self.id_map)?))
            })
            .collect()
    }

    fn warn_orphans(&self, plan: &Plan, reporter: &Reporter) {
        if !plan.orphans.is_empty() {
            reporter.warn(format!(
                "containers of services that the project no longer has: {}; `down` removes them",
                plan.orphans.join(", ")
            ));
        }
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

    /// Removes layers that no project needs. What cannot be removed now is next time.
    pub(crate) async fn collect_garbage(&self) {
        let (store, paths, ours) = (self.store(), self.paths.clone(), self.executable.layers());
        let collected = spawn_blocking(move || -> Result<()> {
            // A record that cannot be read stops us: its layers must not go.
            let before = layers_in_use(&paths)?;
            store?.collect_garbage(|| [layers_in_use(&paths).unwrap_or_default(), before, ours].concat())?;
            Ok(())
        });
        if let Ok(Err(error)) = collected.await {
            note(&error.context("failed to remove unused layers"));
        }
    }

    /// Extracts the layers of every image that the plan needs; folders by image reference.
    async fn extract(
        &self,
        plan: &Plan,
        images: &BTreeMap<String, Image>,
        reporter: &Reporter,
    ) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let needed = plan.steps.iter().filter_map(|step| images.get(&step.service));
        let needed: BTreeMap<String, Vec<DiffId>> =
            needed.map(|image| (image.reference.clone(), image.layers.clone())).collect();
        let (store, executable) = (self.store()?, self.executable.clone());
        let extraction = reporter.extraction();
        let extracted = spawn_blocking(move || -> Result<_> {
            // All at once, so that threads and progress know of everything; then what each image stacks.
            let mut all: Vec<DiffId> = needed.values().flatten().copied().collect();
            all.sort();
            all.dedup();
            let ensured = store.ensure(executable.payload(), &all, threads(), &extraction);
            ensured.context("failed to extract the images").environment()?;
            let mut folders = BTreeMap::new();
            for (reference, layers) in &needed {
                let ensured = store.ensure(executable.payload(), layers, threads(), &dpack_store::Silent);
                folders.insert(
                    reference.clone(),
                    ensured
                        .with_context(|| format!("failed to extract image `{reference}`"))
                        .environment()?,
                );
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
        self.extract(plan, &images, reporter).await.map(drop)
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
        self.ensure_network(project).await?;
        if new {
            named.iter().for_each(|name| reporter.item(Item::Network, name, Phase::Created));
        }
        Ok(())
    }

    /// Opens the published ports of everything that will be started: a port that is taken stops us here, before any
    /// container is touched.
    async fn publish_ports_of(&self, project: &Project, plan: &Plan) -> Result<()> {
        let starting = plan.steps.iter().filter(|step| matches!(step.action, Action::Create | Action::Start));
        let wanted = starting.filter_map(|step| {
            let service = project.services.get(&step.service)?;
            Some((step.container.clone(), service_ports(service)?))
        });
        self.check_new_ports(project, plan)?;
        self.publish(wanted.collect()).await
    }

    /// A container that is made anew keeps its old ports until it goes, so that its new ones can only be tried here.
    fn check_new_ports(&self, project: &Project, plan: &Plan) -> Result<(), Failure> {
        let ours: Vec<Option<u16>> =
            self.all().iter().flat_map(|unit| unit.supervision().ports).map(|port| port.published).collect();
        for step in plan.steps.iter().filter(|step| step.action == Action::Recreate) {
            let ports = project
                .services
                .get(&step.service)
                .map(|service| service.ports.as_slice())
                .unwrap_or_default();
            for port in
                ports.iter().filter(|port| port.protocol == Protocol::Tcp && !ours.contains(&port.published))
            {
                let address = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                if let Err(error) = TcpListener::bind((address, port.published.unwrap_or(0))) {
                    let number = port.published.unwrap_or(0);
                    return Err(Failure::environment(format!(
                        "port {number}/tcp of container `{}` cannot be listened on at {address}: {error}",
                        step.container
                    ))
                    .hint("stop what has it, or publish another port"));
                }
            }
        }
        Ok(())
    }

    /// The same for containers that are there already.
    pub(crate) async fn publish_ports(&self, plan: &Plan) -> Result<()> {
        let starting = plan.steps.iter().filter(|step| step.action == Action::Start);
        let wanted = starting.filter_map(|step| {
            let attachment = attachment(&self.unit(&step.container)?.identity)?;
            (!attachment.ports.is_empty()).then(|| (step.container.clone(), attachment.ports))
        });
        self.publish(wanted.collect()).await
    }

    async fn publish(&self, wanted: Vec<(String, Vec<dpack_network::Port>)>) -> Result<()> {
        let network = self.network.clone();
        let published = spawn_blocking(move || -> Result<()> {
            for (number, (container, ports)) in wanted.iter().enumerate() {
                if let Err(error) = lock(&network)?.publish(container, ports) {
                    for (container, _) in &wanted[..number] {
                        let _ = lock(&network)?.detach(container);
                    }
                    return Err(error);
                }
            }
            Ok(())
        });
        published.await.context("publishing ports was cut short")?
    }

    /// Closes the ports of containers that did not start after all.
    pub(crate) async fn undo_ports(&self, plan: &Plan) {
        for step in &plan.steps {
            let runs = self
                .unit(&step.container)
                .is_some_and(|unit| unit.running.get() || unit.supervision().restarting);
            if !runs && step.action != Action::Keep {
                self.detach(&step.container).await;
            }
        }
    }

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
            let up = self.up(desired.clone(), &needs, None, reporter).await?;
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
        service: &str,
        name: &str,
        dependencies: bool,
        reporter: &Reporter,
    ) -> Result<Done> {
        self.prepare_one_off(desired, service, dependencies, reporter).await?;
        let definition = desired.project.services.get(service).context("a service is gone")?.clone();
        let image = self.executable.image(service, &definition.image)?.clone();
        let step = Step {
            container: name.to_owned(),
            service: service.to_owned(),
            number: 1,
            action: Action::Create,
            after: Vec::new(),
        };
        let plan = Plan { steps: vec![step], orphans: Vec::new() };
        check_binds(&desired.project, &plan)?;
        let images = BTreeMap::from([(service.to_owned(), image.clone())]);
        let layers = self.extract(&plan, &images, reporter).await?;
        let (project, id_map) = (self.project.clone(), self.id_map.clone());
        let (container, service) = (name.to_owned(), service.to_owned());
        let created = spawn_blocking(move || {
            create(&Making {
                project: &project,
                name: &container,
                service_name: &service,
                service: &definition,
                number: 1,
                one_off: true,
                image: &image,
                layers: layers.get(&image.reference).map(Vec::as_slice).unwrap_or_default(),
                configuration: String::new(),
                id_map: &id_map,
                tty: false,
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

/// Bind sources that are missing and may not be made stop us before anything starts.
fn check_binds(project: &Project, plan: &Plan) -> Result<(), Failure> {
    for step in plan.steps.iter().filter(|step| matches!(step.action, Action::Create | Action::Recreate)) {
        let Some(service) = project.services.get(&step.service) else { continue };
        for mount in &service.volumes {
            if let MountSource::Bind { source, create_host_path } = &mount.source {
                check_bind(&step.service, Path::new(source), *create_host_path)?;
            }
        }
    }
    Ok(())
}

/// Extraction uses every processor.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
