//! How a service is connected, and to what it is tied.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::diagnostic::{Path, Report};
use crate::node::Node;
use ipnet::IpNet;

use crate::project::{Attachment, Condition, Dependency, DriverOptions, IpamPool, NetworkMode, Service};
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
    let mut check = |key: &str, valid: fn(&str) -> Result<(), String>| -> Option<String> {
        let text = values::text(node, key)?;
        let at = node.get(key).map_or(node.at, |value| value.at);
        valid(text).map_err(|message| report.error(at, &path.key(key), message)).ok()?;
        Some(text.to_owned())
    };
    let mac_address = check("mac_address", mac_address).map(|mac| mac.to_ascii_lowercase());
    let interface_name = check("interface_name", interface_name);
    let link_local_ips = addresses(node, "link_local_ips", path, report);
    for (index, address) in link_local_ips.iter().enumerate().filter(|(_, address)| !is_link_local(**address))
    {
        let list = node.get("link_local_ips").and_then(Node::as_list).unwrap_or_default();
        let at = list.get(index).map_or(node.at, |item| item.at);
        let message = format!("{address} is no link-local address: those are 169.254.0.0/16 and fe80::/64");
        report.refuse(at, &path.key("link_local_ips").index(index), message);
    }
    Attachment {
        aliases: values::list(node, "aliases"),
        ipv4_address: address(node, "ipv4_address", path, report),
        ipv6_address: address(node, "ipv6_address", path, report),
        link_local_ips,
        mac_address,
        interface_name,
        priority: values::signed(node, "priority").unwrap_or_default(),
        gw_priority: values::signed(node, "gw_priority").unwrap_or_default(),
    }
}

/// What Linux takes for a name, and what means something else in its settings.
fn interface_name(name: &str) -> Result<(), String> {
    let is_name =
        name.len() <= 15 && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:".contains(&byte));
    if is_name && !matches!(name, "." | ".." | "lo" | "all" | "default") {
        return Ok(());
    }
    Err(format!("`{name}` cannot be the name of an interface"))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[..4] == [0xfe80, 0, 0, 0],
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

/// Six bytes in hexadecimal that mean one station.
pub(super) fn mac_address(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(byte) {
        return Err(format!("`{text}` is not a MAC address"));
    }
    let first = u8::from_str_radix(parts[0], 16).unwrap_or(0);
    if first & 1 == 1 || parts.iter().all(|part| *part == "00") {
        return Err(format!(
            "`{text}` is not the MAC address of one interface: the lowest bit of its first byte must be 0"
        ));
    }
    Ok(())
}

/// Options of the `bridge` driver, checked.
pub(super) fn driver_options(network: &Node, path: &Path<'_>, report: &mut Report) -> DriverOptions {
    const DOCKER: &str = "com.docker.network.";
    let path = path.key("driver_opts");
    let mut options = DriverOptions::default();
    for (name, entry) in super::entries(network.get("driver_opts")) {
        let value = entry.node.scalar_text().unwrap_or_default();
        let (at, path) = (entry.node.at, path.key(name));
        let flag = match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        };
        let refused = match name.strip_prefix(DOCKER) {
            Some("driver.mtu") => match value.parse() {
                // The least that IPv4 and IPv6 work with, and the largest that a link of this kind has.
                Ok(mtu)
                    if (if values::flag(network, "enable_ipv6") { 1280 } else { 68 }..=65_535)
                        .contains(&mtu) =>
                {
                    options.mtu = Some(mtu);
                    continue;
                }
                _ => {
                    let message =
                        format!("`{value}` is not the size of packets: 68 to 65535, with IPv6 at least 1280");
                    report.error(at, &path, message);
                    continue;
                }
            },
            Some("bridge.enable_icc") => match flag {
                Some(flag) => {
                    options.enable_icc = Some(flag);
                    continue;
                }
                None => {
                    report.error(at, &path, format!("expected `true` or `false`, found `{value}`"));
                    continue;
                }
            },
            Some("container_iface_prefix") => {
                if value.len() > 10 || value.is_empty() || interface_name(&value).is_err() {
                    report.error(at, &path, format!("`{value}` cannot begin the names of interfaces"));
                } else {
                    options.interface_prefix = Some(value);
                }
                continue;
            }
            Some("bridge.name") => {
                report.warn(at, &path, "bridges are not seen from the device, the name is ignored");
                continue;
            }
            Some("bridge.enable_ip_masquerade") if flag == Some(true) => continue,
            Some("bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6") if value == "nat" => continue,
            Some("bridge.enable_ip_masquerade" | "bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6") => {
                "containers reach the outside in the name of the device only; `internal: true` has no way out"
            }
            Some("bridge.host_binding_ipv4" | "bridge.host_binding_ipv6") => {
                "write the address before the published port: `127.0.0.1:80:80`"
            }
            _ => "no such option of a bridge is known here",
        };
        report.refuse(entry.key_at, &path, refused);
    }
    options
}

/// Subnets of a network, at most one of each family that it has.
pub(super) fn pools(network: &Node, path: &Path<'_>, report: &mut Report) -> Vec<IpamPool> {
    let Some(ipam) = network.get("ipam") else { return Vec::new() };
    let path = path.key("ipam");
    if let Some(driver) = values::text(ipam, "driver").filter(|driver| *driver != "default") {
        report.refuse(ipam.at, &path.key("driver"), format!("driver `{driver}` does not exist here"));
    }
    let path = path.key("config");
    let mut pools: Vec<IpamPool> = Vec::new();
    for (index, item) in ipam.get("config").and_then(Node::as_list).unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let Some(pool) = pool(item, &path, report) else { continue };
        let is_ipv4 = pool.subnet.addr().is_ipv4();
        let (key, is_on) = match is_ipv4 {
            true => {
                ("enable_ipv4", network.get("enable_ipv4").is_none() || values::flag(network, "enable_ipv4"))
            }
            false => ("enable_ipv6", values::flag(network, "enable_ipv6")),
        };
        let at = item.get("subnet").map_or(item.at, |value| value.at);
        if !is_on {
            let message = format!("the subnet is not used, because `{key}` is not on");
            report.warn(at, &path.key("subnet"), message);
        } else if let Some(other) = pools.iter().find(|other| other.subnet.addr().is_ipv4() == is_ipv4) {
            let message =
                format!("a network has one subnet of a family, and {} is there already", other.subnet);
            report.refuse(at, &path.key("subnet"), message);
        } else {
            pools.push(pool);
        }
    }
    pools
}

/// One item of `ipam.config`; none when it says nothing or is wrong.
fn pool(item: &Node, path: &Path<'_>, report: &mut Report) -> Option<IpamPool> {
    let at = |key: &str| item.get(key).map_or(item.at, |value| value.at);
    let before = report.errors();
    let Some(subnet) = subnet(item, "subnet", path, report) else {
        if report.errors() == before
            && let Some(key) =
                ["ip_range", "gateway", "aux_addresses"].iter().find(|key| item.get(key).is_some())
        {
            report.error(at(key), &path.key(key), "no `subnet` is given");
        }
        return None;
    };
    let room = subnet.max_prefix_len() - subnet.prefix_len();
    if room < 2 {
        let message = format!("{subnet} has no room for a gateway and a container");
        report.error(at("subnet"), &path.key("subnet"), message);
        return None;
    }
    if let Some(special) =
        SPECIAL.iter().filter_map(|text| text.parse::<IpNet>().ok()).find(|special| overlap(*special, subnet))
    {
        let message = format!("{subnet} overlaps with {special}, which means something else");
        report.error(at("subnet"), &path.key("subnet"), message);
        return None;
    }
    let ip_range = self::subnet(item, "ip_range", path, report);
    if let Some(range) = ip_range.filter(|range| !subnet.contains(range)) {
        let message = format!("{range} is not part of the subnet {subnet}");
        report.error(at("ip_range"), &path.key("ip_range"), message);
    }
    let gateway = address::<IpAddr>(item, "gateway", path, report);
    if let Some(gateway) = gateway
        && let Err(message) = is_host(gateway, subnet)
    {
        report.error(at("gateway"), &path.key("gateway"), message);
    }
    let mut aux_addresses = BTreeMap::new();
    if let Some(others) = item.get("aux_addresses") {
        let path = path.key("aux_addresses");
        for (name, entry) in super::entries(Some(others)) {
            let Some(address) = address(others, name, &path, report) else { continue };
            if let Err(message) = is_host(address, subnet) {
                report.error(entry.node.at, &path.key(name), message);
            }
            aux_addresses.insert(name.clone(), address);
        }
    }
    let gateway = gateway.unwrap_or_else(|| match subnet.network() {
        IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + 1).into(),
        IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + 1).into(),
    });
    (report.errors() == before).then_some(IpamPool { subnet, ip_range, gateway, aux_addresses })
}

/// "This network", loopback, link-local (where the device itself is), multicast and what lies above.
const SPECIAL: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"];

/// Whether two subnets have an address in common.
pub(crate) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Whether an address can be somebody's within a subnet.
pub(crate) fn is_host(address: IpAddr, subnet: IpNet) -> Result<(), String> {
    if !subnet.contains(&address) {
        return Err(format!("{address} is outside of the subnet {subnet}"));
    }
    if address == subnet.network() || address.is_ipv4() && address == subnet.broadcast() {
        return Err(format!("{address} is nobody's: it stands for all of the subnet {subnet}"));
    }
    Ok(())
}

/// A subnet without bits behind its prefix.
fn subnet(item: &Node, key: &str, path: &Path<'_>, report: &mut Report) -> Option<IpNet> {
    let text = values::text(item, key)?;
    let at = item.get(key).map_or(item.at, |value| value.at);
    match text.parse::<IpNet>() {
        Ok(subnet) if subnet == subnet.trunc() => Some(subnet),
        Ok(subnet) => {
            let message = format!("`{text}` has bits behind its prefix");
            report.error(at, &path.key(key), message).hint(format!("the subnet is `{}`", subnet.trunc()));
            None
        }
        Err(_) => {
            report.error(at, &path.key(key), format!("`{text}` is not a subnet such as `10.1.0.0/24`"));
            None
        }
    }
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
