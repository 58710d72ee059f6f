//! The kernel's part: bridges in the project's namespace, a veth into each container for each of its networks.
//!
//! The kernel is the memory. A bridge is named after a hash of the network's key, a veth after one of container and
//! network; each carries its addresses as alias, set last. Whoever takes over after a killed process reads the links
//! and knows subnets and addresses; a link without an alias was left half-made and is removed.
//!
//! A network that is configured anew becomes another bridge when nothing is on the old one any more: at once, or when the
//! first container is attached.

mod answers;
mod device;
mod links;
mod message;
pub(crate) mod namespace;
mod neighbours;
mod netlink;
mod nftables;
mod subnet;
pub mod uplink;
mod veth;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use answers::{Answers, Place};
use ipnet::IpNet;
use links::{Confined, Link};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use message::read_all;
pub(crate) use neighbours::{Neighbours, forget};
use netlink::Netlink;
use rustix::io::Errno;
pub use subnet::NETWORKS;
use subnet::Subnet;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use subnet::hold_to_rules;
use veth::Veth;

use crate::Failure;
use crate::protocol::{Interface, Membership, NetworkConfig, NetworkStatus, Port};

/// Bridges and veths of the project.
#[derive(Debug)]
pub(crate) struct Topology {
    netlink: Netlink,
    /// Tells this project from others.
    seed: String,
    /// The others' subnets; none for a project that only tries.
    neighbours: Option<Neighbours>,
    /// By name of the bridge; also those found in the kernel that no network was configured for yet.
    bridges: BTreeMap<String, Bridge>,
    answers: Answers,
}

/// A container's interfaces.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) interfaces: Vec<Interface>,
    /// Whether a link was made: this is another run of the container than the last time, if there was one.
    pub(crate) is_new: bool,
    /// Its addresses from which it answers the outside by way of the namespace, at most one of each family.
    pub(crate) answering: Vec<IpAddr>,
}

/// A bridge with a network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) network: String,
    pub(crate) bridge: String,
    pub(crate) index: u32,
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Debug)]
struct Bridge {
    /// What the network is to be, once configured.
    config: Option<NetworkConfig>,
    index: u32,
    /// IPv4 before IPv6.
    subnets: Vec<Subnet>,
    /// Addresses by name of the veth, in the order of the subnets. They stay while a container restarts.
    leases: BTreeMap<String, Vec<IpAddr>>,
    /// What containers had that are stopped or removed, the latest last. One of the same name gets it again as long as nobody
    /// else has it: programs such as nginx ask for a name once, and would go on to the old address.
    earlier: VecDeque<(String, Vec<IpAddr>)>,
}

/// How many containers that are gone are remembered on a network.
const EARLIER: usize = 1024;

impl Bridge {
    fn new(config: Option<NetworkConfig>, index: u32, subnets: Vec<Subnet>) -> Bridge {
        Bridge { config, index, subnets, leases: BTreeMap::new(), earlier: VecDeque::new() }
    }

    fn gateways(&self) -> Vec<IpNet> {
        self.subnets.iter().map(|subnet| subnet.gateway).collect()
    }

    /// Whether the bridge is what a network is to be, apart from what can be changed.
    fn fits(&self, config: &NetworkConfig) -> bool {
        [true, false].into_iter().all(|is_ipv4| {
            let subnet = self.subnets.iter().find(|subnet| subnet.gateway.addr().is_ipv4() == is_ipv4);
            let pool = config.pools.iter().find(|pool| pool.subnet.addr().is_ipv4() == is_ipv4);
            let is_wanted = if is_ipv4 { config.ipv4 } else { config.ipv6 };
            match (subnet, pool) {
                (Some(subnet), Some(pool)) => is_wanted && subnet.is(pool),
                (Some(_), None) => is_wanted,
                (None, _) => !is_wanted,
            }
        })
    }

    /// Takes over what can be changed.
    fn adapt(&mut self, config: &NetworkConfig) {
        for subnet in &mut self.subnets {
            let is_ipv4 = subnet.gateway.addr().is_ipv4();
            let pool = config.pools.iter().find(|pool| pool.subnet.addr().is_ipv4() == is_ipv4);
            subnet.set_rules(pool.and_then(|pool| pool.range), config.reserved.iter().copied());
        }
    }

    /// Takes the addresses of a container back. Whether it had some.
    fn give_back(&mut self, name: &str) -> bool {
        let Some(addresses) = self.leases.remove(name) else { return false };
        self.earlier.retain(|(other, _)| other != name);
        if self.earlier.len() == EARLIER {
            self.earlier.pop_front();
        }
        self.earlier.push_back((name.to_owned(), addresses));
        true
    }
}

impl Topology {
    /// Prepares the calling thread's namespace and reads what is there already. `seed` is the same for the same project
    /// and tells it from others.
    pub(crate) fn load(seed: String, neighbours: Option<Neighbours>) -> io::Result<Topology> {
        let mut netlink = Netlink::open()?;
        // A new namespace inherits the host's setting, and hosts with Docker forward. With an uplink, N does.
        if links::find(&mut netlink, links::UPLINK).is_err() {
            namespace::set("ipv4/ip_forward", "0")?;
        }
        namespace::set("ipv6/conf/all/forwarding", "0")?;
        // Rules see to it; this would look for a way back to foreign addresses. Bridges inherit it.
        namespace::set("ipv4/conf/all/rp_filter", "0")?;
        namespace::set("ipv4/conf/default/rp_filter", "0")?;
        // Nothing is lost or late between here and the containers: no old segments to wait for.
        namespace::set("ipv4/tcp_max_tw_buckets", "0")?;
        // Link-local addresses would be a way to services of the namespace: bridges with IPv6 are told so.
        namespace::set("ipv6/conf/default/disable_ipv6", "1")?;
        namespace::set("ipv6/conf/lo/disable_ipv6", "0")?;

        let loopback = links::find(&mut netlink, "lo")?;
        links::set_up(&mut netlink, loopback.index, None)?;
        links::add_nobody(&mut netlink)?;
        // A kernel without policy routing still has DNS bound to its bridge and forwarding off.
        let prepared = links::prepare_rules(&mut netlink);
        let answers = Answers::new(prepared.is_ok());
        tolerate(prepared, Errno::OPNOTSUPP)?;

        let mut topology = Topology { netlink, seed, neighbours, bridges: BTreeMap::new(), answers };
        topology.adopt()?;
        Ok(topology)
    }

    /// Makes the bridges that are missing. Removes those of other networks, unless a container is still on one.
    pub(crate) fn configure(&mut self, networks: &[NetworkConfig]) -> Result<(), Failure> {
        let held = self.neighbours.as_ref().and_then(Neighbours::hold);
        let configured = self.configure_all(networks);
        self.tell_neighbours();
        drop(held);
        configured
    }

    fn configure_all(&mut self, networks: &[NetworkConfig]) -> Result<(), Failure> {
        let names: BTreeSet<String> =
            networks.iter().map(|config| link_name("br-", &[&config.key])).collect();
        let unused: Vec<String> = self
            .bridges
            .iter()
            .filter(|(name, bridge)| !names.contains(*name) && bridge.leases.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in unused {
            self.remove(&name).map_err(Failure::system(format!("remove bridge {name}")))?;
        }
        // Subnets that were chosen come first, so that the others go round them.
        let (chosen, others): (Vec<_>, Vec<_>) = networks.iter().partition(|config| !config.pools.is_empty());
        for config in chosen.into_iter().chain(others) {
            self.configure_one(config)?;
        }
        Ok(())
    }

    /// Other projects choose among the rest. They never meet, so that it does no harm when it cannot be told.
    fn tell_neighbours(&self) {
        if let Some(neighbours) = &self.neighbours {
            let _ = neighbours.tell(&self.subnets());
        }
    }

    /// Those of all bridges.
    pub(crate) fn subnets(&self) -> Vec<IpNet> {
        self.bridges.values().flat_map(Bridge::gateways).map(|gateway| gateway.trunc()).collect()
    }

    fn configure_one(&mut self, config: &NetworkConfig) -> Result<(), Failure> {
        let name = link_name("br-", &[&config.key]);
        if let Some(bridge) = self.bridges.get(&name)
            && !bridge.fits(config)
            && bridge.leases.is_empty()
        {
            let failed = Failure::system(format!("remove the bridge of network `{}`", config.key));
            self.remove(&name).map_err(failed)?;
        }
        if let Some(bridge) = self.bridges.get_mut(&name) {
            bridge.config = Some(config.clone());
        } else {
            self.create(config, &name)?;
        }
        let Some(bridge) = self.bridges.get_mut(&name).filter(|bridge| bridge.fits(config)) else {
            // Containers are on it; it is made anew when they have gone.
            return Ok(());
        };
        bridge.adapt(config);
        let index = bridge.index;
        self.confine(&name, config.internal)
            .and_then(|()| links::set_mtu(&mut self.netlink, index, config.mtu))
            .map_err(Failure::system(format!("set up network `{}`", config.key)))
    }

    /// Connects a container to networks, in this order, from which it answers at `ports`. Undone when a step fails.
    pub(crate) fn attach(
        &mut self,
        container: &str,
        networks: &[&Membership],
        ports: &[Port],
        namespace: BorrowedFd<'_>,
    ) -> Result<Connected, Failure> {
        let mut interfaces = Vec::new();
        let mut is_new = false;
        for (network, name) in networks.iter().zip(self.interface_names(networks)) {
            match self.connect(container, network, &name, namespace) {
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
        let gateways = self.default_gateways(networks);
        let link_local = |interface: &Interface| {
            let place = networks.iter().find(|place| place.network == interface.network);
            place.map(|place| place.link_local.clone()).unwrap_or_default()
        };
        let setup: Vec<veth::Setup<'_>> = interfaces
            .iter()
            .map(|interface| veth::Setup {
                interface,
                link_local: link_local(interface),
                default_gateways: interface
                    .gateways
                    .iter()
                    .copied()
                    .filter(|gateway| gateways.contains(&(interface.network.as_str(), *gateway)))
                    .collect(),
            })
            .collect();
        let prepared = namespace::inside(namespace, || veth::configure(&setup));
        if let Err(error) = prepared {
            let _ = self.detach(container);
            return Err(Failure::system(format!("set up the network inside container `{container}`"))(error));
        }
        let places = setup.iter().flat_map(|setup| {
            let bridge = link_name("br-", &[&setup.interface.network]);
            let own = |is_ipv4: bool| setup.interface.ips().find(|ip| ip.is_ipv4() == is_ipv4);
            let addresses = setup.default_gateways.iter().filter_map(move |gateway| own(gateway.is_ipv4()));
            addresses.map(move |address| Place { bridge: bridge.clone(), address })
        });
        self.answers.lead(&mut self.netlink, container, places.collect(), ports);
        Ok(Connected { interfaces, is_new, answering: self.answering(container) })
    }

    /// What [`Connected::answering`] is by now.
    pub(crate) fn answering(&self, container: &str) -> Vec<IpAddr> {
        self.answers.of(container)
    }

    /// Takes a container's veths away and its addresses back. All are tried; the first error is told.
    pub(crate) fn detach(&mut self, container: &str) -> Result<(), Failure> {
        self.answers.forget(&mut self.netlink, container);
        let mut result = Ok(());
        for bridge in self.bridges.values_mut() {
            let Some(config) = &bridge.config else { continue };
            let name = link_name("v", &[container, &config.key]);
            if bridge.give_back(&name) {
                result = result.and(veth::remove(&mut self.netlink, &name));
            }
        }
        result.map_err(Failure::system(format!("remove the links of container `{container}`")))
    }

    /// The index of a configured network's bridge.
    pub(crate) fn bridge(&self, network: &str) -> Option<u32> {
        let is_meant = |bridge: &&Bridge| bridge.config.as_ref().is_some_and(|config| config.key == network);
        self.bridges.values().find(is_meant).map(|bridge| bridge.index)
    }

    /// Whether root has given the namespace a way out of the kernel's own ([`uplink`]).
    pub(crate) fn has_uplink(&mut self) -> bool {
        links::find(&mut self.netlink, links::UPLINK).is_ok()
    }

    /// Networks with their bridges, by sorted key.
    pub(crate) fn networks(&self) -> Vec<NetworkStatus> {
        let mut networks: Vec<NetworkStatus> = self
            .bridges
            .iter()
            .filter_map(|(name, bridge)| {
                let key = bridge.config.as_ref()?.key.clone();
                Some(NetworkStatus { key, bridge: name.clone(), gateways: bridge.gateways() })
            })
            .collect();
        networks.sort_by(|a, b| a.key.cmp(&b.key));
        networks
    }

    /// Bridges that have a network.
    pub(crate) fn gateways(&self) -> Vec<Gateway> {
        let gateway = |(name, bridge): (&String, &Bridge)| {
            Some(Gateway {
                network: bridge.config.as_ref()?.key.clone(),
                bridge: name.clone(),
                index: bridge.index,
                addresses: bridge.gateways().iter().map(IpNet::addr).collect(),
            })
        };
        self.bridges.iter().filter_map(gateway).collect()
    }

    /// Reads bridges and leases from the links; removes what was left half-made.
    fn adopt(&mut self) -> io::Result<()> {
        let found = links::list(&mut self.netlink)?;
        let (bridges, veths): (Vec<Link>, Vec<Link>) = found
            .into_iter()
            .filter(|link| link.name.starts_with("br-") || link.name.starts_with('v'))
            .partition(|link| link.name.starts_with("br-"));
        for link in bridges {
            match addresses_of::<IpNet>(&link) {
                Some(gateways) => {
                    let subnets = gateways.into_iter().map(Subnet::new).collect();
                    let bridge = Bridge::new(None, link.index, subnets);
                    self.bridges.insert(link.name, bridge);
                }
                None => links::delete(&mut self.netlink, link.index)?,
            }
        }
        for link in veths {
            let bridge = self.bridges.values_mut().find(|bridge| Some(bridge.index) == link.bridge);
            match (bridge, addresses_of::<IpAddr>(&link)) {
                (Some(bridge), Some(addresses)) if are_of(&addresses, &bridge.subnets) => {
                    for (subnet, address) in bridge.subnets.iter_mut().zip(&addresses) {
                        subnet.last = subnet.last.max(Some(*address));
                    }
                    bridge.leases.insert(link.name, addresses);
                }
                // Its container may be gone this moment, and the link with it.
                _ => tolerate(links::delete(&mut self.netlink, link.index), Errno::NODEV)?,
            }
        }
        Ok(())
    }

    fn create(&mut self, config: &NetworkConfig, name: &str) -> Result<(), Failure> {
        let key = &config.key;
        let subnets = self.choose_subnets(config)?;
        let gateways: Vec<IpNet> = subnets.iter().map(|subnet| subnet.gateway).collect();
        let first = gateways.first().map(IpNet::addr).ok_or_else(|| Failure::Invalid {
            reason: format!("network `{key}` has neither IPv4 nor IPv6 addresses"),
        })?;
        let netlink = &mut self.netlink;
        let index = links::create_bridge(netlink, name, links::hardware_address(first))
            .map_err(|error| unsupported(error, "bridge"))
            .map_err(Failure::system(format!("make a bridge for network `{key}`")))?;
        let confined = Confined { name, index, subnets: &gateways };
        let completed = prepare_ipv6(name, &gateways)
            .and_then(|()| {
                let is_ipv6 = |own: &&IpNet| own.addr().is_ipv6();
                let link_local = gateways.iter().find(is_ipv6).map(|_| IpNet::from(links::LINK_LOCAL));
                let mut all = gateways.iter().copied().chain(link_local);
                all.try_for_each(|own| links::add_gateway(netlink, index, own))
            })
            // Nothing is on it yet; IPv6 has routes by links that are up only.
            .and_then(|()| links::set_up(netlink, index, None))
            .and_then(|()| tolerate(links::confine_bridge(netlink, confined, true), Errno::OPNOTSUPP))
            .and_then(|()| links::set_up(netlink, index, Some(&joined(&gateways))));
        if let Err(error) = completed {
            let _ = links::delete(netlink, index);
            return Err(Failure::system(format!("set up the bridge of network `{key}`"))(error));
        }
        let bridge = Bridge::new(Some(config.clone()), index, subnets);
        self.bridges.insert(name.to_owned(), bridge);
        Ok(())
    }

    /// The subnets of a network: those that were chosen for it, others from the pools.
    fn choose_subnets(&self, config: &NetworkConfig) -> Result<Vec<Subnet>, Failure> {
        let mut subnets = Vec::new();
        let taken: Vec<(IpNet, &str)> = self
            .bridges
            .values()
            .flat_map(|bridge| {
                let owner = bridge.config.as_ref().map_or("an earlier one", |config| config.key.as_str());
                bridge.subnets.iter().map(move |subnet| (subnet.gateway, owner))
            })
            .collect();
        for is_ipv4 in [true, false] {
            if !(if is_ipv4 { config.ipv4 } else { config.ipv6 }) {
                continue;
            }
            if let Some(pool) = config.pools.iter().find(|pool| pool.subnet.addr().is_ipv4() == is_ipv4) {
                let subnet = Subnet::of(pool);
                if let Some((other, owner)) =
                    taken.iter().find(|(other, _)| subnet::overlap(*other, pool.subnet))
                {
                    return Err(Failure::SubnetTaken {
                        network: config.key.clone(),
                        subnet: pool.subnet,
                        other: other.trunc(),
                        owner: (*owner).to_owned(),
                    });
                }
                subnets.push(subnet);
                continue;
            }
            let mut blocked = device::routes();
            blocked.extend(taken.iter().map(|(other, _)| *other));
            let others = self.neighbours.as_ref().map(Neighbours::subnets).unwrap_or_default();
            let candidates: Vec<IpNet> = match is_ipv4 {
                true => (0..).map_while(subnet::nth).collect(),
                false => ["", "2", "3"]
                    .iter()
                    .map(|attempt| subnet::unique_local(&[&self.seed, &config.key, attempt]))
                    .collect(),
            };
            let is_apart = |candidate: &IpNet, from: &[IpNet]| {
                from.iter().all(|other| !subnet::overlap(*other, *candidate))
            };
            let free = || candidates.iter().filter(|candidate| is_apart(candidate, &blocked));
            let found =
                free().find(|candidate| is_apart(candidate, &others)).or_else(|| free().next()).copied();
            let none = || Failure::NoSubnet { network: config.key.clone(), limit: NETWORKS };
            subnets.push(Subnet::new(found.ok_or_else(none)?));
        }
        Ok(subnets)
    }

    /// Gives a bridge its way out, or takes it away.
    fn confine(&mut self, name: &str, is_internal: bool) -> io::Result<()> {
        let Some(bridge) = self.bridges.get(name) else { return Ok(()) };
        let confined = Confined { name, index: bridge.index, subnets: &bridge.gateways() };
        if is_internal {
            self.answers.forget_bridge(&mut self.netlink, name);
        }
        tolerate(links::confine_bridge(&mut self.netlink, confined, is_internal), Errno::OPNOTSUPP)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if let Some(bridge) = self.bridges.remove(name) {
            self.answers.forget_bridge(&mut self.netlink, name);
            let confined = Confined { name, index: bridge.index, subnets: &bridge.gateways() };
            // Rules without a link match nothing; a kernel without policy routing has none.
            let _ = links::release_bridge(&mut self.netlink, confined);
            tolerate(links::delete(&mut self.netlink, bridge.index), Errno::NODEV)?;
        }
        Ok(())
    }

    /// One container on one network: keeps the veth that leads into `namespace`, makes it anew otherwise.
    fn connect(
        &mut self,
        container: &str,
        place: &Membership,
        inside: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<(Interface, bool), Failure> {
        let network = &place.network;
        let unknown =
            || Failure::UnknownNetwork { container: container.to_owned(), network: network.clone() };
        let bridge_name = link_name("br-", &[network]);
        let name = link_name("v", &[container, network]);
        self.replace_outdated(&bridge_name, &name, namespace)?;
        let bridge = self.bridges.get_mut(&bridge_name).ok_or_else(unknown)?;
        let config = bridge.config.clone().ok_or_else(unknown)?;

        let addresses = lease(bridge, &name, container, place)?;
        let first = addresses.first().copied().ok_or_else(unknown)?;
        let mac = match &place.mac {
            Some(mac) => parse_mac(mac).ok_or_else(|| Failure::Invalid {
                reason: format!("container `{container}` cannot have the hardware address `{mac}`"),
            })?,
            None => links::hardware_address(first),
        };
        let alias = joined(&addresses);
        let wanted = Veth {
            name: &name,
            bridge: bridge.index,
            addresses: &addresses,
            alias: &alias,
            isolated: config.isolated,
            end: links::End { namespace, name: inside, mac, mtu: config.mtu },
        };
        let (inside, is_made) = veth::ensure(&mut self.netlink, &wanted)
            .map_err(|error| unsupported(error, "veth"))
            .map_err(Failure::system(format!("connect container `{container}` to network `{network}`")))?;
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let own =
            |(address, subnet): (&IpAddr, &Subnet)| IpNet::new(*address, subnet.gateway.prefix_len()).ok();
        let interface = Interface {
            network: network.clone(),
            name: inside,
            addresses: addresses.iter().zip(&bridge.subnets).filter_map(own).collect(),
            gateways: bridge.gateways().iter().map(IpNet::addr).collect(),
            mac,
        };
        Ok((interface, is_made))
    }

    /// Makes bridges anew whose networks were configured otherwise, when containers have gone. A container that is connected
    /// already stays so by its veth, called `own`; that of an earlier container with its name goes.
    fn replace_outdated(&mut self, name: &str, own: &str, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
        let outdated = |bridge: &Bridge| bridge.config.clone().filter(|config| !bridge.fits(config));
        let is_free = |bridge: &Bridge| bridge.leases.keys().all(|lease| lease == own);
        let Some(bridge) = self.bridges.get(name) else { return Ok(()) };
        let Some(config) = outdated(bridge) else { return Ok(()) };
        let (index, is_own) = (bridge.index, is_free(bridge));
        let failed =
            |error| Failure::system(format!("replace the bridge of network `{}`", config.key))(error);
        if veth::find(&mut self.netlink, own, index, namespace).map_err(failed)?.is_some() {
            return Ok(());
        }
        if !is_own {
            return Err(Failure::NetworkInUse { network: config.key });
        }
        veth::remove(&mut self.netlink, own).map_err(failed)?;
        // They may want each other's subnets: all go before the first is made.
        let (names, configs): (Vec<String>, Vec<NetworkConfig>) = self
            .bridges
            .iter()
            .filter(|(_, bridge)| is_free(bridge))
            .filter_map(|(name, bridge)| Some((name.clone(), outdated(bridge)?)))
            .unzip();
        names.iter().try_for_each(|name| self.remove(name)).map_err(failed)?;
        configs.iter().try_for_each(|config| self.configure_one(config))
    }

    /// Names that were asked for; the others are numbered.
    fn interface_names(&self, networks: &[&Membership]) -> Vec<String> {
        let mut names: Vec<Option<String>> = networks.iter().map(|place| place.interface.clone()).collect();
        for at in 0..networks.len() {
            if names[at].is_none() {
                let bridge = self.bridges.get(&link_name("br-", &[&networks[at].network]));
                let config = bridge.and_then(|bridge| bridge.config.as_ref());
                let prefix = config.map_or("eth", |config| config.interface_prefix.as_str());
                let free = (0..).map(|number: usize| format!("{prefix}{number}"));
                let free = free.into_iter().find(|name| !names.contains(&Some(name.clone())));
                names[at] = free;
            }
        }
        names.into_iter().flatten().collect()
    }

    /// Networks that have the default route, each with its gateway: one of each family, among those with a way out. As
    /// with Docker, the highest priority wins, then two families over one, then the key.
    fn default_gateways<'a>(&self, networks: &[&'a Membership]) -> Vec<(&'a str, IpAddr)> {
        let mut open: Vec<(&Membership, Vec<IpNet>)> = networks
            .iter()
            .filter_map(|place| {
                let bridge = self.bridges.get(&link_name("br-", &[&place.network]))?;
                let is_open = bridge.config.as_ref().is_some_and(|config| !config.internal);
                is_open.then(|| (*place, bridge.gateways()))
            })
            .collect();
        open.sort_by_key(|(place, gateways)| {
            (-i128::from(place.gateway_priority), usize::MAX - gateways.len(), &place.network)
        });
        let first = |is_ipv4: bool| {
            open.iter().find_map(|(place, gateways)| {
                let gateway =
                    gateways.iter().map(IpNet::addr).find(|gateway| gateway.is_ipv4() == is_ipv4)?;
                Some((place.network.as_str(), gateway))
            })
        };
        [first(true), first(false)].into_iter().flatten().collect()
    }
}

/// A container's addresses on a network: those it asks for, those it has, those it had, or the next ones.
fn lease(
    bridge: &mut Bridge,
    name: &str,
    container: &str,
    place: &Membership,
) -> Result<Vec<IpAddr>, Failure> {
    let network = &place.network;
    let refuse = |address: IpAddr, reason: &str| Failure::Address {
        network: network.clone(),
        container: container.to_owned(),
        address,
        reason: reason.to_owned(),
    };
    if let Some(stray) =
        place.addresses.iter().find(|wanted| !bridge.subnets.iter().any(|s| s.contains(**wanted)))
    {
        return Err(refuse(*stray, "it is outside of the network's subnets"));
    }
    let mut addresses = Vec::new();
    for (number, subnet) in bridge.subnets.iter_mut().enumerate() {
        let is_used = |candidate: IpAddr| {
            bridge.leases.iter().any(|(other, used)| other != name && used.get(number) == Some(&candidate))
        };
        let had = bridge.leases.get(name).and_then(|had| had.get(number)).copied();
        let wanted = place.addresses.iter().copied().find(|address| subnet.contains(*address));
        let address = match wanted.or(had) {
            Some(address) if address == subnet.gateway.addr() => {
                return Err(refuse(address, "it is the gateway's"));
            }
            Some(address) if is_used(address) => return Err(refuse(address, "another container has it")),
            Some(address) => address,
            None => {
                let earlier = bridge.earlier.iter().find(|(other, _)| other == name);
                let earlier = earlier.and_then(|(_, had)| had.get(number)).copied();
                match earlier.filter(|address| subnet.may_give(*address) && !is_used(*address)) {
                    Some(address) => address,
                    None => {
                        let next = subnet.next_free(is_used).ok_or_else(|| Failure::NoAddress {
                            network: network.clone(),
                            container: container.to_owned(),
                        })?;
                        subnet.last = Some(next);
                        next
                    }
                }
            }
        };
        addresses.push(address);
    }
    bridge.leases.insert(name.to_owned(), addresses.clone());
    Ok(addresses)
}

/// IPv6 on a bridge: its own addresses and no others, whatever containers advertise.
fn prepare_ipv6(bridge: &str, gateways: &[IpNet]) -> io::Result<()> {
    if gateways.iter().all(|gateway| gateway.addr().is_ipv4()) {
        return Ok(());
    }
    if !namespace::has_ipv6() {
        return Err(io::Error::other(
            "the kernel has no IPv6\nhint: boot without `ipv6.disable=1`, or set `enable_ipv6: false`",
        ));
    }
    let set = |name: &str, value: &str| namespace::set(&format!("ipv6/conf/{bridge}/{name}"), value);
    // `none`: no link-local address is made up.
    set("addr_gen_mode", "1")?;
    set("accept_ra", "0")?;
    set("accept_dad", "0")?;
    set("disable_ipv6", "0")
}

fn addresses_of<T: std::str::FromStr>(link: &Link) -> Option<Vec<T>> {
    let addresses: Option<Vec<T>> =
        link.alias.as_deref()?.split(' ').map(|address| address.parse().ok()).collect();
    addresses.filter(|addresses| !addresses.is_empty())
}

fn joined<T: ToString>(addresses: &[T]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn are_of(addresses: &[IpAddr], subnets: &[Subnet]) -> bool {
    addresses.len() == subnets.len()
        && addresses.iter().zip(subnets).all(|(address, subnet)| subnet.contains(*address))
}

/// Six bytes in hexadecimal, of one station and not of a group.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> =
        text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let bytes: [u8; 6] = bytes?.try_into().ok()?;
    (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(bytes)
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

/// A name of at most 15 bytes that two processes, one after the other, find for the same thing.
fn link_name(prefix: &str, parts: &[&str]) -> String {
    let hash = fnv(parts);
    format!("{prefix}{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
}

/// FNV-1a.
fn fnv(parts: &[&str]) -> u64 {
    parts
        .join("\0")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
