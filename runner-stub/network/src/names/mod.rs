//! Names of containers: who is called what ([`Names`]), and the DNS server that tells it.
//!
//! Public so that it can be fuzzed and measured: [`answer()`] is a function of one packet and the table.

mod answer;
mod server;
mod upstream;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use answer::{Reply, Transport, answer};
pub(crate) use server::{NameServer, Resolver, start};
pub(crate) use upstream::Forwarder;
pub use upstream::Upstream;

use crate::egress::HOST_GATEWAY;

/// Names of the device, known to containers with a way out, as with Docker Desktop.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// Who is called what on which network. Shared between the control thread and the DNS server.
#[derive(Debug, Default)]
pub struct Names {
    tables: RwLock<Tables>,
    turn: AtomicUsize,
    queries: AtomicU64,
}

#[derive(Debug, Default)]
struct Tables {
    containers: BTreeMap<String, Vec<Place>>,
    /// Containers and the keys of their networks, sorted, by address.
    askers: HashMap<Ipv4Addr, Asker>,
    /// By network, then by name in lower case.
    addresses: HashMap<String, HashMap<String, Vec<Ipv4Addr>>>,
}

#[derive(Debug)]
struct Asker {
    container: String,
    /// The network that this address is on.
    network: String,
    networks: Vec<String>,
    upstream: Upstream,
}

/// A container's address on one network and all its names there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Key of the network.
    pub network: String,
    /// The container's address on it.
    pub address: Ipv4Addr,
    /// What it is called there; case does not matter.
    pub names: Vec<String>,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses, the first one another each time.
    Found(Vec<Ipv4Addr>),
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
    pub fn insert(&self, container: &str, places: Vec<Place>, upstream: Upstream) {
        let mut tables = self.write();
        tables.remove(container);
        let mut networks: Vec<String> = places.iter().map(|place| place.network.clone()).collect();
        networks.sort();
        for place in &places {
            let asker = Asker {
                container: container.to_owned(),
                network: place.network.clone(),
                networks: networks.clone(),
                upstream: upstream.clone(),
            };
            tables.askers.insert(place.address, asker);
            let known = tables.addresses.entry(place.network.clone()).or_default();
            for name in &place.names {
                let addresses = known.entry(name.to_ascii_lowercase()).or_default();
                if !addresses.contains(&place.address) {
                    addresses.push(place.address);
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
    /// the name answers.
    pub fn lookup(&self, asker: Ipv4Addr, name: &str) -> Lookup {
        let tables = self.read();
        let Some(asker) = tables.askers.get(&asker) else { return Lookup::Stranger };
        let name = name.to_ascii_lowercase();
        let found = asker.networks.iter().find_map(|network| tables.addresses.get(network)?.get(&name));
        let Some(addresses) = found else {
            let has_way_out = asker.upstream != Upstream::None;
            return match has_way_out && !tables.addresses.values().any(|known| known.contains_key(&name)) {
                true if HOST_NAMES.contains(&name.as_str()) => Lookup::Found(vec![HOST_GATEWAY]),
                true => Lookup::Elsewhere,
                false => Lookup::Unknown,
            };
        };
        let mut addresses = addresses.clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        addresses.rotate_left(turn);
        Lookup::Found(addresses)
    }

    /// The name of the container with `address`, if the asker shares a network with it.
    pub fn reverse(&self, asker: Ipv4Addr, address: Ipv4Addr) -> Reverse {
        let tables = self.read();
        let Some(asker) = tables.askers.get(&asker) else { return Reverse::Unknown };
        match tables.askers.get(&address) {
            Some(found) if asker.networks.contains(&found.network) => Reverse::Found(found.container.clone()),
            Some(_) => Reverse::Unknown,
            None if asker.upstream == Upstream::None => Reverse::Unknown,
            None => Reverse::Elsewhere,
        }
    }

    /// Whom a container's questions about foreign names go to.
    fn upstream(&self, asker: Ipv4Addr) -> Upstream {
        self.read().askers.get(&asker).map(|asker| asker.upstream.clone()).unwrap_or_default()
    }

    /// Whether `address` is that of a container on `network`.
    fn is_on(&self, address: Ipv4Addr, network: &str) -> bool {
        self.read().askers.get(&address).is_some_and(|asker| asker.network == network)
    }

    /// Whether `address` is that of a container that shares a network with the asker.
    fn are_near(&self, asker: Ipv4Addr, address: Ipv4Addr) -> bool {
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
            self.askers.remove(&place.address);
            let Some(known) = self.addresses.get_mut(&place.network) else { continue };
            for name in place.names {
                let name = name.to_ascii_lowercase();
                if let Some(addresses) = known.get_mut(&name) {
                    addresses.retain(|address| *address != place.address);
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

    const WEB: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 2);
    const APP_FRONT: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 3);
    const APP_BACK: Ipv4Addr = Ipv4Addr::new(172, 19, 0, 2);
    const REDIS: Ipv4Addr = Ipv4Addr::new(172, 19, 0, 3);
    const REDIS_2: Ipv4Addr = Ipv4Addr::new(172, 19, 0, 4);

    fn place(network: &str, address: Ipv4Addr, names: &[&str]) -> Place {
        Place { network: network.into(), address, names: names.iter().map(|name| (*name).into()).collect() }
    }

    fn shop() -> Names {
        let names = Names::default();
        names.insert("shop-web-1", vec![place("front", WEB, &["shop-web-1", "web"])], Upstream::None);
        let app = [place("front", APP_FRONT, &["app", "API"]), place("back", APP_BACK, &["app"])];
        names.insert("shop-app-1", app.to_vec(), Upstream::None);
        names.insert("shop-redis-1", vec![place("back", REDIS, &["redis"])], Upstream::None);
        names.insert("shop-redis-2", vec![place("back", REDIS_2, &["redis"])], Upstream::None);
        names
    }

    #[test]
    fn names_are_known_on_shared_networks_only() {
        let names = shop();
        assert_eq!(names.lookup(APP_FRONT, "web"), Lookup::Found(vec![WEB]));
        assert_eq!(names.lookup(WEB, "redis"), Lookup::Unknown);
        assert_eq!(names.lookup(WEB, "api"), Lookup::Found(vec![APP_FRONT]));
        assert_eq!(names.lookup(REDIS, "api"), Lookup::Unknown);
        assert_eq!(names.lookup(REDIS, "APP"), Lookup::Found(vec![APP_BACK]));
        assert_eq!(names.lookup(Ipv4Addr::LOCALHOST, "web"), Lookup::Stranger);
        assert_eq!(names.reverse(WEB, APP_FRONT), Reverse::Found("shop-app-1".into()));
        assert_eq!(names.reverse(WEB, APP_BACK), Reverse::Unknown);
    }

    #[test]
    fn replicas_take_turns() {
        let names = shop();
        let first = names.lookup(APP_BACK, "redis");
        let second = names.lookup(APP_BACK, "redis");
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
}
