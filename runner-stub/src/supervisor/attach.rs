//! Which containers are connected to the project's networks, and keeping it so when a process of ours was killed.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};

use std::time::Duration;

use anyhow::{Context as _, Result};
use dpack_compose::project::{Port, Project};
use dpack_network::Attach;

use super::lifecycle::note;
use super::network::{Network, attachment, network_configs, ports, with_known_ports};
use super::pidfd;
use super::reporter::Reporter;
use super::state::Supervisor;
use crate::container::State;
use crate::project::Record;

/// Pause before a network process that cannot be started is started again; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A running container that is on a network of the project.
struct Networked {
    init: i32,
    shim: i32,
    attach: Attach,
    /// Where its ports are published.
    ports: Vec<Port>,
}

impl Networked {
    /// Tells a network process of this container: where its ports are published now. Those that the kernel chose stay what they
    /// are, unless somebody else has them by now.
    fn tell(&self, network: &mut Network) -> Result<Vec<Port>> {
        let known = with_known_ports(&self.attach, &self.ports);
        let attached = match network.attach(&known, self.init) {
            Err(_) if known != self.attach => network.attach(&self.attach, self.init)?,
            attached => attached?,
        };
        Ok(ports(&attached.ports))
    }
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
                    Some(Networked { init: pid, shim, attach, ports: unit.supervision().ports })
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
        let ensured = tokio::task::spawn_blocking(move || -> Result<_> {
            let mut network = lock(&network)?;
            let shims: Vec<i32> = running.iter().map(|container| container.shim).collect();
            let ended = network.ensure(&configs, &shims)?;
            // Another process than before has to hear of every container; for those it knows, nothing changes.
            let told = running.iter().filter(|_| ended.is_some());
            let told: Vec<_> =
                told.map(|one| (one.attach.container.clone(), one.tell(&mut network))).collect();
            Ok((ended, told))
        });
        let (ended, told) = ensured.await.context("the start of the network was cut short")??;
        if let Some(ended) = ended {
            self.watch_network(ended, project.clone());
        }
        // One that cannot be connected any more keeps nobody else from it.
        let mut outcome = Ok(());
        for (container, told) in told {
            let kept = told.and_then(|ports| match self.unit(&container) {
                Some(unit) => unit.supervise(|supervision| supervision.ports = ports),
                None => Ok(()),
            });
            outcome = outcome.and(kept.with_context(|| format!("failed to connect container {container}")));
        }
        outcome
    }

    /// The same for who tells us from where: as root it can make the kernel's way out, before anything is on the network that
    /// would notice.
    pub(crate) async fn ensure_network_for(
        self: &Rc<Self>,
        project: &Project,
        reporter: &Reporter,
    ) -> Result<()> {
        self.ensure_network(project).await?;
        let has_way_out = network_configs(project).iter().any(|config| !config.internal);
        if has_way_out && self.networked().is_empty() {
            reporter.make_uplink().await;
        }
        Ok(())
    }

    /// A network process that ends while containers need it is started again, and again when that fails.
    fn watch_network(self: &Rc<Self>, ended: OwnedFd, project: Project) {
        let supervisor = Rc::clone(self);
        tokio::task::spawn_local(async move {
            if pidfd::ended(ended).await.is_err() {
                return;
            }
            let mut pause = FIRST_PAUSE;
            while !supervisor.leaving.get() && !supervisor.networked().is_empty() {
                // Boxed, because this future contains another one of its own kind.
                let again: std::pin::Pin<Box<dyn Future<Output = Result<()>> + '_>> =
                    Box::pin(supervisor.ensure_network(&project));
                let Err(error) = again.await else { break };
                note(&error.context("failed to start the network process again"));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
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
