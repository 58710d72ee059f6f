//! A container's links: the veth that leads into its namespace, and what is set inside.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::netlink::Netlink;
use super::{links, namespace, tolerate};
use crate::protocol::Interface;

/// Tells the name of the end inside the container, and whether it was made.
pub(super) fn ensure(
    netlink: &mut Netlink,
    name: &str,
    bridge: u32,
    namespace: BorrowedFd<'_>,
    inside: &str,
    address: Ipv4Addr,
) -> io::Result<(String, bool)> {
    if let Some(outer) = not_found_is_none(links::find(netlink, name))? {
        let inner = namespace::inside(namespace, || links::list(&mut Netlink::open()?))?;
        let other_end = inner.into_iter().find(|link| Some(link.index) == outer.peer);
        match other_end.filter(|link| link.peer == Some(outer.index) && link.name.starts_with("eth")) {
            Some(link) => {
                links::set_up(netlink, outer.index, Some(&address.to_string()))?;
                return Ok((link.name, false));
            }
            // It leads into the namespace of the container's last run, which the kernel takes apart in its own time.
            None => tolerate(links::delete(netlink, outer.index), Errno::NODEV)?,
        }
    }
    namespace::inside(namespace, prepare_namespace)?;
    let index = links::create_veth(netlink, name, bridge, namespace, inside, address)?;
    links::set_up(netlink, index, Some(&address.to_string()))?;
    Ok((inside.to_owned(), true))
}

/// Settings of a container's namespace before its first link is there; what the container changes later stays.
fn prepare_namespace() -> io::Result<()> {
    // As Docker has it: an interface without an IPv6 subnet has no IPv6 at all.
    namespace::set("ipv6/conf/default/disable_ipv6", "1")?;
    // Inherited from the host otherwise; a container on two networks is no way from one to the other.
    namespace::set("ipv4/ip_forward", "0")?;
    // As Docker has it: low ports and ping for every user of the container. Group IDs above the map are refused.
    namespace::set("ipv4/ip_unprivileged_port_start", "0")?;
    let everybody = namespace::set("ipv4/ping_group_range", "0 65535");
    everybody.or_else(|_| namespace::set("ipv4/ping_group_range", "0 0"))
}

/// Runs inside the container's namespace; repeating it changes nothing.
pub(super) fn configure(interfaces: &[Interface]) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let loopback = links::find(&mut netlink, "lo")?;
    links::set_up(&mut netlink, loopback.index, None)?;
    for (number, interface) in interfaces.iter().enumerate() {
        let link = links::find(&mut netlink, &interface.name)?;
        let subnet = format!("{}/{}", interface.gateway, interface.prefix);
        let subnet = subnet.parse().map_err(|()| io::Error::other("subnet"))?;
        links::add_address(&mut netlink, link.index, interface.address, subnet)?;
        links::set_up(&mut netlink, link.index, None)?;
        if number == 0 {
            links::set_default_route(&mut netlink, link.index, interface.gateway)?;
        }
    }
    Ok(())
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
