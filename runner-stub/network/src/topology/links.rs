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

use super::netlink::{DELETE_LINK, DELETE_RULE, NEW_ADDRESS, NEW_LINK, NEW_ROUTE, NEW_RULE, Netlink};
use super::subnet::Subnet;

/// Routing table of the kernel's own addresses.
const TABLE_LOCAL: u32 = 255;
const TABLE_MAIN: u8 = 254;
/// Order of the rules: what a bridge may reach, that it may reach nothing else, then the kernel's own addresses.
const RULE_BRIDGE: u32 = 100;
const RULE_BRIDGE_END: u32 = 101;
const RULE_LOCAL: u32 = 200;

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
/// (which Linux would otherwise answer for on every link), and no other network by forwarding.
pub(super) fn confine_bridge(
    netlink: &mut Netlink,
    bridge: &str,
    index: u32,
    gateway: Ipv4Addr,
) -> io::Result<()> {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = 32;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Host;
    route.header.kind = RouteType::Local;
    route.attributes = vec![
        RouteAttribute::Table(table_of(index)),
        RouteAttribute::Destination(RouteAddress::Inet(gateway)),
        RouteAttribute::Oif(index),
    ];
    netlink.request(NEW_ROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route)?;

    let from_bridge = RuleAttribute::Iifname(bridge.to_owned());
    let allow = rule(RULE_BRIDGE, RuleAction::ToTable, Some(table_of(index)), Some(from_bridge.clone()));
    let refuse = rule(RULE_BRIDGE_END, RuleAction::Unreachable, None, Some(from_bridge));
    add_rule(netlink, &allow)?;
    add_rule(netlink, &refuse)
}

/// Takes the rules of a bridge away; the routes go with its link.
pub(super) fn release_bridge(netlink: &mut Netlink, bridge: &str, index: u32) -> io::Result<()> {
    let from_bridge = RuleAttribute::Iifname(bridge.to_owned());
    let allow = rule(RULE_BRIDGE, RuleAction::ToTable, Some(table_of(index)), Some(from_bridge.clone()));
    let refuse = rule(RULE_BRIDGE_END, RuleAction::Unreachable, None, Some(from_bridge));
    netlink.request(DELETE_RULE, 0, &allow).and(netlink.request(DELETE_RULE, 0, &refuse))
}

/// The kernel looks at its own addresses first of all (rule 0). That look is moved behind the rules of the bridges.
pub(super) fn look_at_bridges_first(netlink: &mut Netlink) -> io::Result<()> {
    add_rule(netlink, &rule(RULE_LOCAL, RuleAction::ToTable, Some(TABLE_LOCAL), None))?;
    match netlink.request(DELETE_RULE, 0, &rule(0, RuleAction::ToTable, Some(TABLE_LOCAL), None)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
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

fn rule(priority: u32, action: RuleAction, table: Option<u32>, from: Option<RuleAttribute>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = action;
    message.attributes.push(RuleAttribute::Priority(priority));
    message.attributes.extend(table.map(RuleAttribute::Table));
    message.attributes.extend(from);
    message
}
