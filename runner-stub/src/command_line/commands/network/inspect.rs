//! `network inspect`: what the network process has, with what the project says of it. JSON has the keys of `docker network
//! inspect`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use dpack_compose::project::{DriverOptions, Network, Project};
use dpack_network::{ContainerStatus, Interface, NetworkStatus, Status};
use dpack_payload::digest::Digest;
use serde_json::{Value, json};

use super::super::super::SUCCESS;
use super::super::super::args::NetworkInspect;
use super::super::super::output::{self, Table};
use super::super::super::settings::Settings;
use crate::container::Container;
use crate::failure::Context as _;

/// A network as the project has it and as it runs.
struct View<'a> {
    project: &'a str,
    key: &'a str,
    network: &'a Network,
    /// None while it is not up.
    status: Option<&'a NetworkStatus>,
    containers: Vec<&'a ContainerStatus>,
    /// [`Status::forwarded`]
    forwarded: Option<bool>,
}

/// `network inspect`
pub(crate) fn run(settings: &Settings, arguments: &NetworkInspect) -> Result<u8> {
    let project = settings.known()?;
    let status = super::client(settings)?.map(|mut client| client.status()).transpose().environment()?;
    let keys = match &arguments.networks[..] {
        [] => project.networks.keys().map(String::as_str).collect(),
        named => named.iter().map(|named| super::key(&project, named)).collect::<Result<Vec<_>, _>>()?,
    };
    let views: Vec<View<'_>> =
        keys.into_iter().filter_map(|key| view(&project, key, status.as_ref())).collect();
    if arguments.format.json() {
        let ids = Container::list(&settings.project)?;
        let ids =
            ids.iter().map(|container| (container.identity.name.as_str(), container.identity.id.as_str()));
        let ids: BTreeMap<&str, &str> = ids.collect();
        output::print_json(&views.iter().map(|view| view.json(&ids)).collect::<Vec<_>>())?;
    } else {
        let mut text: String = views.iter().map(View::text).collect();
        let _ = match &status {
            Some(status) => writeln!(
                text,
                "process {}: {} connections through published ports, {} to the outside, {} DNS questions",
                status.pid, status.connections, status.outgoing, status.dns_queries
            ),
            None => writeln!(text, "no network process runs"),
        };
        output::print(&text);
    }
    Ok(SUCCESS)
}

fn view<'a>(project: &'a Project, key: &'a str, status: Option<&'a Status>) -> Option<View<'a>> {
    let running = status.into_iter().flat_map(|status| &status.networks).find(|network| network.key == key);
    let containers = status.into_iter().flat_map(|status| &status.containers);
    let is_on = |container: &&ContainerStatus| container.interfaces.iter().any(|one| one.network == key);
    Some(View {
        project: &project.name,
        key,
        network: project.networks.get(key)?,
        status: running,
        containers: containers.filter(is_on).collect(),
        forwarded: status.and_then(|status| status.forwarded),
    })
}

impl View<'_> {
    /// What takes packets of each family that the network has to the outside, in a word and for people. Empty while it is not
    /// up.
    fn ways_out(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
        let gateways = self.status.iter().flat_map(|status| &status.gateways);
        gateways.map(|gateway| match (gateway.addr().is_ipv4(), self.forwarded) {
            (true, Some(true)) => ("IPv4", "kernel", "IPv4 forwarded by the kernel"),
            (true, Some(false)) => ("IPv4", "relay", "IPv4 relayed"),
            (true, None) => ("IPv4", "unknown", "IPv4 with a way out"),
            (false, _) => ("IPv6", "relay", "IPv6 relayed"),
        })
    }

    fn json(&self, ids: &BTreeMap<&str, &str>) -> Value {
        let endpoints = self.containers.iter().flat_map(|container| {
            let here = container.interfaces.iter().filter(|interface| interface.network == self.key);
            here.map(|interface| (container.container.as_str(), interface))
        });
        let containers: BTreeMap<&str, Value> = endpoints
            .map(|(name, interface)| {
                let id = ids.get(name).copied().unwrap_or(name);
                let endpoint = json!({
                    "Name": name,
                    "EndpointID": Digest::of(format!("{id}/{}", self.key).as_bytes()).hex(),
                    "MacAddress": interface.mac,
                    "IPv4Address": address(interface, true),
                    "IPv6Address": address(interface, false),
                });
                (id, endpoint)
            })
            .collect();
        let addresses: Vec<Value> = self
            .status
            .iter()
            .flat_map(|status| &status.gateways)
            .map(|gateway| json!({ "Subnet": gateway.trunc(), "Gateway": gateway.addr() }))
            .collect();
        let mut labels = self.network.labels.clone();
        labels.insert("com.docker.compose.network".to_owned(), self.key.to_owned());
        labels.insert("com.docker.compose.project".to_owned(), self.project.to_owned());
        let ways_out: BTreeMap<&str, &str> = self
            .ways_out()
            .map(|(family, way, _)| (family, if self.network.internal { "none" } else { way }))
            .collect();
        json!({
            "Name": self.network.name,
            "Id": Digest::of(self.network.name.as_bytes()).hex(),
            "Scope": "local",
            "Driver": "bridge",
            "EnableIPv4": self.network.has_ipv4(),
            "EnableIPv6": self.network.has_ipv6(),
            "IPAM": { "Driver": "default", "Options": null, "Config": addresses },
            "Internal": self.network.internal,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": options(&self.network.driver_opts),
            "Labels": labels,
            "WayOut": ways_out,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("network {} ({})", self.key, self.network.name);
        let _ = match self.status {
            Some(status) => {
                let subnets = status
                    .gateways
                    .iter()
                    .map(|gateway| format!("{}, gateway and DNS {}", gateway.trunc(), gateway.addr()));
                let subnets = listed(subnets);
                let outside = match self.network.internal {
                    true => "no way out".to_owned(),
                    false => listed(self.ways_out().map(|(_, _, text)| text.to_owned())),
                };
                writeln!(text, ": {subnets}, bridge {}, {outside}", status.bridge)
            }
            None => writeln!(text, ": not up"),
        };
        let mut table = Table::new(&["  CONTAINER", "INTERFACE", "ADDRESS", "MAC", "PORTS"]);
        for container in &self.containers {
            for interface in container.interfaces.iter().filter(|interface| interface.network == self.key) {
                table.row([
                    format!("  {}", container.container),
                    interface.name.clone(),
                    listed(interface.addresses.iter().map(ToString::to_string)),
                    interface.mac.clone(),
                    ports(container),
                ]);
            }
        }
        if !self.containers.is_empty() {
            let _ = write!(text, "{table}");
        }
        text.push('\n');
        text
    }
}

/// The address of a family with the length of its prefix; empty when there is none.
fn address(interface: &Interface, is_ipv4: bool) -> String {
    let address = interface.addresses.iter().find(|own| own.addr().is_ipv4() == is_ipv4);
    address.map(ToString::to_string).unwrap_or_default()
}

/// What was asked of the driver, by Docker's names.
fn options(options: &DriverOptions) -> BTreeMap<&'static str, String> {
    let named = [
        ("com.docker.network.driver.mtu", options.mtu.map(|mtu| mtu.to_string())),
        ("com.docker.network.bridge.enable_icc", options.enable_icc.map(|flag| flag.to_string())),
        ("com.docker.network.container_iface_prefix", options.interface_prefix.clone()),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// `0.0.0.0:8080->80/tcp`, one after the other.
fn ports(container: &ContainerStatus) -> String {
    let each = container.ports.iter().flat_map(|port| {
        port.addresses.iter().map(move |address| format!("{address}->{}/{}", port.target, port.protocol))
    });
    listed(each)
}

fn listed(each: impl Iterator<Item = String>) -> String {
    each.collect::<Vec<_>>().join(", ")
}
