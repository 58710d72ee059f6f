//! Subnets for networks and addresses for containers: pure arithmetic.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::fnv;
use crate::protocol::Pool;

/// How many networks a project can have whose subnets nobody chose.
pub const NETWORKS: usize = 30;

/// A network's addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    /// The bridge's address, with the length of the prefix.
    pub(super) gateway: IpNet,
    /// What containers get addresses from.
    range: IpNet,
    /// Addresses that no container gets without asking.
    reserved: BTreeSet<IpAddr>,
    /// The address that was given last.
    pub(super) last: Option<IpAddr>,
}

impl Subnet {
    /// Where nothing is said about who gets which address.
    pub(super) fn new(gateway: IpNet) -> Subnet {
        Subnet { gateway, range: gateway.trunc(), reserved: BTreeSet::new(), last: None }
    }

    /// The subnet that `pool` describes.
    pub(super) fn of(pool: &Pool) -> Subnet {
        Subnet::new(gateway_of(pool))
    }

    /// Whether it is the subnet that `pool` describes.
    pub(super) fn is(&self, pool: &Pool) -> bool {
        gateway_of(pool) == self.gateway
    }

    /// Says who gets which address from now on. A range outside of the subnet is none.
    pub(super) fn set_rules(&mut self, range: Option<IpNet>, reserved: impl Iterator<Item = IpAddr>) {
        self.range =
            range.filter(|range| self.gateway.contains(range)).unwrap_or_else(|| self.gateway.trunc());
        self.reserved = reserved.filter(|address| self.gateway.contains(address)).collect();
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.gateway.contains(&address)
    }

    /// The next address for a container, going round, that `is_used` does not know.
    pub(super) fn next_free(&self, is_used: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let (first, end) = (number(self.range.network()), number(self.range.broadcast()));
        let last = self.last.map(number).filter(|last| (first..end).contains(last));
        let next = last.map_or(first, |last| last + 1);
        (next..=end)
            .chain(first..next)
            .map(|number| address(number, self.range.addr()))
            .find(|address| self.may_give(*address) && !is_used(*address))
    }

    /// Whether a container that asks for no address can get this one.
    pub(super) fn may_give(&self, address: IpAddr) -> bool {
        self.range.contains(&address) && self.is_host(address) && !self.reserved.contains(&address)
    }

    /// Neither the network's own number, nor the gateway, nor what means "all".
    fn is_host(&self, address: IpAddr) -> bool {
        address != self.gateway.addr()
            && address != self.gateway.network()
            && (address.is_ipv6() || address != self.gateway.broadcast())
    }
}

/// For `fuzz`: no container gets an address that is the network's, the gateway's or reserved.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn hold_to_rules(config: &crate::NetworkConfig) {
    for pool in &config.pools {
        let mut subnet = Subnet::of(pool);
        subnet.set_rules(pool.range, config.reserved.iter().copied());
        for _ in 0..4 {
            let Some(next) = subnet.next_free(|_| false) else { break };
            assert!(
                subnet.contains(next) && next != subnet.gateway.addr() && next != subnet.gateway.network()
            );
            assert!(!config.reserved.contains(&next));
            subnet.last = Some(next);
        }
    }
}

/// The pool, in the order of use: 172.18.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20, which is what
/// people who know Docker expect. With the gateway's address.
pub(super) fn nth(number: u8) -> Option<IpNet> {
    let subnet = match number {
        0..14 => Ipv4Net::new_assert(Ipv4Addr::new(172, 18 + number, 0, 1), 16),
        14..30 => Ipv4Net::new_assert(Ipv4Addr::new(192, 168, (number - 14) << 4, 1), 20),
        _ => return None,
    };
    Some(subnet.into())
}

/// An IPv6 subnet of our own (RFC 4193) with the gateway's address; the same for the same `seed`.
pub(super) fn unique_local(seed: &[&str]) -> IpNet {
    // 40 bits that others hardly have, and 16 for the network.
    let [_, hash @ ..] = fnv(seed).to_be_bytes();
    let [a, b, c, d, e, f, g] = hash;
    let octets = [0xfd, a, b, c, d, e, f, g, 0, 0, 0, 0, 0, 0, 0, 1];
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64).into()
}

/// Whether two subnets have an address in common.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// A gateway outside of the subnet makes no subnet: what follows finds no address in it.
fn gateway_of(pool: &Pool) -> IpNet {
    let prefix = pool.subnet.prefix_len().min(if pool.gateway.is_ipv4() { 32 } else { 128 });
    IpNet::new(pool.gateway, prefix).unwrap_or(pool.subnet)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address with a number, of the family that `like` has.
fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        // A number within an IPv4 subnet has 32 bits.
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_of_the_pool_do_not_overlap() {
        let pool: Vec<IpNet> = (0..).map_while(nth).collect();
        assert_eq!(pool.len(), NETWORKS);
        for (place, subnet) in pool.iter().enumerate() {
            assert!(pool.iter().skip(place + 1).all(|other| !overlap(*subnet, *other)));
            assert_eq!(number(subnet.addr()), number(subnet.network()) + 1);
        }
        assert_eq!(pool.first().unwrap().to_string(), "172.18.0.1/16");
        assert_eq!(pool.last().unwrap().broadcast(), ip("192.168.255.255"));
    }

    #[test]
    fn subnets_of_our_own_are_unique_local_and_lasting() {
        let subnet = unique_local(&["/run/user/1000/dpack/shop", "default"]);
        assert!(subnet.to_string().starts_with("fd") && subnet.to_string().ends_with("::1/64"), "{subnet}");
        assert_eq!(subnet, unique_local(&["/run/user/1000/dpack/shop", "default"]));
        assert!(!overlap(subnet, unique_local(&["/run/user/1000/dpack/shop", "other"])));
    }

    #[test]
    fn addresses_go_round_and_are_never_given_twice() {
        for (gateway, hosts) in [("10.0.0.1/29", 2..=6), ("10.0.0.6/29", 1..=5), ("fd00::1/125", 2..=7)] {
            let mut subnet = Subnet::new(gateway.parse().unwrap());
            let base = number(subnet.gateway.network());
            let mut used = BTreeSet::new();
            while let Some(address) = subnet.next_free(|address| used.contains(&address)) {
                assert!(used.insert(address));
                subnet.last = Some(address);
            }
            let expected: BTreeSet<IpAddr> =
                hosts.map(|host| address(base + host, subnet.gateway.addr())).collect();
            assert_eq!(used, expected);
            let freed = *used.iter().nth(2).unwrap();
            assert_eq!(subnet.next_free(|address| address != freed), Some(freed));
        }
    }

    #[test]
    fn an_address_is_not_given_again_at_once() {
        let mut subnet = Subnet::new("10.0.0.1/29".parse().unwrap());
        subnet.last = Some(ip("10.0.0.4"));
        assert_eq!(subnet.next_free(|_| false), Some(ip("10.0.0.5")));
        subnet.last = Some(ip("10.0.0.6"));
        assert_eq!(subnet.next_free(|_| false), Some(ip("10.0.0.2")));
    }

    #[test]
    fn addresses_come_from_the_range_and_spare_those_that_are_reserved() {
        let pool = Pool {
            subnet: "10.0.0.0/24".parse().unwrap(),
            range: Some("10.0.0.252/30".parse().unwrap()),
            gateway: ip("10.0.0.253"),
        };
        let mut subnet = Subnet::of(&pool);
        assert!(subnet.is(&pool) && !subnet.is(&Pool { gateway: ip("10.0.0.1"), ..pool.clone() }));
        subnet.set_rules(pool.range, [ip("10.0.0.252"), ip("10.9.0.1")].into_iter());
        assert_eq!(subnet.next_free(|_| false), Some(ip("10.0.0.254")));
        assert_eq!(subnet.next_free(|address| address == ip("10.0.0.254")), None);
    }
}
