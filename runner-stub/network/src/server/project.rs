//! The project as the network process knows it: one method for each request, over links, names and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::Failure;
use crate::egress::Egress;
use crate::names::{self, Forwarder, Knows, NameServer, Names, Place, Resolver, Upstream};
use crate::ports::{Host, Ports, Workers};
use crate::protocol::{
    Attach, Attached, ContainerStatus, Interface, Membership, NetworkConfig, Port, Published, Status,
};
use crate::topology::Topology;

/// Longest name of a network, container or alias; what DNS can carry.
const NAME_LIMIT: usize = 253;

/// Everything that a request can change.
#[derive(Debug)]
pub(super) struct Project {
    topology: Topology,
    names: Arc<Names>,
    forwarder: Arc<Forwarder>,
    ports: Ports,
    host: Host,
    workers: Workers,
    /// Keys of the networks that have a way out.
    open: BTreeSet<String>,
    /// Open when a network has a way out.
    egress: Option<Egress>,
    runtime: Handle,
    /// By index of the bridge.
    servers: BTreeMap<u32, NameServer>,
    interfaces: BTreeMap<String, Vec<Interface>>,
}

impl Project {
    /// `runtime` waits on the first of `workers`.
    pub(super) fn new(
        topology: Topology,
        host: Host,
        resolv_conf: PathBuf,
        runtime: Handle,
        workers: Workers,
    ) -> Project {
        let ports = Ports::new(host.clone(), runtime.clone(), workers.clone());
        Project {
            topology,
            names: Arc::default(),
            forwarder: Arc::new(Forwarder::new(host.clone(), resolv_conf)),
            open: BTreeSet::new(),
            ports,
            host,
            workers,
            egress: None,
            runtime,
            servers: BTreeMap::new(),
            interfaces: BTreeMap::new(),
        }
    }

    pub(super) fn configure(&mut self, networks: &[NetworkConfig]) -> Result<(), Failure> {
        for network in networks {
            check_name("network", &network.key)?;
        }
        self.topology.configure(networks)?;
        for container in self.interfaces.keys() {
            self.ports.keep_answering(container, &self.topology.answering(container));
        }
        let open = networks.iter().filter(|network| !network.internal);
        self.open = open.map(|network| network.key.clone()).collect();
        if !self.open.is_empty() && self.egress.is_none() {
            let _context = self.runtime.enter();
            let sessions = self.ports.sessions();
            let egress = Egress::start(self.host.clone(), self.workers.clone(), sessions)
                .map_err(Failure::system("open the way out"))?;
            self.egress = Some(egress);
        }
        self.serve_names()
    }

    /// Name servers on the bridges that there are now.
    fn serve_names(&mut self) -> Result<(), Failure> {
        self.ports.set_subnets(self.topology.subnets());
        let gateways = self.topology.gateways();
        self.servers.retain(|index, _| gateways.iter().any(|gateway| gateway.index == *index));
        for gateway in &gateways {
            if self.servers.contains_key(&gateway.index) {
                continue;
            }
            // This thread is in the project's namespace; the runtime waits for the sockets.
            let _context = self.runtime.enter();
            let resolver = Arc::new(Resolver {
                names: Arc::clone(&self.names),
                forwarder: Arc::clone(&self.forwarder),
                network: gateway.network.clone(),
            });
            let server = names::start(&resolver, &gateway.bridge, &gateway.addresses)
                .map_err(Failure::system(format!("serve names on network `{}`", gateway.network)))?;
            self.servers.insert(gateway.index, server);
        }
        if let Some(egress) = &self.egress {
            egress.set_own(gateways.into_iter().flat_map(|gateway| gateway.addresses).collect());
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, container: &str, ports: &[Port]) -> Result<Vec<Published>, Failure> {
        check_name("container", container)?;
        self.ports.publish(container, ports)
    }

    pub(super) fn attach(&mut self, attach: &Attach, namespace: OwnedFd) -> Result<Attached, Failure> {
        check(attach)?;
        let mut networks: Vec<&Membership> = attach.networks.iter().collect();
        networks.sort_by_key(|place| (-i128::from(place.priority), &place.network));

        let before = self.ports.requested(&attach.container);
        let ports = self.ports.publish(&attach.container, &attach.ports)?;
        let connected = self.topology.attach(&attach.container, &networks, &attach.ports, namespace.as_fd());
        let connected = match connected.and_then(|connected| self.serve_names().map(|()| connected)) {
            Ok(connected) => connected,
            Err(failure) => {
                // Ports that were open stay so; opening them is not tried again and cannot fail.
                let _ = self.ports.publish(&attach.container, &before);
                self.names.remove(&attach.container);
                self.interfaces.remove(&attach.container);
                return Err(failure);
            }
        };
        let has_way_out = attach.networks.iter().any(|place| self.open.contains(&place.network));
        let upstream = match (has_way_out, attach.dns.is_empty()) {
            (false, _) => Upstream::None,
            (true, true) => Upstream::Device,
            (true, false) => Upstream::Servers(attach.dns.clone()),
        };
        let links = attach
            .links
            .iter()
            .map(|(name, target)| (name.to_ascii_lowercase(), target.to_ascii_lowercase()));
        let knows = Knows { upstream, links: links.collect() };
        self.names.insert(&attach.container, places(attach, &connected.interfaces), &knows);
        let addresses: Vec<IpAddr> = connected.interfaces.iter().flat_map(Interface::ips).collect();
        if !addresses.is_empty() {
            let (container, answering) = (&attach.container, &connected.answering);
            self.ports.lead_to(container, &addresses, answering, namespace, connected.is_new);
        }
        let nameserver =
            connected.interfaces.first().and_then(|interface| interface.gateways.first().copied());
        self.interfaces.insert(attach.container.clone(), connected.interfaces.clone());
        Ok(Attached { interfaces: connected.interfaces, nameserver, ports })
    }

    /// Everything is tried.
    pub(super) fn detach(&mut self, container: &str) -> Result<(), Failure> {
        self.ports.close(container);
        self.names.remove(container);
        self.interfaces.remove(container);
        self.topology.detach(container)
    }

    /// The index of a network's bridge.
    pub(super) fn bridge(&self, network: &str) -> Result<u32, Failure> {
        let missing = || Failure::Invalid { reason: format!("network `{network}` is not up") };
        self.topology.bridge(network).ok_or_else(missing)
    }

    pub(super) fn status(&mut self) -> Status {
        let containers: BTreeSet<&String> = self.interfaces.keys().chain(self.ports.containers()).collect();
        let describe = |container: &String| ContainerStatus {
            container: container.clone(),
            interfaces: self.interfaces.get(container).cloned().unwrap_or_default(),
            ports: self.ports.published(container),
        };
        Status {
            pid: std::process::id(),
            networks: self.topology.networks(),
            containers: containers.into_iter().map(describe).collect(),
            connections: self.ports.connections(),
            outgoing: self.egress.as_ref().map_or(0, Egress::flows),
            dns_queries: self.names.queries(),
            forwarded: Some(self.topology.has_uplink()),
        }
    }
}

fn check(attach: &Attach) -> Result<(), Failure> {
    check_name("container", &attach.container)?;
    for name in attach.hostname.iter().chain(attach.networks.iter().flat_map(|place| &place.aliases)) {
        check_name("alias", name)?;
    }
    if attach.networks.is_empty() && !attach.ports.is_empty() {
        let reason = format!("container `{}` publishes ports and is on no network", attach.container);
        return Err(Failure::Invalid { reason });
    }
    match attach.ports.iter().find(|port| port.target == 0) {
        Some(_) => {
            Err(Failure::Invalid { reason: format!("container `{}` has no port 0", attach.container) })
        }
        None => check_networks(attach),
    }
}

/// For `fuzz`: what is let through can be done without two of anything.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn hold_to_rules(attach: &Attach) {
    if check(attach).is_err() {
        return;
    }
    let networks: BTreeSet<&String> = attach.networks.iter().map(|place| &place.network).collect();
    assert_eq!(networks.len(), attach.networks.len());
    assert!((1..=NAME_LIMIT).contains(&attach.container.len()));
    assert!(attach.ports.iter().all(|port| port.target != 0 && !networks.is_empty()));
}

/// A network twice would be two interfaces with one veth.
fn check_networks(attach: &Attach) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    match attach.networks.iter().find(|place| !seen.insert(&place.network)) {
        Some(place) => {
            let (container, network) = (&attach.container, &place.network);
            let reason = format!("container `{container}` is on network `{network}` twice");
            Err(Failure::Invalid { reason })
        }
        None => Ok(()),
    }
}

fn check_name(what: &str, name: &str) -> Result<(), Failure> {
    if (1..=NAME_LIMIT).contains(&name.len()) {
        return Ok(());
    }
    Err(Failure::Invalid { reason: format!("{what} name `{name}` has {} bytes", name.len()) })
}

/// The container's names on each of its networks: its own, its host name, and the aliases it has there.
fn places(attach: &Attach, interfaces: &[Interface]) -> Vec<Place> {
    let own = || std::iter::once(&attach.container).chain(&attach.hostname);
    let place = |interface: &Interface| {
        let memberships = attach.networks.iter().filter(|place| place.network == interface.network);
        let names = own().chain(memberships.flat_map(|place| &place.aliases)).cloned().collect();
        Place { network: interface.network.clone(), addresses: interface.ips().collect(), names }
    };
    interfaces.iter().map(place).collect()
}
