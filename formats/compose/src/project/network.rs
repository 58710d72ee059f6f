//! How services are connected.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::is_default;

/// A published port: one container port and where it is reachable on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port inside the container, 1 to 65535.
    pub target: u16,
    /// Port on the device; the kernel chooses one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// Last port of the range that starts with `published`, of which the first free one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_last: Option<u16>,
    /// Address on the device; all addresses when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

impl Port {
    /// Ports of the device that are asked for; none when the kernel chooses.
    pub fn numbers(&self) -> Option<RangeInclusive<u16>> {
        let first = self.published?;
        Some(first..=self.published_last.unwrap_or(first))
    }
}

/// Transport protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// How a service is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Networks of the project by key, each with the service's settings on it.
    Networks(BTreeMap<String, Attachment>),
    /// The device's own network.
    Host,
    /// Loopback only.
    None,
    /// The network of another service of the project.
    Service(String),
    /// The network of another container, by name.
    Container(String),
}

impl Default for NetworkMode {
    fn default() -> Self {
        NetworkMode::Networks(BTreeMap::from([("default".to_owned(), Attachment::default())]))
    }
}

/// A service's settings on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Further names of the service on this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Fixed IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Fixed IPv6 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Further addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<IpAddr>,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Name of the interface inside the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
    /// Networks with a higher one are connected first.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i64,
    /// The network with the highest one has the default route.
    #[serde(skip_serializing_if = "is_default")]
    pub gw_priority: i64,
}

/// A network of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Name shown to the user; `<project>_<key>` by default.
    pub name: String,
    /// No way out.
    pub internal: bool,
    /// It is not the project's: neither made nor removed by it.
    #[serde(skip_serializing_if = "is_default")]
    pub external: bool,
    /// Whether it has IPv4; yes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6; no when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Subnets asked for, at most one of each family that it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ipam: Vec<IpamPool>,
    /// Options of the `bridge` driver.
    #[serde(skip_serializing_if = "is_default")]
    pub driver_opts: DriverOptions,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Options of the `bridge` driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DriverOptions {
    /// Largest packet in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether containers reach each other; yes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_icc: Option<bool>,
    /// What interfaces are called in containers, before their number; `eth` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_prefix: Option<String>,
}

impl Network {
    /// Whether containers get IPv4 addresses.
    #[must_use]
    pub fn has_ipv4(&self) -> bool {
        self.enable_ipv4.unwrap_or(true)
    }

    /// Whether containers get IPv6 addresses.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.enable_ipv6.unwrap_or(false)
    }

    /// The subnet that was asked for in the family of an address.
    #[must_use]
    pub fn pool(&self, like: IpAddr) -> Option<&IpamPool> {
        self.ipam.iter().find(|pool| pool.subnet.addr().is_ipv4() == like.is_ipv4())
    }
}

/// A subnet of a network, and who is who in it. All addresses are within it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamPool {
    /// The subnet; no bits are set behind the prefix.
    pub subnet: IpNet,
    /// Part of the subnet that addresses are taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<IpNet>,
    /// The gateway's address: the first of the subnet, unless another one was asked for.
    pub gateway: IpAddr,
    /// Addresses that are not given to containers, by the name of who has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}
