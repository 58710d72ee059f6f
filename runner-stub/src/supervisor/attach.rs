//! Which containers are connected to the project's networks, and keeping it so when a process of ours was killed.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use dpack_compose::project::Project;
use dpack_network::Attach;

use super::lifecycle::note;
use super::network::{Network, attachment, network_configs};
use super::pidfd;
use super::state::Supervisor;
use crate::container::State;
use crate::project::Record;

/// A running container that is on a network of the project.
struct Networked {
    init: i32,
    shim: i32,
    attach: Attach,
}

/// The connection to the network process; whoever held it before did not panic, since a panic ends us all.
pub(crate) fn lock(network: &Mutex<Network>) -> Result<MutexGuard<'_, Network>> {
    network.lock().map_err(|_| anyhow::anyhow!("the connection to the network process is broken"))
}

impl Supervisor {
    fn networked(&self) -> Vec<Networked> {
        let running = self.all().into_iter().filter(|unit| unit.running.get());
        running
            .filter_map(|unit| match (Self::state_of(&unit), attachment(&unit.identity)) {
                (Ok(State::Running { pid, shim, .. }), Some(attach)) => {
                    Some(Networked { init: pid, shim, attach })
                }
                _ => None,
            })
            .collect()
    }

    /// Makes sure that the network process runs with the project's networks, and watches it.
    pub(crate) async fn ensure_network(self: &Rc<Self>, project: &Project) -> Result<()> {
        let configs = network_configs(project);
        if configs.is_empty() {
            return Ok(());
        }
        let running = self.networked();
        let network = self.network.clone();
        let ensured = tokio::task::spawn_blocking(move || -> Result<Option<OwnedFd>> {
            let mut network = lock(&network)?;
            let ended = network.ensure(&configs, running.first().map(|container| container.shim))?;
            // Another process than before has to hear of every container; for those it knows, nothing changes.
            for container in running.iter().filter(|_| ended.is_some()) {
                network.attach(&container.attach, container.init)?;
            }
            Ok(ended)
        });
        if let Some(ended) = ensured.await.context("the start of the network was cut short")?? {
            self.watch_network(ended, project.clone());
        }
        Ok(())
    }

    /// A network process that ends while containers need it is started again.
    fn watch_network(self: &Rc<Self>, ended: OwnedFd, project: Project) {
        let supervisor = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if pidfd::ended(ended).await.is_err()
                || supervisor.leaving.get()
                || supervisor.networked().is_empty()
            {
                return;
            }
            // Boxed, because this future contains another one of its own kind.
            let again: std::pin::Pin<Box<dyn Future<Output = Result<()>> + '_>> =
                Box::pin(supervisor.ensure_network(&project));
            if let Err(error) = again.await {
                note(&error.context("failed to start the network process again"));
            }
        });
    }

    /// After a supervisor was killed: the network process may live or not, and has to know of every container.
    pub(crate) async fn adopt_network(self: &Rc<Self>) {
        if self.networked().is_empty() {
            return;
        }
        let adopted = match Record::load(&self.project) {
            Ok(Some(record)) => self.ensure_network(&record.desired.project).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = adopted {
            note(&error.context("failed to take the network over"));
        }
    }

    /// Takes a container's addresses, names and ports away.
    pub(crate) async fn detach(&self, container: &str) {
        let (network, container) = (self.network.clone(), container.to_owned());
        let detached = tokio::task::spawn_blocking(move || lock(&network)?.detach(&container)).await;
        if let Ok(Err(error)) = detached {
            note(&error);
        }
    }

    /// Ends the network process. True when there was one.
    pub(crate) async fn end_network(&self) -> bool {
        let network = self.network.clone();
        match tokio::task::spawn_blocking(move || lock(&network)?.end()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => {
                note(&error);
                false
            }
            Err(_) => false,
        }
    }
}
