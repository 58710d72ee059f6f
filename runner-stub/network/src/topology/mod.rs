//! The kernel's part: bridges in the project's namespace, a veth into each container for each of its networks.
//!
//! The kernel is the memory. A bridge is named after a hash of the network's key, a veth after one of container and
//! network; each carries its address as alias, set last. Whoever takes over after a killed process reads the links
//! and knows subnets and addresses; a link without an alias was left half-made and is removed.

mod links;
mod message;
pub(crate) mod namespace;
mod netlink;
mod subnet;
mod veth;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use links::Link;
use netlink::Netlink;
use rustix::io::Errno;
use subnet::Subnet;

use crate::Failure;
use crate::protocol::{Interface, NetworkConfig, NetworkStatus};

/// Bridges and veths of the project.
#[derive(Debug)]
pub(crate) struct Topology {
    netlink: Netlink,
    /// By name of the bridge; also those found in the kernel that no network was configured for yet.
    bridges: BTreeMap<String, Bridge>,
}

/// A container's interfaces.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) interfaces: Vec<Interface>,
    /// Whether a link was made: this is another run of the container than the last time, if there was one.
    pub(crate) is_new: bool,
}

#[derive(Debug)]
struct Bridge {
    /// Key of the network, once configured.
    key: Option<String>,
    index: u32,
    subnet: Subnet,
    /// Addresses by name of the veth. They stay while a container restarts.
    leases: BTreeMap<String, Ipv4Addr>,
    last: Option<Ipv4Addr>,
}

impl Topology {
    /// Prepares the calling thread's namespace and reads what is there already.
    pub(crate) fn load() -> io::Result<Topology> {
        // A new namespace inherits the host's setting, and hosts with Docker forward.
        namespace::set("ipv4/ip_forward", "0")?;
        // Rules see to it; this would look for a way back to foreign addresses. Bridges inherit it.
        namespace::set("ipv4/conf/all/rp_filter", "0")?;
        namespace::set("ipv4/conf/default/rp_filter", "0")?;
        // Nothing is lost or late between here and the containers: no old segments to wait for.
        namespace::set("ipv4/tcp_max_tw_buckets", "0")?;
        // No IPv6 between containers yet; link-local addresses would be a way to services of the namespace.
        namespace::set("ipv6/conf/all/disable_ipv6", "1")?;
        namespace::set("ipv6/conf/default/disable_ipv6", "1")?;

        let mut netlink = Netlink::open()?;
        let loopback = links::find(&mut netlink, "lo")?;
        links::set_up(&mut netlink, loopback.index, None)?;
        // A kernel without policy routing still has DNS bound to its bridge and forwarding off.
        tolerate(links::prepare_rules(&mut netlink), Errno::OPNOTSUPP)?;

        let mut topology = Topology { netlink, bridges: BTreeMap::new() };
        topology.adopt()?;
        Ok(topology)
    }

    /// Makes the bridges that are missing. Removes those of other networks, unless a container is still on one.
    pub(crate) fn configure(&mut self, networks: &[NetworkConfig]) -> Result<(), Failure> {
        let mut names = Vec::new();
        for NetworkConfig { key, internal } in networks {
            let name = link_name("br-", &[key]);
            match self.bridges.get_mut(&name) {
                Some(bridge) => bridge.key = Some(key.clone()),
                None => self.create(key, &name)?,
            }
            self.confine(&name, *internal)
                .map_err(Failure::system(format!("set up the rules of network `{key}`")))?;
            names.push(name);
        }
        let unused: Vec<String> = self
            .bridges
            .iter()
            .filter(|(name, bridge)| !names.contains(name) && bridge.leases.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in unused {
            self.remove(&name).map_err(Failure::system(format!("remove bridge {name}")))?;
        }
        Ok(())
    }

    /// Connects a container to networks, in this order: `eth0`, `eth1`, … Undone when a step fails.
    pub(crate) fn attach(
        &mut self,
        container: &str,
        networks: &[&str],
        namespace: BorrowedFd<'_>,
    ) -> Result<Connected, Failure> {
        let mut interfaces = Vec::new();
        let mut is_new = false;
        for (number, network) in networks.iter().enumerate() {
            match self.connect(container, network, &format!("eth{number}"), namespace) {
                Ok((interface, is_made)) => {
                    interfaces.push(interface);
                    is_new |= is_made;
                }
                Err(failure) => {
                    // The first failure is the one to tell.
                    let _ = self.detach(container);
                    return Err(failure);
                }
            }
        }
        let prepared = namespace::inside(namespace, || veth::configure(&interfaces));
        if let Err(error) = prepared {
            let _ = self.detach(container);
            return Err(Failure::system(format!("set up the network inside container `{container}`"))(error));
        }
        Ok(Connected { interfaces, is_new })
    }

    /// Takes a container's veths away and its addresses back. All are tried; the first error is told.
    pub(crate) fn detach(&mut self, container: &str) -> Result<(), Failure> {
        let mut result = Ok(());
        for bridge in self.bridges.values_mut() {
            let Some(key) = &bridge.key else { continue };
            let name = link_name("v", &[container, key]);
            if bridge.leases.remove(&name).is_some() {
                result = result.and(veth::remove(&mut self.netlink, &name));
            }
        }
        result.map_err(Failure::system(format!("remove the links of container `{container}`")))
    }

    /// The index of a configured network's bridge.
    pub(crate) fn bridge(&self, network: &str) -> Option<u32> {
        self.bridges.values().find(|bridge| bridge.key.as_deref() == Some(network)).map(|bridge| bridge.index)
    }

    /// Networks with their bridges, by sorted key.
    pub(crate) fn networks(&self) -> Vec<NetworkStatus> {
        let mut networks: Vec<NetworkStatus> = self
            .bridges
            .iter()
            .filter_map(|(name, bridge)| {
                Some(NetworkStatus {
                    key: bridge.key.clone()?,
                    bridge: name.clone(),
                    gateway: bridge.subnet.gateway(),
                    prefix: bridge.subnet.prefix,
                })
            })
            .collect();
        networks.sort_by(|a, b| a.key.cmp(&b.key));
        networks
    }

    /// Reads bridges and leases from the links; removes what was left half-made.
    fn adopt(&mut self) -> io::Result<()> {
        let found = links::list(&mut self.netlink)?;
        let (bridges, veths): (Vec<Link>, Vec<Link>) = found
            .into_iter()
            .filter(|link| link.name.starts_with("br-") || link.name.starts_with('v'))
            .partition(|link| link.name.starts_with("br-"));
        for link in bridges {
            match link.alias.as_deref().map(str::parse) {
                Some(Ok(subnet)) => {
                    let bridge =
                        Bridge { key: None, index: link.index, subnet, leases: BTreeMap::new(), last: None };
                    self.bridges.insert(link.name, bridge);
                }
                _ => links::delete(&mut self.netlink, link.index)?,
            }
        }
        for link in veths {
            let bridge = self.bridges.values_mut().find(|bridge| Some(bridge.index) == link.bridge);
            match (bridge, link.alias.as_deref().map(str::parse)) {
                (Some(bridge), Some(Ok(address))) if bridge.subnet.contains(address) => {
                    bridge.last = bridge.last.max(Some(address));
                    bridge.leases.insert(link.name, address);
                }
                // Its container may be gone this moment, and the link with it.
                _ => tolerate(links::delete(&mut self.netlink, link.index), Errno::NODEV)?,
            }
        }
        Ok(())
    }

    fn create(&mut self, key: &str, name: &str) -> Result<(), Failure> {
        let is_free = |subnet: &Subnet| self.bridges.values().all(|bridge| bridge.subnet != *subnet);
        let subnet = (0..subnet::POOL)
            .filter_map(Subnet::nth)
            .find(is_free)
            .ok_or_else(|| Failure::NoSubnet { network: key.to_owned(), limit: subnet::POOL })?;
        let gateway = subnet.gateway();
        let netlink = &mut self.netlink;
        let index = links::create_bridge(netlink, name, gateway)
            .map_err(|error| unsupported(error, "bridge"))
            .map_err(Failure::system(format!("make a bridge for network `{key}`")))?;
        let completed = links::add_address(netlink, index, gateway, subnet)
            .and_then(|()| {
                tolerate(links::confine_bridge(netlink, name, index, subnet, true), Errno::OPNOTSUPP)
            })
            .and_then(|()| links::set_up(netlink, index, Some(&subnet.to_string())));
        if let Err(error) = completed {
            let _ = links::delete(netlink, index);
            return Err(Failure::system(format!("set up the bridge of network `{key}`"))(error));
        }
        let bridge = Bridge { key: Some(key.to_owned()), index, subnet, leases: BTreeMap::new(), last: None };
        self.bridges.insert(name.to_owned(), bridge);
        Ok(())
    }

    /// Gives a bridge its way out, or takes it away.
    fn confine(&mut self, name: &str, is_internal: bool) -> io::Result<()> {
        let Some(bridge) = self.bridges.get(name) else { return Ok(()) };
        let (index, subnet) = (bridge.index, bridge.subnet);
        let done = links::confine_bridge(&mut self.netlink, name, index, subnet, is_internal);
        tolerate(done, Errno::OPNOTSUPP)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if let Some(bridge) = self.bridges.remove(name) {
            // Rules without a link match nothing; a kernel without policy routing has none.
            let _ = links::release_bridge(&mut self.netlink, name, bridge.index, bridge.subnet);
            tolerate(links::delete(&mut self.netlink, bridge.index), Errno::NODEV)?;
        }
        Ok(())
    }

    /// One container on one network: keeps the veth that leads into `namespace`, makes it anew otherwise.
    fn connect(
        &mut self,
        container: &str,
        network: &str,
        inside: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<(Interface, bool), Failure> {
        let unknown =
            || Failure::UnknownNetwork { container: container.to_owned(), network: network.to_owned() };
        let full = || Failure::NoAddress { network: network.to_owned(), container: container.to_owned() };
        let bridge = self.bridges.get_mut(&link_name("br-", &[network])).ok_or_else(unknown)?;
        let name = link_name("v", &[container, network]);

        let leases = &bridge.leases;
        let address = match leases.get(&name) {
            Some(address) => *address,
            None => bridge
                .subnet
                .next_free(bridge.last, |candidate| leases.values().any(|used| *used == candidate))
                .ok_or_else(full)?,
        };
        bridge.leases.insert(name.clone(), address);
        bridge.last = Some(address);

        let (inside, is_made) =
            veth::ensure(&mut self.netlink, &name, bridge.index, namespace, inside, address)
                .map_err(|error| unsupported(error, "veth"))
                .map_err(Failure::system(format!(
                    "connect container `{container}` to network `{network}`"
                )))?;
        let mac = links::hardware_address(address).map(|byte| format!("{byte:02x}")).join(":");
        let (gateway, prefix) = (bridge.subnet.gateway(), bridge.subnet.prefix);
        Ok((Interface { network: network.to_owned(), name: inside, address, prefix, gateway, mac }, is_made))
    }
}

fn tolerate(result: io::Result<()>, errno: Errno) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno.raw_os_error()) => Ok(()),
        result => result,
    }
}

/// Says what a kernel lacks that does not know a kind of link.
fn unsupported(error: io::Error, module: &str) -> io::Error {
    if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) {
        io::Error::new(
            error.kind(),
            format!("the kernel has no `{module}` links\nhint: sudo modprobe {module}"),
        )
    } else {
        error
    }
}

/// A name of at most 15 bytes that two processes, one after the other, find for the same thing (FNV-1a, 48 bits).
fn link_name(prefix: &str, parts: &[&str]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.join("\0").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{prefix}{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
}
