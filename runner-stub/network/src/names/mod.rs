//! Names of containers: who is called what ([`Names`]), and the DNS server that tells it.
//!
//! Public so that it can be fuzzed and measured: [`answer()`] is a function of one packet and the table.

mod answer;
mod server;
mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use answer::{Reply, Transport, answer};
pub(crate) use server::{NameServer, Resolver, start};
pub(crate) use upstream::Forwarder;
pub use upstream::{Upstream, servers_of};

use crate::egress::HOST_GATEWAY;

/// Names of the device, known to containers with a way out, as with Docker Desktop.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// Who is called what on which network. Shared between the control thread and the DNS server.
#[derive(Debug, Default)]
pub struct Names {
    tables: RwLock<Tables>,
    /// For IPv4 and IPv6: programs ask for both at once.
    turns: [AtomicUsize; 2],
    queries: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    containers: BTreeMap<String, Vec<Place>>,
    /// Containers and the keys of their networks, sorted, by address.
    askers: HashMap<IpAddr, Asker>,
    /// By network, then by name in lower case.
    addresses: HashMap<String, HashMap<String, Vec<IpAddr>>>,
}

#[derive(Debug)]
struct Asker {
    container: String,
    /// The network that this address is on.
    network: String,
    networks: Vec<String>,
    knows: Knows,
}

/// What a container knows besides the names on its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knows {
    /// Whom its questions about foreign names go to.
    pub upstream: Upstream,
    /// Names that it alone knows, in lower case, each for a name on its networks.
    pub links: BTreeMap<String, String>,
}

/// A container's addresses on one network and all its names there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Key of the network.
    pub network: String,
    /// The container's addresses on it.
    pub addresses: Vec<IpAddr>,
    /// What it is called there; case does not matter.
    pub names: Vec<String>,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses as far as they are wanted, the first one another each time.
    Found(Vec<IpAddr>),
    /// Nobody is called so whom the asker may know.
    Unknown,
    /// It is no name of the project, and the asker has a way out.
    Elsewhere,
    /// The asker is no container.
    Stranger,
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reverse {
    /// The container that has it.
    Found(String),
    /// Nobody has it whom the asker may know.
    Unknown,
    /// It is no address of the project, and the asker has a way out.
    Elsewhere,
}

impl Names {
    /// Enters a container, instead of what was known of it.
    pub fn insert(&self, container: &str, places: Vec<Place>, knows: &Knows) {
        let mut tables = self.write();
        tables.remove(container);
        let mut networks: Vec<String> = places.iter().map(|place| place.network.clone()).collect();
        networks.sort();
        for place in &places {
            for &address in &place.addresses {
                let asker = Asker {
                    container: container.to_owned(),
                    network: place.network.clone(),
                    networks: networks.clone(),
                    knows: knows.clone(),
                };
                tables.askers.insert(address, asker);
                let known = tables.addresses.entry(place.network.clone()).or_default();
                for name in &place.names {
                    let addresses = known.entry(name.to_ascii_lowercase()).or_default();
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
            }
        }
        tables.containers.insert(container.to_owned(), places);
    }

    /// Forgets a container.
    pub fn remove(&self, container: &str) {
        self.write().remove(container);
    }

    /// Looks a name up for the container with address `asker`, on its networks in sorted order; the first that knows
    /// the name answers with those addresses that are wanted. The asker's own links come first.
    pub fn lookup(&self, asker: IpAddr, name: &str, is_wanted: impl Fn(&IpAddr) -> bool) -> Lookup {
        let tables = self.read();
        let Some(asker) = tables.askers.get(&asker) else { return Lookup::Stranger };
        let asked = name.to_ascii_lowercase();
        let on_networks =
            |name: &str| asker.networks.iter().find_map(|network| tables.addresses.get(network)?.get(name));
        let linked = asker.knows.links.get(&asked).and_then(|target| on_networks(target));
        let Some(addresses) = linked.or_else(|| on_networks(&asked)) else {
            let has_way_out = asker.knows.upstream != Upstream::None;
            return match has_way_out && !tables.addresses.values().any(|known| known.contains_key(&asked)) {
                true if HOST_NAMES.contains(&asked.as_str()) => {
                    Lookup::Found([IpAddr::V4(HOST_GATEWAY)].into_iter().filter(is_wanted).collect())
                }
                true => Lookup::Elsewhere,
                false => Lookup::Unknown,
            };
        };
        let mut addresses: Vec<IpAddr> = addresses.iter().copied().filter(is_wanted).collect();
        if let Some(first) = addresses.first() {
            let [ipv4, ipv6] = &self.turns;
            let turn = if first.is_ipv4() { ipv4 } else { ipv6 }.fetch_add(1, Ordering::Relaxed);
            let turn = turn % addresses.len();
            addresses.rotate_left(turn);
        }
        Lookup::Found(addresses)
    }

    /// The name of the container with `address`, if the asker shares a network with it.
    pub fn reverse(&self, asker: IpAddr, address: IpAddr) -> Reverse {
        let tables = self.read();
        let Some(asker) = tables.askers.get(&asker) else { return Reverse::Unknown };
        match tables.askers.get(&address) {
            Some(found) if asker.networks.contains(&found.network) => Reverse::Found(found.container.clone()),
            Some(_) => Reverse::Unknown,
            None if asker.knows.upstream == Upstream::None => Reverse::Unknown,
            None => Reverse::Elsewhere,
        }
    }

    /// Whom a container's questions about foreign names go to.
    fn upstream(&self, asker: IpAddr) -> Upstream {
        self.read().askers.get(&asker).map(|asker| asker.knows.upstream.clone()).unwrap_or_default()
    }

    /// Whether `address` is that of a container on `network`.
    fn is_on(&self, address: IpAddr, network: &str) -> bool {
        self.read().askers.get(&address).is_some_and(|asker| asker.network == network)
    }

    /// Whether `address` is that of a container that shares a network with the asker.
    fn are_near(&self, asker: IpAddr, address: IpAddr) -> bool {
        matches!(self.reverse(asker, address), Reverse::Found(_))
    }

    /// How many questions were answered.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    fn count_query(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn remove(&mut self, container: &str) {
        for place in self.containers.remove(container).unwrap_or_default() {
            for address in &place.addresses {
                self.askers.remove(address);
            }
            let Some(known) = self.addresses.get_mut(&place.network) else { continue };
            for name in place.names {
                let name = name.to_ascii_lowercase();
                if let Some(addresses) = known.get_mut(&name) {
                    addresses.retain(|address| !place.addresses.contains(address));
                    if addresses.is_empty() {
                        known.remove(&name);
                    }
                }
            }
            if known.is_empty() {
                self.addresses.remove(&place.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const WEB: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 2));
    const APP_FRONT: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 18, 0, 3));
    const APP_BACK: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 19, 0, 2));
    const REDIS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 19, 0, 3));
    const REDIS_2: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 19, 0, 4));

    fn place(network: &str, address: IpAddr, names: &[&str]) -> Place {
        Place {
            network: network.into(),
            addresses: vec![address],
            names: names.iter().map(|name| (*name).into()).collect(),
        }
    }

    fn every(_: &IpAddr) -> bool {
        true
    }

    fn shop() -> Names {
        let names = Names::default();
        names.insert("shop-web-1", vec![place("front", WEB, &["shop-web-1", "web"])], &Knows::default());
        let app = [place("front", APP_FRONT, &["app", "API"]), place("back", APP_BACK, &["app"])];
        names.insert("shop-app-1", app.to_vec(), &Knows::default());
        names.insert("shop-redis-1", vec![place("back", REDIS, &["redis"])], &Knows::default());
        names.insert("shop-redis-2", vec![place("back", REDIS_2, &["redis"])], &Knows::default());
        names
    }

    #[test]
    fn names_are_known_on_shared_networks_only() {
        let names = shop();
        assert_eq!(names.lookup(APP_FRONT, "web", every), Lookup::Found(vec![WEB]));
        assert_eq!(names.lookup(WEB, "redis", every), Lookup::Unknown);
        assert_eq!(names.lookup(WEB, "api", every), Lookup::Found(vec![APP_FRONT]));
        assert_eq!(names.lookup(REDIS, "api", every), Lookup::Unknown);
        assert_eq!(names.lookup(REDIS, "APP", every), Lookup::Found(vec![APP_BACK]));
        assert_eq!(names.lookup(Ipv4Addr::LOCALHOST.into(), "web", every), Lookup::Stranger);
        assert_eq!(names.reverse(WEB, APP_FRONT), Reverse::Found("shop-app-1".into()));
        assert_eq!(names.reverse(WEB, APP_BACK), Reverse::Unknown);
    }

    #[test]
    fn replicas_take_turns() {
        let names = shop();
        let first = names.lookup(APP_BACK, "redis", every);
        let second = names.lookup(APP_BACK, "redis", every);
        assert_ne!(first, second);
        for lookup in [first, second] {
            let Lookup::Found(mut addresses) = lookup else { panic!("{lookup:?}") };
            addresses.sort();
            assert_eq!(addresses, [REDIS, REDIS_2]);
        }
    }

    #[test]
    fn a_removed_container_leaves_nothing() {
        let names = shop();
        for container in ["shop-web-1", "shop-app-1", "shop-redis-1", "shop-redis-2"] {
            names.remove(container);
        }
        let tables = names.read();
        assert!(tables.containers.is_empty() && tables.askers.is_empty() && tables.addresses.is_empty());
    }

    /// Both are asked for by every program that knows IPv6.
    #[test]
    fn replicas_take_turns_in_each_family() {
        let names = Names::default();
        names.insert("asker", vec![place("n", WEB, &[])], &Knows::default());
        for (number, address) in [(1, REDIS), (2, REDIS_2)] {
            names.insert(
                &format!("redis-{number}"),
                vec![place("n", address, &["redis"])],
                &Knows::default(),
            );
        }
        let first = || {
            assert_eq!(names.lookup(WEB, "redis", IpAddr::is_ipv6), Lookup::Found(Vec::new()));
            names.lookup(WEB, "redis", IpAddr::is_ipv4)
        };
        assert_ne!(first(), first());
    }

    #[test]
    fn links_are_known_to_who_has_them() {
        let names = shop();
        let links = [("db", "redis"), ("web", "app"), ("lost", "redis2")];
        let knows = Knows {
            links: links.map(|(name, target)| (name.to_owned(), target.to_owned())).into(),
            ..Knows::default()
        };
        let app = [place("front", APP_FRONT, &["app"]), place("back", APP_BACK, &["app"])];
        names.insert("shop-app-1", app.to_vec(), &knows);
        let Lookup::Found(mut addresses) = names.lookup(APP_FRONT, "DB", every) else { panic!("not found") };
        addresses.sort();
        assert_eq!(addresses, [REDIS, REDIS_2]);
        assert_ne!(names.lookup(APP_FRONT, "web", every), Lookup::Found(vec![WEB]));
        assert_eq!(names.lookup(APP_FRONT, "lost", every), Lookup::Unknown);
        assert_eq!(names.lookup(REDIS, "db", every), Lookup::Unknown);
        assert_eq!(names.lookup(WEB, "db", every), Lookup::Unknown);
    }
}
