//! Subnets for networks and addresses for containers: pure arithmetic.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// How many networks a project can have.
pub(super) const POOL: usize = 30;

/// A network's range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    /// First address of the range.
    base: u32,
    /// Length of the prefix.
    pub(super) prefix: u8,
}

impl Subnet {
    /// The pool, in the order of use: 172.18.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 to 192.168.240.0/20, which is
    /// what people who know Docker expect.
    pub(super) fn nth(number: usize) -> Option<Subnet> {
        let number = u32::try_from(number).ok()?;
        match number {
            0..14 => {
                Some(Subnet { base: u32::from(Ipv4Addr::new(172, 18, 0, 0)) + (number << 16), prefix: 16 })
            }
            14..30 => Some(Subnet {
                base: u32::from(Ipv4Addr::new(192, 168, 0, 0)) + ((number - 14) << 12),
                prefix: 20,
            }),
            _ => None,
        }
    }

    /// The network's own number.
    pub(super) fn base(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// The first address: the bridge has it.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The last address.
    pub(super) fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base | self.host_mask())
    }

    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & !self.host_mask() == self.base
    }

    /// The next address for a container after `last`, going round, that `is_used` does not know.
    pub(super) fn next_free(
        self,
        last: Option<Ipv4Addr>,
        is_used: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let hosts = self.host_mask() - 2;
        let last = last.filter(|last| self.contains(*last)).map_or(1, |last| u32::from(last) - self.base);
        // Host numbers 2 to mask - 1: neither the network, the gateway nor the broadcast address.
        (0..hosts)
            .map(|step| Ipv4Addr::from(self.base + 2 + (last.saturating_sub(1) + step) % hosts))
            .find(|address| !is_used(*address))
    }

    fn host_mask(self) -> u32 {
        u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0)
    }
}

/// `172.18.0.1/16`: the gateway, with the length of the prefix.
impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.gateway(), self.prefix)
    }
}

/// Reads what `Display` wrote.
impl FromStr for Subnet {
    type Err = ();

    fn from_str(text: &str) -> Result<Subnet, ()> {
        let (gateway, prefix) = text.split_once('/').ok_or(())?;
        let gateway: Ipv4Addr = gateway.parse().map_err(drop)?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| (8..=30).contains(prefix)).ok_or(())?;
        let subnet = Subnet { base: u32::from(gateway) & !(u32::MAX >> u32::from(prefix)), prefix };
        Some(subnet).filter(|subnet| subnet.gateway() == gateway).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn subnets_of_the_pool_do_not_overlap() {
        let pool: Vec<Subnet> = (0..).map_while(Subnet::nth).collect();
        assert_eq!(pool.len(), POOL);
        for (number, subnet) in pool.iter().enumerate() {
            for other in pool.iter().skip(number + 1) {
                assert!(!subnet.contains(other.gateway()) && !other.contains(subnet.gateway()));
            }
            assert_eq!(subnet.to_string().parse(), Ok(*subnet));
        }
        assert_eq!(pool.first().unwrap().to_string(), "172.18.0.1/16");
        assert_eq!(pool.last().unwrap().broadcast(), Ipv4Addr::new(192, 168, 255, 255));
    }

    #[test]
    fn damaged_subnets_are_refused() {
        for text in ["", "172.18.0.1", "172.18.0.2/16", "172.18.0.1/33", "172.18.0.1/0", "x/16"] {
            assert_eq!(text.parse::<Subnet>(), Err(()), "{text}");
        }
    }

    #[test]
    fn addresses_go_round_and_are_never_given_twice() {
        let subnet: Subnet = "10.0.0.1/29".parse().unwrap();
        let mut used = BTreeSet::new();
        let mut last = None;
        while let Some(address) = subnet.next_free(last, |address| used.contains(&address)) {
            assert!(used.insert(address));
            last = Some(address);
        }
        let expected: BTreeSet<Ipv4Addr> = (2..=6).map(|host| Ipv4Addr::new(10, 0, 0, host)).collect();
        assert_eq!(used, expected);
        used.remove(&Ipv4Addr::new(10, 0, 0, 4));
        let again = subnet.next_free(Some(Ipv4Addr::new(10, 0, 0, 6)), |address| used.contains(&address));
        assert_eq!(again, Some(Ipv4Addr::new(10, 0, 0, 4)));
        let after = subnet.next_free(Some(Ipv4Addr::new(10, 0, 0, 4)), |_| false);
        assert_eq!(after, Some(Ipv4Addr::new(10, 0, 0, 5)));
    }
}
