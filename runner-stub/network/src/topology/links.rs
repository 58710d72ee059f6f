//! What is done to links, addresses, routes and rules, each by one request to the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use super::message::{
    self, Body, CREATE, DELETE_LINK, DELETE_ROUTE, DELETE_RULE, EXCLUSIVE, Family, LinkAnswer, NEW_ADDRESS,
    NEW_LINK, NEW_NEIGHBOUR, NEW_ROUTE, NEW_RULE, REPLACE, address, link, neighbour, route, rule,
};
use super::netlink::Netlink;
use crate::egress;
use crate::protocol::Protocol;

/// Routing table of the kernel's own addresses.
const TABLE_LOCAL: u32 = 255;
const TABLE_MAIN: u8 = 254;
/// Order of the rules: what a bridge may reach, that it may reach nothing else, then the kernel's own addresses.
const RULE_INJECTED: u32 = 90;
const RULE_BRIDGE: u32 = 100;
const RULE_OTHERS: u32 = 101;
/// Behind the rule of that number which its bridge has: the kernel puts the latest of equals last.
const RULE_ANSWERS: u32 = RULE_OTHERS;
const RULE_OUTSIDE: u32 = 102;
const RULE_BRIDGE_END: u32 = 103;
const RULE_LOCAL: u32 = 200;
const RULE_MARKED: u32 = 250;
const RULE_OWN: u32 = 251;
const RULE_FOREIGN: u32 = 300;
/// Of two ways out the kernel's own comes first, as long as its link is there.
const METRIC_RELAYED: u32 = 10;
/// All subnets of the project: unreachable. And everything: local, or forwarded by the kernel. And everything: local.
const TABLE_OTHERS: u32 = 900;
const TABLE_OUTSIDE: u32 = 901;
const TABLE_RELAYED: u32 = 902;
/// What every bridge with IPv6 has besides, as with Docker: in its name the kernel asks for hardware addresses.
pub(super) const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64);
/// Of the prefix for what is to be discarded (RFC 6666).
const NOBODY: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1), 128);
/// Solicited-node multicast addresses.
const SOLICITED_NODES: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0), 104);
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

/// Hardware address of whoever has `address`: unique on the network because addresses are.
pub(super) fn hardware_address(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    [0x02, 0x42, a, b, c, d]
}

pub(super) fn list(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    netlink.links()
}

pub(super) fn find(netlink: &mut Netlink, name: &str) -> io::Result<Link> {
    netlink.link(name)
}

/// Makes a bridge and tells its index. Its hardware address is given, so that it does not change with the ports.
pub(super) fn create_bridge(netlink: &mut Netlink, name: &str, mac: [u8; 6]) -> io::Result<u32> {
    let body = Body::link(0, 0)
        .with(link::NAME, name.as_bytes())
        .with(link::ADDRESS, &mac)
        .with_nested(link::INFO, &Body::default().with(link::INFO_KIND, b"bridge"));
    netlink.request(NEW_LINK, CREATE | EXCLUSIVE, body)?;
    Ok(find(netlink, name)?.index)
}

/// The end of a veth inside a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) namespace: BorrowedFd<'a>,
    pub(super) name: &'a str,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
}

/// Makes a veth: one end a port of `bridge`, the other at once inside, so that it never shows up half way.
pub(super) fn create_veth(netlink: &mut Netlink, name: &str, bridge: u32, end: End<'_>) -> io::Result<u32> {
    let peer = Body::link(0, 0)
        .with(link::NAME, end.name.as_bytes())
        .with(link::ADDRESS, &end.mac)
        .with_number(link::MTU, end.mtu)
        .with_number(link::NAMESPACE, end.namespace.as_raw_fd().cast_unsigned());
    let info = Body::default()
        .with(link::INFO_KIND, b"veth")
        .with_nested(link::INFO_DATA, &Body::default().with_nested(link::VETH_PEER, &peer));
    let body = Body::link(0, 0)
        .with(link::NAME, name.as_bytes())
        .with_number(link::MTU, end.mtu)
        .with_number(link::CONTROLLER, bridge)
        .with_nested(link::INFO, &info);
    netlink.request(NEW_LINK, CREATE | EXCLUSIVE, body)?;
    Ok(find(netlink, name)?.index)
}

/// Keeps a port of a bridge from the other ports that are kept so.
pub(super) fn isolate(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let port = Body::default().with(link::PORT_ISOLATED, &[1]);
    let info = Body::default().with(link::PORT_KIND, b"bridge").with_nested(link::PORT_DATA, &port);
    netlink.request(NEW_LINK, 0, Body::link(index, 0).with_nested(link::INFO, &info))
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

/// Sets the largest packet of a link, in bytes.
pub(super) fn set_mtu(netlink: &mut Netlink, index: u32, mtu: u32) -> io::Result<()> {
    netlink.request(NEW_LINK, 0, Body::link(index, 0).with_number(link::MTU, mtu))
}

/// Gives a link an address; no error when it has it already.
pub(super) fn add_address(netlink: &mut Netlink, index: u32, own: IpNet) -> io::Result<()> {
    let body = Body::address(Family::of(own.addr()), index, own.prefix_len(), address::UNIQUE)
        .with_ip(address::LOCAL, own.addr())
        .with_ip(address::ADDRESS, own.addr());
    let body = match own {
        IpNet::V4(own) => body.with_ip(address::BROADCAST, own.broadcast().into()),
        IpNet::V6(_) => body,
    };
    netlink.request(NEW_ADDRESS, CREATE | REPLACE, body)
}

/// Gives a bridge an address. The kernel's own errors of IPv6 would be sent in its name, also those about what is not for
/// the bridge: they have [`NOBODY`]'s, and a blackhole. In IPv4 they are sent in the name of whom the packet was for.
pub(super) fn add_gateway(netlink: &mut Netlink, index: u32, own: IpNet) -> io::Result<()> {
    let IpNet::V6(own) = own else { return add_address(netlink, index, own) };
    let body = Body::address(Family::V6, index, own.prefix_len(), address::UNIQUE)
        .with_ip(address::LOCAL, own.addr().into())
        .with_ip(address::ADDRESS, own.addr().into())
        .with(address::LIFETIME, &address::DEPRECATED);
    netlink.request(NEW_ADDRESS, CREATE | REPLACE, body)
}

/// Tells who has an address on a link, so that nobody is asked and nobody else can say that he has it.
pub(super) fn tell_neighbour(
    netlink: &mut Netlink,
    index: u32,
    address: IpAddr,
    mac: [u8; 6],
) -> io::Result<()> {
    let body = Body::neighbour(Family::of(address) as u8, index, neighbour::PERMANENT, 0)
        .with_ip(neighbour::ADDRESS, address)
        .with(neighbour::HARDWARE_ADDRESS, &mac);
    netlink.request(NEW_NEIGHBOUR, CREATE | REPLACE, body)
}

/// Tells a bridge by which of its ports a hardware address is.
pub(super) fn tell_station(netlink: &mut Netlink, port: u32, mac: [u8; 6]) -> io::Result<()> {
    let flags = neighbour::CONTROLLER | neighbour::STICKY;
    let body = Body::neighbour(neighbour::BRIDGE, port, neighbour::STATIC, flags)
        .with(neighbour::HARDWARE_ADDRESS, &mac);
    netlink.request(NEW_NEIGHBOUR, CREATE | REPLACE, body)
}

/// Gives the namespace the address that its kernel chooses where it may choose.
pub(super) fn add_nobody(netlink: &mut Netlink) -> io::Result<()> {
    match add_address(netlink, LOOPBACK_INDEX, IpNet::V6(NOBODY)) {
        Err(error) if is_unsupported(&error) => Ok(()),
        result => result,
    }
}

/// Sets the default route of the gateway's family, or the route to one address.
pub(super) fn set_route(
    netlink: &mut Netlink,
    index: u32,
    destination: Option<IpAddr>,
    gateway: IpAddr,
) -> io::Result<()> {
    let prefix = destination.map_or(0, |destination| IpNet::from(destination).prefix_len());
    let body = Body::route(Family::of(gateway), prefix, TABLE_MAIN, route::SCOPE_UNIVERSE, route::UNICAST)
        .with_ip(route::GATEWAY, gateway)
        .with_number(route::LINK, index);
    let body = match destination {
        Some(destination) => body.with_ip(route::DESTINATION, destination),
        None => body,
    };
    netlink.request(NEW_ROUTE, CREATE | REPLACE, body)
}

/// A bridge as rules and routes see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confined<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
    /// At most one of each family, with the gateway's address.
    pub(super) subnets: &'a [IpNet],
}

/// What comes in by a bridge reaches that bridge's own addresses and nothing else: not the other bridges' addresses
/// (which Linux would otherwise answer for on every link), and no other network by forwarding. With a way out, what lies
/// outside of the project is local, see [`crate::egress`]; for senders of the bridge's own subnets only.
pub(super) fn confine_bridge(
    netlink: &mut Netlink,
    bridge: Confined<'_>,
    is_internal: bool,
) -> io::Result<()> {
    for &subnet in bridge.subnets {
        let table = table_of(bridge.index);
        let own_address = local_route(Family::of(subnet.addr()), full_length(subnet), table)
            .with_ip(route::DESTINATION, subnet.addr())
            .with_number(route::LINK, bridge.index);
        netlink.request(NEW_ROUTE, CREATE | REPLACE, own_address)?;
        if subnet.addr().is_ipv6() {
            let link_local = local_route(Family::V6, 128, table)
                .with_ip(route::DESTINATION, LINK_LOCAL.addr().into())
                .with_number(route::LINK, bridge.index);
            netlink.request(NEW_ROUTE, CREATE | REPLACE, link_local)?;
            // Who asks for a hardware address asks all of a group (RFC 4291, 2.7.1).
            let (group, prefix) = SOLICITED_NODES;
            let asked = Body::route(Family::V6, prefix, 0, route::SCOPE_UNIVERSE, route::MULTICAST)
                .with_number(route::TABLE, table)
                .with_ip(route::DESTINATION, group.into())
                .with_number(route::LINK, bridge.index);
            netlink.request(NEW_ROUTE, CREATE | REPLACE, asked)?;
        }
        netlink.request(NEW_ROUTE, CREATE | REPLACE, unreachable(subnet))?;
        add_rule(netlink, own_rule(subnet))?;
    }
    for rule in Family::BOTH.into_iter().flat_map(|family| end_rules(bridge, family)) {
        add_rule(netlink, rule)?;
    }
    for &subnet in bridge.subnets {
        let outside = outside_rule(bridge, subnet);
        if is_internal { delete_rule(netlink, outside)? } else { add_rule(netlink, outside)? }
    }
    Ok(())
}

/// Takes the rules of a bridge away; the routes by its link go with that.
pub(super) fn release_bridge(netlink: &mut Netlink, bridge: Confined<'_>) -> io::Result<()> {
    let mut result = Ok(());
    for &subnet in bridge.subnets {
        result = result.and(netlink.request(DELETE_ROUTE, 0, unreachable(subnet)));
    }
    let by_subnet =
        bridge.subnets.iter().flat_map(|subnet| [own_rule(*subnet), outside_rule(bridge, *subnet)]);
    for rule in by_subnet.chain(Family::BOTH.into_iter().flat_map(|family| end_rules(bridge, family))) {
        result = result.and(delete_rule(netlink, rule));
    }
    result
}

/// The way out, which not every bridge has.
fn outside_rule(bridge: Confined<'_>, subnet: IpNet) -> Body {
    from(by_source(subnet, RULE_OUTSIDE, TABLE_OUTSIDE), bridge.name)
}

fn own_rule(subnet: IpNet) -> Body {
    from(by_source(subnet, RULE_OWN, TABLE_MAIN.into()), LOOPBACK)
}

/// Where everything else ends. Also for a family that the bridge has no addresses of.
fn end_rules(bridge: Confined<'_>, family: Family) -> [Body; 3] {
    [
        from(to_table(family, RULE_BRIDGE, table_of(bridge.index)), bridge.name),
        from(to_table(family, RULE_OTHERS, TABLE_OTHERS), bridge.name),
        from(
            Body::rule(family, rule::UNREACHABLE, 0).with_number(rule::PRIORITY, RULE_BRIDGE_END),
            bridge.name,
        ),
    ]
}

/// Published ports of a container that follow each other, as routing sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    /// The bridge by which the container's default route goes.
    pub(super) bridge: String,
    pub(super) container: Ipv4Addr,
    pub(super) protocol: Protocol,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Answers {
    fn rule(&self) -> Body {
        let protocol = match self.protocol {
            Protocol::Tcp => rule::TCP,
            Protocol::Udp => rule::UDP,
        };
        let range = [self.first.to_ne_bytes(), self.last.to_ne_bytes()].concat();
        let rule = by_source(Ipv4Net::from(self.container).into(), RULE_ANSWERS, TABLE_RELAYED)
            .with(rule::PROTOCOL, &[protocol])
            .with(rule::SOURCE_PORTS, &range);
        from(rule, &self.bridge)
    }
}

/// What a container answers is for the namespace itself, where clients' addresses are spoken for (`crate::ports`), also while
/// the kernel forwards what else goes out.
pub(super) fn lead_answers(netlink: &mut Netlink, answers: &Answers) -> io::Result<()> {
    add_rule(netlink, answers.rule())
}

/// Undoes [`lead_answers`].
pub(super) fn forget_answers(netlink: &mut Netlink, answers: &Answers) -> io::Result<()> {
    delete_rule(netlink, answers.rule())
}

/// Undoes [`lead_answers`] for whatever an earlier process did.
fn forget_all_answers(netlink: &mut Netlink) -> io::Result<()> {
    loop {
        match netlink.request(DELETE_RULE, 0, to_table(Family::V4, RULE_ANSWERS, TABLE_RELAYED)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Prepares the namespace for [`confine_bridge`]. The kernel looks at its own addresses first of all (rule 0); that look
/// is moved behind the rules of the bridges. What is sent in the name of a foreign address goes nowhere without a mark.
pub(super) fn prepare_rules(netlink: &mut Netlink) -> io::Result<()> {
    forget_all_answers(netlink)?;
    for family in Family::BOTH {
        let everything = |table| {
            local_route(family, 0, table)
                .with_number(route::LINK, LOOPBACK_INDEX)
                .with_number(route::PRIORITY, METRIC_RELAYED)
        };
        let made = [TABLE_OUTSIDE, TABLE_RELAYED]
            .into_iter()
            .try_for_each(|table| netlink.request(NEW_ROUTE, CREATE | REPLACE, everything(table)));
        match made {
            // A kernel without IPv6 has nothing to confine.
            Err(error) if family == Family::V6 && is_unsupported(&error) => continue,
            result => result?,
        }
        let marked = |body: Body, mark| from(body.with_number(rule::MARK, mark), LOOPBACK);
        add_rule(netlink, marked(to_table(family, RULE_INJECTED, TABLE_RELAYED), egress::INJECTED))?;
        add_rule(netlink, marked(to_table(family, RULE_MARKED, TABLE_MAIN.into()), egress::MARK))?;
        let foreign = Body::rule(family, rule::BLACKHOLE, 0).with_number(rule::PRIORITY, RULE_FOREIGN);
        add_rule(netlink, from(foreign, LOOPBACK))?;
        add_rule(netlink, to_table(family, RULE_LOCAL, TABLE_LOCAL))?;
        delete_rule(netlink, to_table(family, 0, TABLE_LOCAL))?;
    }
    Ok(())
}

/// The link by which the kernel itself forwards what goes out, in the project's namespace.
pub(super) const UPLINK: &str = "out";

/// Makes a veth whose other end is [`UPLINK`] in `namespace`. `alias` says what is at that end.
pub(super) fn create_uplink(
    netlink: &mut Netlink,
    name: &str,
    namespace: BorrowedFd<'_>,
    alias: &str,
) -> io::Result<u32> {
    let peer = Body::link(0, 0)
        .with(link::NAME, UPLINK.as_bytes())
        .with_number(link::NAMESPACE, namespace.as_raw_fd().cast_unsigned());
    let info = Body::default()
        .with(link::INFO_KIND, b"veth")
        .with_nested(link::INFO_DATA, &Body::default().with_nested(link::VETH_PEER, &peer));
    let body = Body::link(0, 0).with(link::NAME, name.as_bytes()).with_nested(link::INFO, &info);
    netlink.request(NEW_LINK, CREATE | EXCLUSIVE, body)?;
    let index = find(netlink, name)?.index;
    set_up(netlink, index, Some(alias))?;
    Ok(index)
}

/// The route to what is at the other end of a link.
pub(super) fn add_neighbour_route(netlink: &mut Netlink, index: u32, neighbour: Ipv4Addr) -> io::Result<()> {
    let body = Body::route(Family::V4, 32, TABLE_MAIN, route::SCOPE_LINK, route::UNICAST)
        .with_ip(route::DESTINATION, neighbour.into())
        .with_number(route::LINK, index);
    netlink.request(NEW_ROUTE, CREATE | REPLACE, body)
}

/// What goes out is forwarded to `gateway`, apart from the prefixes named, which are not for containers.
pub(super) fn forward_outside(
    netlink: &mut Netlink,
    index: u32,
    gateway: Ipv4Addr,
    forbidden: &[Ipv4Net],
) -> io::Result<()> {
    for prefix in forbidden {
        let body = Body::route(Family::V4, prefix.prefix_len(), 0, route::SCOPE_UNIVERSE, route::UNREACHABLE)
            .with_number(route::TABLE, TABLE_OUTSIDE)
            .with_ip(route::DESTINATION, prefix.network().into());
        netlink.request(NEW_ROUTE, CREATE | REPLACE, body)?;
    }
    let body = Body::route(Family::V4, 0, 0, route::SCOPE_UNIVERSE, route::UNICAST)
        .on_link()
        .with_number(route::TABLE, TABLE_OUTSIDE)
        .with_ip(route::GATEWAY, gateway.into())
        .with_number(route::LINK, index);
    netlink.request(NEW_ROUTE, CREATE | REPLACE, body)
}

/// Destinations that are this namespace's own.
fn local_route(family: Family, prefix: u8, table: u32) -> Body {
    Body::route(family, prefix, 0, route::SCOPE_HOST, route::LOCAL).with_number(route::TABLE, table)
}

fn unreachable(subnet: IpNet) -> Body {
    let family = Family::of(subnet.addr());
    Body::route(family, subnet.prefix_len(), 0, route::SCOPE_UNIVERSE, route::UNREACHABLE)
        .with_number(route::TABLE, TABLE_OTHERS)
        .with_ip(route::DESTINATION, subnet.network())
}

fn to_table(family: Family, priority: u32, table: u32) -> Body {
    Body::rule(family, rule::TO_TABLE, 0)
        .with_number(rule::PRIORITY, priority)
        .with_number(rule::TABLE, table)
}

fn by_source(subnet: IpNet, priority: u32, table: u32) -> Body {
    Body::rule(Family::of(subnet.addr()), rule::TO_TABLE, subnet.prefix_len())
        .with_number(rule::PRIORITY, priority)
        .with_number(rule::TABLE, table)
        .with_ip(rule::SOURCE, subnet.network())
}

fn from(rule: Body, link: &str) -> Body {
    rule.with(rule::INCOMING, link.as_bytes())
}

fn full_length(subnet: IpNet) -> u8 {
    subnet.max_prefix_len()
}

/// Table numbers below 256 are the kernel's.
fn table_of(index: u32) -> u32 {
    1000 + index
}

/// A kernel without IPv6 has no rules for it; nothing of it comes in either.
fn add_rule(netlink: &mut Netlink, rule: Body) -> io::Result<()> {
    match netlink.request(NEW_RULE, CREATE | EXCLUSIVE, rule) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || has_no_family(&error) => Ok(()),
        result => result,
    }
}

/// No error when there is none.
fn delete_rule(netlink: &mut Netlink, rule: Body) -> io::Result<()> {
    match netlink.request(DELETE_RULE, 0, rule) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || has_no_family(&error) => Ok(()),
        result => result,
    }
}

fn has_no_family(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

fn is_unsupported(error: &io::Error) -> bool {
    has_no_family(error) || Errno::from_io_error(error) == Some(Errno::OPNOTSUPP)
}
