//! What may be dialled on behalf of a container: everything outside, nothing of the device's loopback.
//!
//! Other networks of the project never get this far: N has no route to them for what comes by a bridge.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::io::Errno;

use super::Shared;

/// Stands for the device itself: what `host-gateway` and `host.docker.internal` resolve to. The device's services are
/// reached as from its own network: those that listen on all addresses are, those on 127.0.0.1 alone are not.
pub const HOST_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// What is dialled for `destination`.
///
/// # Errors
/// `EACCES` for what is not allowed.
pub(super) async fn route(destination: SocketAddr, shared: &Shared) -> io::Result<SocketAddr> {
    if destination.ip() == IpAddr::V4(HOST_GATEWAY) {
        return Ok(SocketAddr::from((shared.host.own_address().await, destination.port())));
    }
    if !is_allowed(destination.ip()) {
        return Err(Errno::ACCESS.into());
    }
    Ok(destination)
}

/// Whether `address` may be dialled from the device's namespace.
pub(crate) fn is_allowed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            // "This network" (0.0.0.0/8, which Linux takes for loopback), loopback, multicast and everything above it.
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(_) => false,
            None => {
                let first = address.segments()[0];
                // ::/8 holds loopback, unspecified, and IPv4 in disguise; fe80::/10 means nothing without a link.
                first >= 0x0100 && (first & 0xffc0) != 0xfe80 && first < 0xff00
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_the_device_is_out_of_reach_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_allowed(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn everything_outside_is_within_reach() {
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "192.168.1.7",
            "169.254.169.254",
            "223.255.255.255",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(is_allowed(address.parse().unwrap()), "{address}");
        }
    }
}
