//! A container's links: the veth that leads into its namespace, and what is set inside.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use rustix::io::Errno;

use super::links::End;
use super::netlink::Netlink;
use super::{links, namespace, tolerate};
use crate::egress::HOST_GATEWAY;
use crate::protocol::Interface;

/// What a veth is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Veth<'a> {
    pub(super) name: &'a str,
    /// Index of the bridge.
    pub(super) bridge: u32,
    /// The addresses it stands for, and the same as text.
    pub(super) addresses: &'a [IpAddr],
    pub(super) alias: &'a str,
    /// Containers on the bridge do not reach each other.
    pub(super) isolated: bool,
    pub(super) end: End<'a>,
}

/// The name of the veth's end inside the container, if it leads into this run of it by this bridge.
pub(super) fn find(
    netlink: &mut Netlink,
    veth: &str,
    bridge: u32,
    namespace: BorrowedFd<'_>,
) -> io::Result<Option<String>> {
    let Some(outer) = not_found_is_none(links::find(netlink, veth))? else { return Ok(None) };
    let inner = namespace::inside(namespace, || links::list(&mut Netlink::open()?))?;
    let other_end = inner.into_iter().find(|link| Some(link.index) == outer.peer);
    let other_end = other_end.filter(|link| link.peer == Some(outer.index) && outer.bridge == Some(bridge));
    Ok(other_end.map(|link| link.name))
}

/// Tells the name of the end inside the container, and whether it was made.
pub(super) fn ensure(netlink: &mut Netlink, veth: &Veth<'_>) -> io::Result<(String, bool)> {
    if let Some(name) = find(netlink, veth.name, veth.bridge, veth.end.namespace)? {
        let outer = links::find(netlink, veth.name)?;
        introduce(netlink, veth, outer.index)?;
        links::set_up(netlink, outer.index, Some(veth.alias))?;
        return Ok((name, false));
    }
    // It leads into the namespace of the container's last run, which the kernel takes apart in its own time.
    remove(netlink, veth.name)?;
    namespace::inside(veth.end.namespace, prepare_namespace)?;
    let index = links::create_veth(netlink, veth.name, veth.bridge, veth.end)?;
    if veth.isolated {
        isolate(netlink, index)?;
    }
    introduce(netlink, veth, index)?;
    links::set_up(netlink, index, Some(veth.alias))?;
    Ok((veth.end.name.to_owned(), true))
}

/// What is sent to the container from the namespace comes to nobody else, who might claim its addresses.
fn introduce(netlink: &mut Netlink, veth: &Veth<'_>, port: u32) -> io::Result<()> {
    links::tell_station(netlink, port, veth.end.mac)?;
    veth.addresses
        .iter()
        .try_for_each(|address| links::tell_neighbour(netlink, veth.bridge, *address, veth.end.mac))
}

/// Older kernels take what they do not know for done.
fn isolate(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    const FIRST: (u32, u32) = (4, 18);
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < FIRST {
        return Err(io::Error::other(format!("`enable_icc: false` needs Linux 4.18, this is {release}")));
    }
    links::isolate(netlink, index)
}

/// Settings of a container's namespace before its first link is there; what the container changes later stays.
fn prepare_namespace() -> io::Result<()> {
    // As Docker has it: an interface without an IPv6 subnet has no IPv6 at all.
    namespace::set("ipv6/conf/default/disable_ipv6", "1")?;
    // Who is on a network is no router of it.
    namespace::set("ipv6/conf/default/accept_ra", "0")?;
    // Inherited from the host otherwise; a container on two networks is no way from one to the other.
    namespace::set("ipv4/ip_forward", "0")?;
    namespace::set("ipv6/conf/all/forwarding", "0")?;
    // Connections through published ports are dialled in here, all from one address to one port: the number of one that has
    // ended serves again after a second, not after a minute, or there were no more than 470 a second.
    namespace::set("ipv4/tcp_tw_reuse", "1")?;
    // As Docker has it: low ports and ping for every user of the container. Group IDs above the map are refused.
    namespace::set("ipv4/ip_unprivileged_port_start", "0")?;
    let everybody = namespace::set("ipv4/ping_group_range", "0 65535");
    everybody.or_else(|_| namespace::set("ipv4/ping_group_range", "0 0"))
}

/// What is set inside of a container for one interface.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) interface: &'a Interface,
    pub(super) link_local: Vec<IpAddr>,
    /// Gateways of default routes, at most one of each family.
    pub(super) default_gateways: Vec<IpAddr>,
}

/// Runs inside the container's namespace; repeating it changes nothing.
pub(super) fn configure(setups: &[Setup<'_>]) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let loopback = links::find(&mut netlink, "lo")?;
    links::set_up(&mut netlink, loopback.index, None)?;
    for Setup { interface, link_local, default_gateways } in setups {
        let link = links::find(&mut netlink, &interface.name)?;
        if interface.ips().any(|address| address.is_ipv6()) {
            namespace::set(&format!("ipv6/conf/{}/disable_ipv6", interface.name), "0")?;
        }
        for own in interface.addresses.iter().copied().chain(link_local.iter().filter_map(on_link)) {
            links::add_address(&mut netlink, link.index, own)?;
        }
        links::set_up(&mut netlink, link.index, None)?;
        interface.ips().for_each(await_address);
        if let Some(mac) = interface.gateways.first().copied().map(links::hardware_address) {
            for gateway in &interface.gateways {
                links::tell_neighbour(&mut netlink, link.index, *gateway, mac)?;
            }
        }
        for gateway in default_gateways {
            links::set_route(&mut netlink, link.index, None, *gateway)?;
            if gateway.is_ipv4() && link_local.iter().any(IpAddr::is_ipv4) {
                // It has an address of the same kind, and is not on the link.
                links::set_route(&mut netlink, link.index, Some(HOST_GATEWAY.into()), *gateway)?;
            }
        }
    }
    Ok(())
}

/// The kernel makes the route to an IPv6 address of its own a little later; until then the container would not reach itself.
fn await_address(address: IpAddr) {
    const PAUSE: Duration = Duration::from_millis(1);
    const ATTEMPTS: usize = 1000;
    let IpAddr::V6(address) = address else { return };
    // Destination and length of its prefix come first.
    let line = format!("{:032x} 80 ", u128::from(address));
    for _ in 0..ATTEMPTS {
        let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
        if routes.lines().any(|route| route.starts_with(&line)) {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Link-local addresses have the same prefix everywhere (RFC 3927, RFC 4291).
fn on_link(address: &IpAddr) -> Option<IpNet> {
    IpNet::new(*address, if address.is_ipv4() { 16 } else { 64 }).ok()
}

pub(super) fn remove(netlink: &mut Netlink, name: &str) -> io::Result<()> {
    match not_found_is_none(links::find(netlink, name))? {
        Some(link) => tolerate(links::delete(netlink, link.index), Errno::NODEV),
        None => Ok(()),
    }
}

fn not_found_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}
