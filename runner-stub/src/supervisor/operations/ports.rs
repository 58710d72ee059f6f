//! Published ports are opened before any container is touched: one that is taken stops the operation there.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};
use dpack_compose::project::{Project, Protocol};
use tokio::task::spawn_blocking;

use super::super::attach::lock;
use super::super::network::{attachment, service_ports};
use super::super::state::Supervisor;
use crate::failure::Failure;
use crate::plan::{Action, Plan};

impl Supervisor {
    /// Opens the published ports of everything that will be started: a port that is taken stops us here, before any
    /// container is touched.
    pub(crate) async fn publish_ports_of(&self, project: &Project, plan: &Plan) -> Result<()> {
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
}
