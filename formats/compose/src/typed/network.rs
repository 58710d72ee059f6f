//! How a service is connected, and to what it is tied.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{Attachment, Condition, Dependency, IpamPool, NetworkMode, Service};
use crate::typed::values;

/// `network_mode` and `networks`.
pub(super) fn mode(node: &Node, path: &Path<'_>, report: &mut Report) -> NetworkMode {
    if let Some(mode) = node.get("network_mode")
        && let Some(text) = mode.as_text()
    {
        let path = path.key("network_mode");
        if let Some(networks) = node.get("networks") {
            report.error(networks.at, &path, "cannot be combined with `networks`");
        }
        if text == "host" && node.get("ports").is_some() {
            let message = "`ports` have no meaning on the device's own network, they are ignored";
            report.warn(mode.at, &path, message);
        }
        match text {
            "host" => return NetworkMode::Host,
            "none" => return NetworkMode::None,
            "bridge" => {
                let message = "`bridge` is not supported, there is no network that projects share";
                report.refuse(mode.at, &path, message);
            }
            _ => {
                let shared = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty());
                if let Some(name) = shared("service:").or_else(|| shared("container:")) {
                    return match text.starts_with("service:") {
                        true => NetworkMode::Service(name.to_owned()),
                        false => NetworkMode::Container(name.to_owned()),
                    };
                }
                let message = format!("expected `host`, `none` or `service:NAME`, found `{text}`");
                report.error(mode.at, &path, message);
            }
        }
        return NetworkMode::None;
    }
    let mut networks = BTreeMap::new();
    let path = path.key("networks");
    for (name, entry) in super::entries(node.get("networks")) {
        networks.insert(name.clone(), attachment(&entry.node, &path.key(name), report));
    }
    NetworkMode::Networks(networks)
}

fn attachment(node: &Node, path: &Path<'_>, report: &mut Report) -> Attachment {
    let mac = values::text(node, "mac_address");
    if let Some(Err(message)) = mac.map(mac_address) {
        let at = node.get("mac_address").map_or(node.at, |value| value.at);
        report.error(at, &path.key("mac_address"), message);
    }
    let interface = values::text(node, "interface_name");
    if let Some(name) = interface.filter(|name| name.len() > 15 || name.contains(['/', ' ', ':'])) {
        let at = node.get("interface_name").map_or(node.at, |value| value.at);
        report.error(at, &path.key("interface_name"), format!("`{name}` is not the name of an interface"));
    }
    Attachment {
        aliases: values::list(node, "aliases"),
        ipv4_address: address(node, "ipv4_address", path, report),
        ipv6_address: address(node, "ipv6_address", path, report),
        link_local_ips: addresses(node, "link_local_ips", path, report),
        mac_address: mac.map(str::to_ascii_lowercase),
        interface_name: interface.map(str::to_owned),
        priority: values::signed(node, "priority").unwrap_or_default(),
        gw_priority: values::signed(node, "gw_priority").unwrap_or_default(),
        driver_opts: values::pairs(node, "driver_opts"),
    }
}

/// An IP address of a key.
fn address<T: FromStr>(node: &Node, key: &str, path: &Path<'_>, report: &mut Report) -> Option<T> {
    let text = values::text(node, key)?;
    let address = text.parse().ok();
    if address.is_none() {
        let at = node.get(key).map_or(node.at, |value| value.at);
        report.error(at, &path.key(key), format!("`{text}` is not such an address"));
    }
    address
}

fn addresses(node: &Node, key: &str, path: &Path<'_>, report: &mut Report) -> Vec<IpAddr> {
    let path = path.key(key);
    let mut found = Vec::new();
    for (index, item) in node.get(key).and_then(Node::as_list).unwrap_or_default().iter().enumerate() {
        let text = item.as_text().unwrap_or_default();
        match text.parse() {
            Ok(address) => found.push(address),
            Err(_) => {
                report.error(item.at, &path.index(index), format!("`{text}` is not an IP address"));
            }
        }
    }
    found
}

/// Six bytes in hexadecimal.
pub(super) fn mac_address(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() == 6 && parts.iter().all(byte) {
        return Ok(());
    }
    Err(format!("`{text}` is not a MAC address"))
}

/// Address pools of a network.
pub(super) fn pools(network: &Node, path: &Path<'_>, report: &mut Report) -> Vec<IpamPool> {
    let Some(ipam) = network.get("ipam") else { return Vec::new() };
    let path = path.key("ipam");
    if let Some(driver) = values::text(ipam, "driver").filter(|driver| *driver != "default") {
        report.refuse(ipam.at, &path.key("driver"), format!("driver `{driver}` does not exist here"));
    }
    let path = path.key("config");
    let mut pools = Vec::new();
    for (index, item) in ipam.get("config").and_then(Node::as_list).unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        for key in ["subnet", "ip_range"] {
            if let Some(text) = values::text(item, key)
                && !is_subnet(text)
            {
                let at = item.get(key).map_or(item.at, |value| value.at);
                let message = format!("`{text}` is not a subnet such as `10.1.0.0/24`");
                report.error(at, &path.key(key), message);
            }
        }
        let mut aux_addresses = BTreeMap::new();
        if let Some(others) = item.get("aux_addresses") {
            let path = path.key("aux_addresses");
            for (name, _) in super::entries(Some(others)) {
                if let Some(address) = address(others, name, &path, report) {
                    aux_addresses.insert(name.clone(), address);
                }
            }
        }
        pools.push(IpamPool {
            subnet: values::text(item, "subnet").map(str::to_owned),
            ip_range: values::text(item, "ip_range").map(str::to_owned),
            gateway: address(item, "gateway", &path, report),
            aux_addresses,
        });
    }
    pools
}

fn is_subnet(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u8>()) else { return false };
    length <= if address.is_ipv4() { 32 } else { 128 }
}

/// What a service calls others, and whom it asks for names.
pub(super) fn names(service: &mut Service, node: &Node, path: &Path<'_>, report: &mut Report) {
    service.dns = addresses(node, "dns", path, report);
    service.dns_opt = values::list(node, "dns_opt");
    service.dns_search = values::list(node, "dns_search");
    service.extra_hosts = extra_hosts(node, path, report);
    for link in values::list(node, "links") {
        let (other, name) = link.split_once(':').unwrap_or((&link, &link));
        service.links.insert(name.to_owned(), other.to_owned());
    }
}

/// `extra_hosts` of a service or a build.
pub(super) fn extra_hosts(
    node: &Node,
    path: &Path<'_>,
    report: &mut Report,
) -> BTreeMap<String, Vec<String>> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let path = path.key("extra_hosts");
    for (index, item) in
        node.get("extra_hosts").and_then(Node::as_list).unwrap_or_default().iter().enumerate()
    {
        let Some((name, address)) = item.as_text().and_then(|text| text.split_once('=')) else { continue };
        if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
            report.error(item.at, &path.index(index), format!("`{address}` is not an IP address"));
        }
        hosts.entry(name.to_owned()).or_default().push(address.to_owned());
    }
    hosts
}

/// `depends_on`.
pub(super) fn depends_on(node: &Node, path: &Path<'_>, report: &mut Report) -> BTreeMap<String, Dependency> {
    let path = path.key("depends_on");
    let mut dependencies = BTreeMap::new();
    for (name, entry) in super::entries(node.get("depends_on")) {
        let path = path.key(name);
        let at = entry.node.get("condition").map_or(entry.key_at, |value| value.at);
        let condition = match values::text(&entry.node, "condition") {
            Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            None => {
                report.error(entry.key_at, &path, "no `condition` is given");
                Condition::Started
            }
            Some(other) => {
                let message = format!(
                    "expected `service_started`, `service_healthy` or `service_completed_successfully`, found `{other}`"
                );
                report.error(at, &path.key("condition"), message);
                Condition::Started
            }
        };
        let required = entry.node.get("required").is_none_or(|_| values::flag(&entry.node, "required"));
        dependencies.insert(
            name.clone(),
            Dependency { condition, restart: values::flag(&entry.node, "restart"), required },
        );
    }
    dependencies
}
