//! What the network process and its clients say to each other: plain data, no I/O.
//!
//! A message is one frame: its length (u32, little-endian), then that many bytes of JSON. One request, one answer, in
//! order, over a stream socket. Some messages carry a descriptor beside the length ([`Request::Attach`]: the container's
//! network namespace; [`Answer::Namespace`]: the project's; [`Answer::Capture`]: a packet socket). The first request of a connection is [`Request::Hello`];
//! a process of another protocol version answers it with [`Failure::Version`] and nothing else.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Version of the messages below. A client and a network process of different versions do not talk.
pub const VERSION: u32 = 3;

/// Largest message in bytes, in either direction.
pub(crate) const MESSAGE_LIMIT: usize = 1 << 20;

/// A network of the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// Key in the Compose file; what [`Membership::network`] refers to.
    pub key: String,
    /// No way out of this network.
    pub internal: bool,
    /// Containers get IPv4 addresses.
    pub ipv4: bool,
    /// Containers get IPv6 addresses.
    pub ipv6: bool,
    /// Subnets that were chosen, at most one of each family. One that is missing is taken from a pool.
    pub pools: Vec<Pool>,
    /// Addresses that are given only to who asks for them.
    pub reserved: Vec<IpAddr>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Containers do not reach each other.
    pub isolated: bool,
    /// What interfaces are called in containers, before their number.
    pub interface_prefix: String,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            key: String::new(),
            internal: false,
            ipv4: true,
            ipv6: false,
            pools: Vec::new(),
            reserved: Vec::new(),
            mtu: 1500,
            isolated: false,
            interface_prefix: "eth".into(),
        }
    }
}

/// Addresses of one family that a network was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: IpNet,
    /// Part of it that containers' addresses are taken from.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// The bridge's address.
    pub gateway: IpAddr,
}

/// A container and everything it is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Container name, unique in the project; resolvable on every network of the container.
    pub container: String,
    /// Host name; resolvable like the container name.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Networks of the container, in any order; interfaces are numbered by priority, then by key.
    pub networks: Vec<Membership>,
    /// Names that this container alone knows, each for a name on its networks.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Name servers for what is not the project's; the device's when empty.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    /// Published ports. Those already opened by `Request::Publish` or an earlier attach stay open.
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// A container's place on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Membership {
    /// Key of the network.
    pub network: String,
    /// Names on this network that may be shared with others: the service's name and its aliases. When several
    /// containers have one name, an answer lists all of them in turning order.
    pub aliases: Vec<String>,
    /// Addresses asked for, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Further addresses, valid on the link only.
    pub link_local: Vec<IpAddr>,
    /// Hardware address asked for, as `02:42:…`.
    pub mac: Option<String>,
    /// Name of the interface inside the container.
    pub interface: Option<String>,
    /// Networks with a higher one are connected first.
    pub priority: i64,
    /// The network with the highest one has the default route, if it has a way out.
    pub gateway_priority: i64,
}

/// Transport protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port of a container and where it is to be reachable on the device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Port inside the container.
    pub target: u16,
    /// Port on the device; the kernel chooses one when absent.
    #[serde(default)]
    pub published: Option<u16>,
    /// Last port of the range that starts with `published`, of which the first free one is taken.
    #[serde(default)]
    pub published_last: Option<u16>,
    /// Address on the device; all IPv4 and IPv6 addresses when absent.
    #[serde(default)]
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

/// Where a container's port is reachable on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Port inside the container.
    pub target: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Addresses that are listened on, `0.0.0.0:P` and `[::]:P` for all.
    pub addresses: Vec<SocketAddr>,
}

/// What a container got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// One interface for each network, by priority, then by key.
    pub interfaces: Vec<Interface>,
    /// Address for `nameserver` in the container's resolv.conf; absent when the container is on no network.
    pub nameserver: Option<IpAddr>,
    /// Published ports, in the order asked for.
    pub ports: Vec<Published>,
}

impl Attached {
    /// The container's addresses, those for its own names in `/etc/hosts`.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interfaces.iter().flat_map(Interface::ips)
    }
}

/// A network interface inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Key of the network it leads to.
    pub network: String,
    /// `eth0`, `eth1`, … unless it was asked for.
    pub name: String,
    /// Addresses of the container with the length of the network's prefix, IPv4 before IPv6.
    pub addresses: Vec<IpNet>,
    /// Addresses of the bridge, of the same families: gateway and DNS server.
    pub gateways: Vec<IpAddr>,
    /// Hardware address, `02:42:…`.
    pub mac: String,
}

impl Interface {
    /// Addresses of the container.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }
}

/// State of the network process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Process ID as the process sees it.
    pub pid: u32,
    /// Networks by sorted key.
    pub networks: Vec<NetworkStatus>,
    /// Containers by sorted name.
    pub containers: Vec<ContainerStatus>,
    /// Connections through published ports at this moment, UDP sessions included.
    pub connections: u64,
    /// Connections and flows to the outside at this moment.
    pub outgoing: u64,
    /// DNS questions answered since the start.
    pub dns_queries: u64,
    /// Whether the kernel itself forwards what goes out over IPv4; else it is relayed, as IPv6 always is. A process of an
    /// earlier build does not tell.
    #[serde(default)]
    pub forwarded: Option<bool>,
}

/// State of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Key in the Compose file.
    pub key: String,
    /// Bridge interface in the project's namespace.
    pub bridge: String,
    /// Addresses of the bridge with the length of the network's prefix, IPv4 before IPv6.
    pub gateways: Vec<IpNet>,
}

/// State of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Container name.
    pub container: String,
    /// Its interfaces; none while only its ports are open.
    pub interfaces: Vec<Interface>,
    /// Its published ports.
    pub ports: Vec<Published>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", content = "with", rename_all = "snake_case")]
pub(crate) enum Request {
    /// First message of a connection.
    Hello { version: u32 },
    /// Makes the networks that are missing and removes those no longer named that no container uses.
    Configure(Vec<NetworkConfig>),
    /// Opens a container's ports before it exists; all or none.
    Publish { container: String, ports: Vec<Port> },
    /// Connects a container; a descriptor of its network namespace comes along.
    Attach(Attach),
    /// Takes a container's interfaces, names and ports away.
    Detach { container: String },
    /// Asks for [`Status`].
    Status,
    /// Asks for a descriptor of the project's network namespace.
    Namespace,
    /// Asks for a packet socket to capture a network with.
    Capture { network: String },
    /// Ends the process after the answer.
    Shutdown,
}

/// What the network process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "with", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done, nothing to tell; also the answer to [`Request::Hello`].
    Done,
    /// To [`Request::Publish`].
    Published(Vec<Published>),
    /// To [`Request::Attach`].
    Attached(Attached),
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Namespace`]; a descriptor comes along.
    Namespace,
    /// To [`Request::Capture`]: the index of the network's bridge; a descriptor comes along.
    Capture(u32),
    /// Not done.
    Failed(Failure),
}
