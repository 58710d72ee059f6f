//! What is done to links, addresses, routes and rules, each by one request to the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::netlink::{
    DELETE_LINK, DELETE_ROUTE, DELETE_RULE, NEW_ADDRESS, NEW_LINK, NEW_ROUTE, NEW_RULE, Netlink,
};
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

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Link {
        let mut link =
            Link { index: message.header.index, name: String::new(), alias: None, bridge: None, peer: None };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Controller(index) => link.bridge = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                _ => {}
            }
        }
        link
    }
}

/// Hardware address of whoever has `address`: unique in the namespace because subnets do not overlap.
pub(super) fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

pub(super) fn list(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    Ok(netlink.links()?.into_iter().map(Link::from).collect())
}

pub(super) fn find(netlink: &mut Netlink, name: &str) -> io::Result<Link> {
    netlink.link(name).map(Link::from)
}

/// Makes a bridge and tells its index. Its hardware address is given, so that it does not change with the ports.
pub(super) fn create_bridge(netlink: &mut Netlink, name: &str, gateway: Ipv4Addr) -> io::Result<u32> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(hardware_address(gateway).to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    netlink.request(NEW_LINK, NLM_F_CREATE | NLM_F_EXCL, &message)?;
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
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(inside.to_owned()),
        LinkAttribute::Address(hardware_address(address).to_vec()),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    netlink.request(NEW_LINK, NLM_F_CREATE | NLM_F_EXCL, &message)?;
    Ok(find(netlink, name)?.index)
}

pub(super) fn delete(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    netlink.request(DELETE_LINK, 0, &message)
}

/// Brings a link up; `alias` marks it as complete for whoever finds it later.
pub(super) fn set_up(netlink: &mut Netlink, index: u32, alias: Option<&str>) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend(alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())));
    netlink.request(NEW_LINK, 0, &message)
}

/// Gives a link an address; no error when it has it already.
pub(super) fn add_address(
    netlink: &mut Netlink,
    index: u32,
    address: Ipv4Addr,
    subnet: Subnet,
) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = subnet.prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Broadcast(subnet.broadcast()),
    ];
    netlink.request(NEW_ADDRESS, NLM_F_CREATE | NLM_F_REPLACE, &message)
}

/// Sets the default route.
pub(super) fn set_default_route(netlink: &mut Netlink, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    netlink.request(NEW_ROUTE, NLM_F_CREATE | NLM_F_REPLACE, &message)
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
    let own = [
        RouteAttribute::Table(table_of(index)),
        RouteAttribute::Destination(RouteAddress::Inet(subnet.gateway())),
        RouteAttribute::Oif(index),
    ];
    netlink.request(NEW_ROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route(RouteType::Local, 32, &own))?;
    netlink.request(NEW_ROUTE, NLM_F_CREATE | NLM_F_REPLACE, &unreachable(subnet))?;
    let [outside, rest @ ..] = bridge_rules(bridge, index, subnet);
    for rule in &rest {
        add_rule(netlink, rule)?;
    }
    if is_internal { delete_rule(netlink, &outside) } else { add_rule(netlink, &outside) }
}

/// Takes the rules of a bridge away; the routes by its link go with that.
pub(super) fn release_bridge(
    netlink: &mut Netlink,
    bridge: &str,
    index: u32,
    subnet: Subnet,
) -> io::Result<()> {
    let mut result = netlink.request(DELETE_ROUTE, 0, &unreachable(subnet));
    for rule in bridge_rules(bridge, index, subnet) {
        result = result.and(delete_rule(netlink, &rule));
    }
    result
}

/// The way out first, which not every bridge has.
fn bridge_rules(bridge: &str, index: u32, subnet: Subnet) -> [RuleMessage; 5] {
    let came_by = || RuleAttribute::Iifname(bridge.to_owned());
    let table = |priority, table, attributes: Vec<RuleAttribute>| {
        rule(priority, RuleAction::ToTable, Some(table), attributes)
    };
    let mut outside = table(RULE_OUTSIDE, TABLE_OUTSIDE, vec![came_by(), source(subnet)]);
    outside.header.src_len = subnet.prefix;
    let mut own = table(RULE_OWN, TABLE_MAIN.into(), vec![from_here(), source(subnet)]);
    own.header.src_len = subnet.prefix;
    [
        outside,
        table(RULE_BRIDGE, table_of(index), vec![came_by()]),
        table(RULE_OTHERS, TABLE_OTHERS, vec![came_by()]),
        rule(RULE_BRIDGE_END, RuleAction::Unreachable, None, vec![came_by()]),
        own,
    ]
}

/// Prepares the namespace for [`confine_bridge`]. The kernel looks at its own addresses first of all (rule 0); that look
/// is moved behind the rules of the bridges. What is sent in the name of a foreign address goes nowhere without a mark.
pub(super) fn prepare_rules(netlink: &mut Netlink) -> io::Result<()> {
    let everything = [RouteAttribute::Table(TABLE_OUTSIDE), RouteAttribute::Oif(LOOPBACK_INDEX)];
    netlink.request(NEW_ROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route(RouteType::Local, 0, &everything))?;
    let marked = |mark| vec![from_here(), RuleAttribute::FwMark(mark)];
    let to = RuleAction::ToTable;
    add_rule(netlink, &rule(RULE_INJECTED, to, Some(TABLE_OUTSIDE), marked(egress::INJECTED)))?;
    add_rule(netlink, &rule(RULE_MARKED, to, Some(TABLE_MAIN.into()), marked(egress::MARK)))?;
    add_rule(netlink, &rule(RULE_FOREIGN, RuleAction::Blackhole, None, vec![from_here()]))?;
    add_rule(netlink, &rule(RULE_LOCAL, to, Some(TABLE_LOCAL), Vec::new()))?;
    delete_rule(netlink, &rule(0, to, Some(TABLE_LOCAL), Vec::new()))
}

fn from_here() -> RuleAttribute {
    RuleAttribute::Iifname("lo".to_owned())
}

fn source(subnet: Subnet) -> RuleAttribute {
    RuleAttribute::Source(subnet.base().into())
}

fn route(kind: RouteType, prefix: u8, attributes: &[RouteAttribute]) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = prefix;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = if kind == RouteType::Local { RouteScope::Host } else { RouteScope::Universe };
    message.header.kind = kind;
    message.attributes = attributes.to_vec();
    message
}

fn unreachable(subnet: Subnet) -> RouteMessage {
    let attributes =
        [RouteAttribute::Table(TABLE_OTHERS), RouteAttribute::Destination(RouteAddress::Inet(subnet.base()))];
    route(RouteType::Unreachable, subnet.prefix, &attributes)
}

/// Table numbers below 256 are the kernel's.
fn table_of(index: u32) -> u32 {
    1000 + index
}

fn add_rule(netlink: &mut Netlink, rule: &RuleMessage) -> io::Result<()> {
    match netlink.request(NEW_RULE, NLM_F_CREATE | NLM_F_EXCL, rule) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// No error when there is none.
fn delete_rule(netlink: &mut Netlink, rule: &RuleMessage) -> io::Result<()> {
    match netlink.request(DELETE_RULE, 0, rule) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn rule(
    priority: u32,
    action: RuleAction,
    table: Option<u32>,
    attributes: Vec<RuleAttribute>,
) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = action;
    message.attributes.push(RuleAttribute::Priority(priority));
    message.attributes.extend(table.map(RuleAttribute::Table));
    message.attributes.extend(attributes);
    message
}
