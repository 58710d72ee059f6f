//! Subnets and addresses of the project as a whole: two who want the same, and what is no part of its network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::entry;
use crate::diagnostic::{Path, Position, Report};
use crate::node::Node;
use crate::project::{Attachment, Network, NetworkMode, Project};
use crate::typed::network::{is_host, overlap};

/// How many networks a project can have whose subnets nobody chose: the runner's pool of subnets has no more.
pub const NETWORKS: usize = 30;

/// Who has an address or hardware address on which network.
type Taken<'a> = BTreeMap<(&'a str, String), &'a str>;

/// Reports subnets that overlap, and addresses that services cannot have.
pub(super) fn check(project: &Project, tree: &Node, report: &mut Report) {
    subnets(project, tree, report);
    count(project, tree, report);
    let mut taken = Taken::new();
    let services = Path::Root.key("services");
    for (name, service) in &project.services {
        let NetworkMode::Networks(networks) = &service.network else { continue };
        let path = services.key(name);
        let networks_path = path.key("networks");
        let mut interfaces: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, attachment) in networks {
            let Some(network) = project.networks.get(key).filter(|network| !network.external) else {
                continue;
            };
            let path = networks_path.key(key);
            let place = Place { project, service: name, key, network, attachment, path: &path, tree };
            place.addresses(&mut taken, report);
            place.link_local(report);
            if let Some(interface) = &attachment.interface_name
                && let Some(other) = interfaces.insert(interface, key)
            {
                let message = format!("the interface of network `{other}` has the same name");
                report.error(place.at("interface_name"), &path.key("interface_name"), message);
            }
        }
        service_mac(project, name, tree, &path, &mut taken, report);
    }
}

/// The service's hardware address is that of its first network.
fn service_mac<'a>(
    project: &'a Project,
    name: &'a str,
    tree: &Node,
    path: &Path<'_>,
    taken: &mut Taken<'a>,
    report: &mut Report,
) {
    let Some(service) = project.services.get(name) else { return };
    let Some(mac) = &service.mac_address else { return };
    let at = value_at(tree, &["services", name, "mac_address"]);
    let NetworkMode::Networks(networks) = &service.network else {
        report.error(at, &path.key("mac_address"), "the service has no network of its own");
        return;
    };
    let first = networks.iter().min_by_key(|(key, attachment)| (-i128::from(attachment.priority), *key));
    match first {
        Some((key, Attachment { mac_address: Some(other), .. })) if !is_same_mac(other, mac) => {
            let message = format!("on network `{key}` the service has another one, {other}");
            report.error(at, &path.key("mac_address"), message);
        }
        Some((key, Attachment { mac_address: None, .. })) => {
            if let Some(other) = taken.insert((key, written_alike(mac)), name) {
                let message = format!("service `{other}` has {mac} already on network `{key}`");
                report.error(at, &path.key("mac_address"), message);
            }
        }
        _ => {}
    }
}

fn is_same_mac(one: &str, other: &str) -> bool {
    written_alike(one) == written_alike(other)
}

/// A hardware address in the one of its spellings that is compared.
fn written_alike(mac: &str) -> String {
    mac.replace('-', ":").to_ascii_lowercase()
}

fn subnets(project: &Project, tree: &Node, report: &mut Report) {
    let mut seen: Vec<(ipnet::IpNet, &str)> = Vec::new();
    for (key, network) in &project.networks {
        for pool in &network.ipam {
            if let Some((other, owner)) = seen.iter().find(|(other, _)| overlap(*other, pool.subnet)) {
                let networks = Path::Root.key("networks");
                let path = networks.key(key);
                let message = format!("{} overlaps with {other} of network `{owner}`", pool.subnet);
                report.error(pool_at(tree, key, &pool.subnet.to_string()), &path.key("ipam"), message);
            }
            seen.push((pool.subnet, key));
        }
    }
}

/// Where a subnet is written.
fn pool_at(tree: &Node, network: &str, subnet: &str) -> Position {
    let pools = entry(tree, &["networks", network, "ipam", "config"]).and_then(|entry| entry.node.as_list());
    let pool = pools.into_iter().flatten().filter_map(|pool| pool.get("subnet"));
    pool.filter(|written| written.as_text() == Some(subnet))
        .map(|written| written.at)
        .next()
        .unwrap_or_default()
}

fn count(project: &Project, tree: &Node, report: &mut Report) {
    let unchosen = project.networks.iter().filter(|(_, network)| {
        network.has_ipv4()
            && !network.external
            && !network.ipam.iter().any(|pool| pool.subnet.addr().is_ipv4())
    });
    if let Some((key, _)) = unchosen.into_iter().nth(NETWORKS) {
        let networks = Path::Root.key("networks");
        let at = entry(tree, &["networks", key]).map_or_else(Default::default, |entry| entry.key_at);
        let message = format!("there are subnets for {NETWORKS} networks, and this is one more");
        report
            .error(at, &networks.key(key), message)
            .hint("give networks a `subnet` each under `ipam.config`");
    }
}

/// A service on a network.
struct Place<'a, 'p> {
    project: &'a Project,
    service: &'a str,
    key: &'a str,
    network: &'a Network,
    attachment: &'a Attachment,
    path: &'p Path<'p>,
    tree: &'a Node,
}

impl<'a> Place<'a, '_> {
    fn at(&self, key: &str) -> Position {
        value_at(self.tree, &["services", self.service, "networks", self.key, key])
    }

    /// Fixed addresses: of the network, of nobody else.
    fn addresses(&self, taken: &mut Taken<'a>, report: &mut Report) {
        let fixed = [
            ("ipv4_address", self.attachment.ipv4_address.map(IpAddr::V4)),
            ("ipv6_address", self.attachment.ipv6_address.map(IpAddr::V6)),
        ];
        for (key, address) in fixed.into_iter().filter_map(|(key, address)| Some((key, address?))) {
            if let Err(message) = self.is_possible(address) {
                report.error(self.at(key), &self.path.key(key), message);
                continue;
            }
            self.take(key, address.to_string(), taken, report);
        }
        if let Some(mac) = &self.attachment.mac_address {
            self.take("mac_address", written_alike(mac), taken, report);
        }
    }

    fn is_possible(&self, address: IpAddr) -> Result<(), String> {
        let key = self.key;
        let (family, is_on) = match address {
            IpAddr::V4(_) => ("ipv4", self.network.has_ipv4()),
            IpAddr::V6(_) => ("ipv6", self.network.has_ipv6()),
        };
        if !is_on {
            return Err(format!("network `{key}` does not have `enable_{family}`"));
        }
        let pool = self.network.pool(address).ok_or_else(|| {
            format!("network `{key}` has no `subnet` under `ipam.config` that the address is of")
        })?;
        is_host(address, pool.subnet)?;
        if address == pool.gateway {
            return Err(format!("{address} is the gateway of network `{key}`"));
        }
        match pool.aux_addresses.iter().find(|(_, aux)| **aux == address) {
            Some((name, _)) => {
                Err(format!("{address} is reserved for `{name}` by `aux_addresses` of network `{key}`"))
            }
            None => Ok(()),
        }
    }

    fn take(&self, key: &str, what: String, taken: &mut Taken<'a>, report: &mut Report) {
        let replicas = self.project.services.get(self.service).and_then(|service| service.replicas);
        if replicas.is_some_and(|replicas| replicas > 1) {
            report.error(self.at(key), &self.path.key(key), "several containers cannot have one address");
        }
        if let Some(other) = taken.insert((self.key, what.clone()), self.service) {
            let message = format!("service `{other}` has {what} already");
            report.error(self.at(key), &self.path.key(key), message);
        }
    }

    fn link_local(&self, report: &mut Report) {
        for (index, address) in self.attachment.link_local_ips.iter().enumerate() {
            if address.is_ipv6() && !self.network.has_ipv6() {
                let list = self.path.key("link_local_ips");
                let message = format!("network `{}` does not have `enable_ipv6`", self.key);
                report.error(self.at("link_local_ips"), &list.index(index), message);
            }
        }
    }
}

fn value_at(tree: &Node, path: &[&str]) -> Position {
    entry(tree, path).map_or_else(Default::default, |entry| entry.node.at)
}
