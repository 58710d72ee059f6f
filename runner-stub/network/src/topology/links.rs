//! What is done to links, addresses, routes and rules, each by one request to the kernel.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{
    self, Body, CREATE, DELETE_LINK, DELETE_ROUTE, DELETE_RULE, EXCLUSIVE, LinkAnswer, NEW_ADDRESS, NEW_LINK,
    NEW_ROUTE, NEW_RULE, REPLACE, address, link, route, rule,
};
use super::netlink::Netlink;
use super::subnet::Subnet;
use crate::egress;

/// Routing table of the kernel's own addresses.
const TABLE_LOCAL: u32 = 255;
const TABLE_MAIN: u8 = 254;
/// Order of the rules: what a bridge may reach, that it may reach nothing else, then the kernel's own addresses.
const RULE_INJECTED: u32 = 90;
const RULE_BRIDGE: u32 = 100;
const RULE_OTHERS: u32 = 101;
const RULE_OUTSIDE: u32 = 102;
const RULE_BRIDGE_END: u32 = 103;
const RULE_LOCAL: u32 = 200;
const RULE_MARKED: u32 = 250;
const RULE_OWN: u32 = 251;
const RULE_FOREIGN: u32 = 300;
/// All subnets of the project: unreachable. And everything: local.
const TABLE_OTHERS: u32 = 900;
const TABLE_OUTSIDE: u32 = 901;
const LOOPBACK: &str = "lo";
const LOOPBACK_INDEX: u32 = 1;

/// A link as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Free text stored with the link; the address it stands for in our links.
    pub(super) alias: Option<String>,
    /// Index of the bridge it is a port of.
    pub(super) bridge: Option<u32>,
    /// Index of a veth's other end, in the namespace of that end.
    pub(super) peer: Option<u32>,
}

impl From<&LinkAnswer<'_>> for Link {
    fn from(answer: &LinkAnswer<'_>) -> Link {
        let mut found =
            Link { index: answer.index, name: String::new(), alias: None, bridge: None, peer: None };
        for (kind, value) in answer.attributes() {
            match kind {
                link::NAME => found.name = message::value_text(value),
                link::ALIAS => found.alias = Some(message::value_text(value)),
                link::CONTROLLER => found.bridge = message::value_number(value),
                link::PEER => found.peer = message::value_number(value),
                _ => {}
            }
        }
        found
    }
}

/// Hardware address of whoever has `address`: unique in the namespace because subnets do not overlap.
pub(super) fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

pub(super) fn list(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    netlink.links()
}

pub(super) fn find(netlink: &mut Netlink, name: &str) -> io::Result<Link> {
    netlink.link(name)
}

/// Makes a bridge and tells its index. Its hardware address is given, so that it does not change with the ports.
pub(super) fn create_bridge(netlink: &mut Netlink, name: &str, gateway: Ipv4Addr) -> io::Result<u32> {
    let body = Body::link(0, 0)
        .with(link::NAME, name.as_bytes())
        .with(link::ADDRESS, &hardware_address(gateway))
        .with_nested(link::INFO, &Body::default().with(link::INFO_KIND, b"bridge"));
    netlink.request(NEW_LINK, CREATE | EXCLUSIVE, body)?;
    Ok(find(netlink, name)?.index)
}

/// Makes a veth: one end a port of `bridge`, the other at once inside `namespace`, so that it never shows up half way.
pub(super) fn create_veth(
    netlink: &mut Netlink,
    name: &str,
    bridge: u32,
    namespace: BorrowedFd<'_>,
    inside: &str,
    address: Ipv4Addr,
) -> io::Result<u32> {
    let peer = Body::link(0, 0)
        .with(link::NAME, inside.as_bytes())
        .with(link::ADDRESS, &hardware_address(address))
        .with_number(link::NAMESPACE, namespace.as_raw_fd().cast_unsigned());
    let info = Body::default()
        .with(link::INFO_KIND, b"veth")
        .with_nested(link::INFO_DATA, &Body::default().with_nested(link::VETH_PEER, &peer));
    let body = Body::link(0, 0)
        .with(link::NAME, name.as_bytes())
        .with_number(link::CONTROLLER, bridge)
        .with_nested(link::INFO, &info);
    netlink.request(NEW_LINK, CREATE | EXCLUSIVE, body)?;
    Ok(find(netlink, name)?.index)
}

pub(super) fn delete(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    netlink.request(DELETE_LINK, 0, Body::link(index, 0))
}

/// Brings a link up; `alias` marks it as complete for whoever finds it later.
pub(super) fn set_up(netlink: &mut Netlink, index: u32, alias: Option<&str>) -> io::Result<()> {
    let body = Body::link(index, link::UP);
    let body = match alias {
        Some(alias) => body.with(link::ALIAS, alias.as_bytes()),
        None => body,
    };
    netlink.request(NEW_LINK, 0, body)
}

/// Gives a link an address; no error when it has it already.
pub(super) fn add_address(
    netlink: &mut Netlink,
    index: u32,
    address: Ipv4Addr,
    subnet: Subnet,
) -> io::Result<()> {
    let body = Body::address(index, subnet.prefix)
        .with_ip(address::LOCAL, address)
        .with_ip(address::ADDRESS, address)
        .with_ip(address::BROADCAST, subnet.broadcast());
    netlink.request(NEW_ADDRESS, CREATE | REPLACE, body)
}

/// Sets the default route.
pub(super) fn set_default_route(netlink: &mut Netlink, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    let body = Body::route(0, TABLE_MAIN, route::SCOPE_UNIVERSE, route::UNICAST)
        .with_ip(route::GATEWAY, gateway)
        .with_number(route::LINK, index);
    netlink.request(NEW_ROUTE, CREATE | REPLACE, body)
}

/// What comes in by a bridge reaches that bridge's own address and nothing else: not the other bridges' addresses
/// (which Linux would otherwise answer for on every link), and no other network by forwarding. With a way out, what lies
/// outside of the project is local, see [`crate::egress`]; for senders of the bridge's own subnet only.
pub(super) fn confine_bridge(
    netlink: &mut Netlink,
    bridge: &str,
    index: u32,
    subnet: Subnet,
    is_internal: bool,
) -> io::Result<()> {
    let own_address = local_route(32, table_of(index))
        .with_ip(route::DESTINATION, subnet.gateway())
        .with_number(route::LINK, index);
    netlink.request(NEW_ROUTE, CREATE | REPLACE, own_address)?;
    netlink.request(NEW_ROUTE, CREATE | REPLACE, unreachable(subnet))?;
    let [outside, rest @ ..] = bridge_rules(bridge, index, subnet);
    for rule in rest {
        add_rule(netlink, rule)?;
    }
    if is_internal { delete_rule(netlink, outside) } else { add_rule(netlink, outside) }
}

/// Takes the rules of a bridge away; the routes by its link go with that.
pub(super) fn release_bridge(
    netlink: &mut Netlink,
    bridge: &str,
    index: u32,
    subnet: Subnet,
) -> io::Result<()> {
    let mut result = netlink.request(DELETE_ROUTE, 0, unreachable(subnet));
    for rule in bridge_rules(bridge, index, subnet) {
        result = result.and(delete_rule(netlink, rule));
    }
    result
}

/// The way out first, which not every bridge has.
fn bridge_rules(bridge: &str, index: u32, subnet: Subnet) -> [Body; 5] {
    let from = |body: Body, name: &str| body.with(rule::INCOMING, name.as_bytes());
    let by_source = |priority, table| {
        Body::rule(rule::TO_TABLE, subnet.prefix)
            .with_number(rule::PRIORITY, priority)
            .with_number(rule::TABLE, table)
            .with_ip(rule::SOURCE, subnet.base())
    };
    [
        from(by_source(RULE_OUTSIDE, TABLE_OUTSIDE), bridge),
        from(to_table(RULE_BRIDGE, table_of(index)), bridge),
        from(to_table(RULE_OTHERS, TABLE_OTHERS), bridge),
        from(Body::rule(rule::UNREACHABLE, 0).with_number(rule::PRIORITY, RULE_BRIDGE_END), bridge),
        from(by_source(RULE_OWN, TABLE_MAIN.into()), LOOPBACK),
    ]
}

/// Prepares the namespace for [`confine_bridge`]. The kernel looks at its own addresses first of all (rule 0); that look
/// is moved behind the rules of the bridges. What is sent in the name of a foreign address goes nowhere without a mark.
pub(super) fn prepare_rules(netlink: &mut Netlink) -> io::Result<()> {
    let everything = local_route(0, TABLE_OUTSIDE).with_number(route::LINK, LOOPBACK_INDEX);
    netlink.request(NEW_ROUTE, CREATE | REPLACE, everything)?;
    let from_here = |body: Body| body.with(rule::INCOMING, LOOPBACK.as_bytes());
    let marked = |body: Body, mark| from_here(body).with_number(rule::MARK, mark);
    add_rule(netlink, marked(to_table(RULE_INJECTED, TABLE_OUTSIDE), egress::INJECTED))?;
    add_rule(netlink, marked(to_table(RULE_MARKED, TABLE_MAIN.into()), egress::MARK))?;
    add_rule(netlink, from_here(Body::rule(rule::BLACKHOLE, 0).with_number(rule::PRIORITY, RULE_FOREIGN)))?;
    add_rule(netlink, to_table(RULE_LOCAL, TABLE_LOCAL))?;
    delete_rule(netlink, to_table(0, TABLE_LOCAL))
}

/// Destinations that are this namespace's own.
fn local_route(prefix: u8, table: u32) -> Body {
    Body::route(prefix, 0, route::SCOPE_HOST, route::LOCAL).with_number(route::TABLE, table)
}

fn unreachable(subnet: Subnet) -> Body {
    Body::route(subnet.prefix, 0, route::SCOPE_UNIVERSE, route::UNREACHABLE)
        .with_number(route::TABLE, TABLE_OTHERS)
        .with_ip(route::DESTINATION, subnet.base())
}

fn to_table(priority: u32, table: u32) -> Body {
    Body::rule(rule::TO_TABLE, 0).with_number(rule::PRIORITY, priority).with_number(rule::TABLE, table)
}

/// Table numbers below 256 are the kernel's.
fn table_of(index: u32) -> u32 {
    1000 + index
}

fn add_rule(netlink: &mut Netlink, rule: Body) -> io::Result<()> {
    match netlink.request(NEW_RULE, CREATE | EXCLUSIVE, rule) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// No error when there is none.
fn delete_rule(netlink: &mut Netlink, rule: Body) -> io::Result<()> {
    match netlink.request(DELETE_RULE, 0, rule) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
