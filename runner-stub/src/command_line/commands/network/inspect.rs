//! `network inspect`: what the network process has, with what the project says of it. JSON has the keys of `docker network
//! inspect`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use dpack_compose::project::{Network, Project};
use dpack_network::{ContainerStatus, NetworkStatus, Status};
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
    })
}

impl View<'_> {
    fn subnet(&self) -> Option<String> {
        let status = self.status?;
        let mask = u32::MAX.checked_shl(32 - u32::from(status.prefix)).unwrap_or(0);
        let first = std::net::Ipv4Addr::from_bits(status.gateway.to_bits() & mask);
        Some(format!("{first}/{}", status.prefix))
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
                    "IPv4Address": format!("{}/{}", interface.address, interface.prefix),
                    "IPv6Address": "",
                });
                (id, endpoint)
            })
            .collect();
        let addresses: Vec<Value> = self
            .status
            .iter()
            .map(|status| json!({ "Subnet": self.subnet(), "Gateway": status.gateway }))
            .collect();
        let mut labels = self.network.labels.clone();
        labels.insert("com.docker.compose.network".to_owned(), self.key.to_owned());
        labels.insert("com.docker.compose.project".to_owned(), self.project.to_owned());
        json!({
            "Name": self.network.name,
            "Id": Digest::of(self.network.name.as_bytes()).hex(),
            "Scope": "local",
            "Driver": "bridge",
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": null, "Config": addresses },
            "Internal": self.network.internal,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": containers,
            "Options": self.network.driver_opts,
            "Labels": labels,
        })
    }

    fn text(&self) -> String {
        let mut text = format!("network {} ({})", self.key, self.network.name);
        let _ = match self.status {
            Some(status) => {
                let (subnet, gateway) = (self.subnet().unwrap_or_default(), status.gateway);
                let outside = if self.network.internal { "no way out" } else { "with a way out" };
                writeln!(text, ": {subnet}, gateway and DNS {gateway}, bridge {}, {outside}", status.bridge)
            }
            None => writeln!(text, ": not up"),
        };
        let mut table = Table::new(&["  CONTAINER", "INTERFACE", "ADDRESS", "MAC", "PORTS"]);
        for container in &self.containers {
            for interface in container.interfaces.iter().filter(|interface| interface.network == self.key) {
                table.row([
                    format!("  {}", container.container),
                    interface.name.clone(),
                    format!("{}/{}", interface.address, interface.prefix),
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

/// `0.0.0.0:8080->80/tcp`, one after the other.
fn ports(container: &ContainerStatus) -> String {
    let each = container.ports.iter().flat_map(|port| {
        port.addresses.iter().map(move |address| format!("{address}->{}/{}", port.target, port.protocol))
    });
    each.collect::<Vec<_>>().join(", ")
}
