//! Making a container, beside the supervisor's own thread.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use dpack_compose::project::{Project, Service};
use dpack_payload::application::Image;
use tokio::task::spawn_blocking;

use super::super::create::{Making, Stacks, create};
use super::super::state::{Supervisor, Unit};
use crate::container::Container;

/// What is a container's own; the rest of [`Making`] is the supervisor's.
pub(super) struct Order {
    pub(super) name: String,
    pub(super) service_name: String,
    pub(super) service: Service,
    pub(super) image: Image,
    pub(super) model: Arc<Project>,
    pub(super) stacks: Arc<Stacks>,
    /// The container whose anonymous volumes it has.
    pub(super) anonymous_of: String,
    pub(super) number: u32,
    pub(super) one_off: bool,
    pub(super) configuration: String,
    pub(super) aliases: bool,
    pub(super) remove: bool,
}

impl Supervisor {
    /// Makes a container and takes it in.
    pub(super) async fn create_container(&self, order: Order) -> Result<Rc<Unit>> {
        let (project, executable, id_map) =
            (self.project.clone(), Arc::clone(&self.executable), self.id_map.clone());
        let driver = self.driver()?.driver;
        let name = order.name.clone();
        let created = spawn_blocking(move || {
            create(&Making {
                project: &project,
                name: &order.name,
                service_name: &order.service_name,
                model: &order.model,
                executable: &|| Ok(&executable),
                service: &order.service,
                number: order.number,
                one_off: order.one_off,
                image: &order.image,
                stacks: &order.stacks,
                anonymous_of: &order.anonymous_of,
                driver,
                configuration: order.configuration,
                id_map: &id_map,
                tty: order.service.tty,
                aliases: order.aliases,
                remove: order.remove,
                volatile: order.remove,
            })
        });
        created
            .await
            .context("a creation was cut short")?
            .with_context(|| format!("failed to create container {name}"))?;
        let folder = self.project.container(&name);
        let container = Container::load(&folder)?.with_context(|| format!("container {name} is gone"))?;
        Ok(self.take_in(Unit::new(container, folder)))
    }
}
