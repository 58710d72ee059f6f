//! What the device itself reaches: subnets that nobody chose must not hide it from containers.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Routes to more than this are ways to everything, such as the 0.0.0.0/1 and 128.0.0.0/1 of a VPN.
const LARGEST: u8 = 8;

/// Destinations of the device's routes. `/proc/net` shows those of the process's first thread, which lives in the device's
/// namespace.
pub(super) fn routes() -> Vec<IpNet> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let mut found = routes4(&read("route"));
    found.extend(routes6(&read("ipv6_route")));
    found.retain(|route| route.prefix_len() >= LARGEST);
    found
}

/// After a heading: interface, destination, gateway, flags, reference count, use, metric, mask; addresses as numbers in
/// the machine's byte order.
fn routes4(text: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let address =
            |at: usize| Some(Ipv4Addr::from(u32::from_str_radix(words.get(at)?, 16).ok()?.to_ne_bytes()));
        Ipv4Net::with_netmask(address(1)?, address(7)?).ok().map(IpNet::from)
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// Destination and length of its prefix come first. Multicast and link-local routes are of every link.
fn routes6(text: &str) -> Vec<IpNet> {
    let route = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(words.next()?, 16).ok()?);
        let prefix = u8::from_str_radix(words.next()?, 16).ok()?;
        let is_of_every_link = address.is_multicast() || address.is_unicast_link_local();
        Ipv6Net::new(address, prefix).ok().filter(|_| !is_of_every_link).map(IpNet::from)
    };
    text.lines().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read_as_the_kernel_shows_them() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    broken\t00\n";
        let found: Vec<String> = routes4(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["0.0.0.0/0", "172.17.0.0/16"]);
        let text = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
                    fe800000000000000000000000000000 40 x\nff000000000000000000000000000000 08 x\n";
        let found: Vec<String> = routes6(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["fd00::/64"]);
    }
}
