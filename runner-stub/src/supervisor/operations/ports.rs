//! Published ports are opened before any container is touched: one that is taken stops the operation there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};
use dpack_compose::project::{Project, Protocol};
use tokio::task::spawn_blocking;

use super::super::attach::lock;
use super::super::network::{attachment, is_open, service_ports};
use super::super::state::Supervisor;
use crate::failure::Failure;
use crate::plan::{Action, Plan};

/// Tries to listen on one port after the other until it works; else why the last one could not be.
fn first_free(address: IpAddr, numbers: RangeInclusive<u16>) -> io::Result<()> {
    let mut result = Ok(());
    for number in numbers {
        result = TcpListener::bind((address, number)).map(|_| ());
        if result.is_ok() {
            break;
        }
    }
    result
}

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
            for port in ports.iter().filter(|port| port.protocol == Protocol::Tcp) {
                let address = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                let numbers = port.numbers().unwrap_or(0..=0);
                let (first, last) = (*numbers.start(), *numbers.end());
                if numbers.clone().any(|number| ours.contains(&Some(number))) {
                    continue;
                }
                if let Err(error) = first_free(address, numbers) {
                    let number = if first < last { format!("{first}-{last}") } else { first.to_string() };
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

    /// Fixed numbers first: what is chosen for others is none of them.
    async fn publish(&self, wanted: Vec<(String, Vec<dpack_network::Port>)>) -> Result<()> {
        let network = self.network.clone();
        let published = spawn_blocking(move || -> Result<()> {
            let fixed = wanted.iter().map(|(container, ports)| {
                (container, ports.iter().filter(|port| !is_open(port)).cloned().collect::<Vec<_>>())
            });
            let fixed: Vec<_> = fixed.filter(|(_, ports)| !ports.is_empty()).collect();
            let all = wanted.iter().map(|(container, ports)| (container, ports.clone()));
            let undecided = all.filter(|(_, ports)| ports.iter().any(is_open));
            let mut opened = Vec::new();
            for (container, ports) in fixed.into_iter().chain(undecided) {
                if let Err(error) = lock(&network)?.publish(container, &ports) {
                    for container in opened {
                        let _ = lock(&network)?.detach(container);
                    }
                    return Err(error);
                }
                opened.push(container);
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
