//! Tables of nftables, by netlink: made and removed whole.
//!
//! What is said here is what `nft -f` would be told. A table is one transaction: the kernel has all of it or nothing.

use std::io;
use std::net::Ipv4Addr;

use super::message::{self, Body, CREATE};
use super::netlink::Netlink;

/// `NFPROTO_*`: tables that see IPv4 packets.
const INET: u8 = 1;
const IPV4: u8 = 2;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = NEW_TABLE | 1;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const GET_CHAIN: u16 = NEW_TABLE | 4;
const NEW_RULE: u16 = NEW_TABLE | 6;
const APPEND: u16 = 0x800;

/// `NFTA_*` of `linux/netfilter/nf_tables.h`.
mod attribute {
    /// First of all lists: tables, chains' and rules' table, expressions' name, registers, values, numbers of hooks.
    pub(super) const FIRST: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    /// Key of `meta` and `ct`, operator of `cmp`, destination of `bitwise`, base of `payload`, data of `immediate`.
    pub(super) const SECOND: u16 = 2;
    pub(super) const THIRD: u16 = 3;
    pub(super) const FOURTH: u16 = 4;
    pub(super) const FIFTH: u16 = 5;
    pub(super) const VERDICT: u16 = 2;
}

const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// Length of a link's name in a register.
const NAME: usize = 16;

/// Where a chain sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Input = 1,
    Forward = 2,
    /// After routing, where source addresses are changed.
    Source = 4,
}

impl Hook {
    fn kind(self) -> &'static str {
        if self == Hook::Source { "nat" } else { "filter" }
    }

    fn priority(self) -> u32 {
        if self == Hook::Source { 100 } else { 0 }
    }

    fn name(self) -> &'static str {
        match self {
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Source => "source",
        }
    }
}

/// What a packet has to be for a rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Match<'a> {
    /// Came by this link.
    From(&'a str),
    /// Goes by this link.
    To(&'a str),
    /// Goes by another link than this.
    NotTo(&'a str),
    /// Goes by a link whose name starts so.
    ToAny(&'a str),
    /// Of a connection that is known, or an error about one.
    Known,
    /// The first of a connection that nobody has led elsewhere.
    Uncalled,
    Source(Ipv4Addr),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Accept,
    Drop,
    /// Leaves in the name of the link by which it goes.
    Masquerade,
}

/// Rules in their order, each in the chain of its hook; what none of them says is let through.
pub(super) type Rules<'a> = &'a [(Hook, &'a [Match<'a>], Verdict)];

/// Makes a table in place of one of the same name.
pub(super) fn put(netlink: &mut Netlink, table: &str, rules: Rules<'_>) -> io::Result<()> {
    let named = || Body::filter(IPV4, 0).with_text(attribute::FIRST, table);
    // Made first, so that there is one to delete.
    let mut requests =
        vec![(NEW_TABLE, CREATE, named()), (DELETE_TABLE, 0, named()), (NEW_TABLE, CREATE, named())];
    for hook in [Hook::Input, Hook::Forward, Hook::Source] {
        if rules.iter().any(|(at, ..)| *at == hook) {
            let place = Body::default()
                .with_network_number(attribute::FIRST, hook as u32)
                .with_network_number(attribute::HOOK_PRIORITY, hook.priority());
            let chain = named()
                .with_text(attribute::CHAIN_NAME, hook.name())
                .with_marked(attribute::CHAIN_HOOK, &place)
                .with_text(attribute::CHAIN_TYPE, hook.kind());
            requests.push((NEW_CHAIN, CREATE, chain));
        }
    }
    for (hook, matches, verdict) in rules {
        let expressions =
            matches.iter().flat_map(|wanted| wanted.expressions()).chain([verdict.expression()]);
        let list = expressions.fold(Body::default(), |list, one| list.with_marked(attribute::FIRST, &one));
        let rule = named()
            .with_text(attribute::RULE_CHAIN, hook.name())
            .with_marked(attribute::RULE_EXPRESSIONS, &list);
        requests.push((NEW_RULE, CREATE | APPEND, rule));
    }
    transact(netlink, requests)
}

/// Removes a table.
pub(super) fn remove(netlink: &mut Netlink, table: &str) -> io::Result<()> {
    transact(netlink, vec![(DELETE_TABLE, 0, Body::filter(IPV4, 0).with_text(attribute::FIRST, table))])
}

/// Names of all tables for IPv4.
pub(super) fn tables(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    let found = netlink.dump(GET_TABLE, Body::filter(IPV4, 0), NEW_TABLE)?;
    Ok(found.iter().filter_map(|body| text(body, attribute::FIRST)).collect())
}

/// Tables that have a say in what is forwarded, IPv4 among it.
pub(super) fn forwarders(netlink: &mut Netlink) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for family in [INET, IPV4] {
        for body in netlink.dump(GET_CHAIN, Body::filter(family, 0), NEW_CHAIN)? {
            let hook = value(&body, attribute::CHAIN_HOOK).and_then(|hook| {
                message::attributes(hook).find(|(kind, _)| *kind == attribute::FIRST).map(|(_, value)| value)
            });
            if hook == Some(&(Hook::Forward as u32).to_be_bytes()) {
                names.extend(text(&body, attribute::FIRST));
            }
        }
    }
    Ok(names)
}

fn value(body: &[u8], wanted: u16) -> Option<&[u8]> {
    let attributes = body.get(4..)?;
    message::attributes(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn text(body: &[u8], wanted: u16) -> Option<String> {
    value(body, wanted).map(message::value_text)
}

fn transact(netlink: &mut Netlink, requests: Vec<(u16, u16, Body)>) -> io::Result<()> {
    let edge = || Body::filter(0, SUBSYSTEM);
    netlink.transact((BATCH_BEGIN, edge()), requests, (BATCH_END, edge()))
}

impl Match<'_> {
    fn expressions(&self) -> Vec<Body> {
        const INCOMING: u32 = 6;
        const OUTGOING: u32 = 7;
        /// Keys of `ct`; bits of `IP_CT_ESTABLISHED` and `IP_CT_RELATED`, and `IPS_DST_NAT`.
        const STATE: u32 = 0;
        const KNOWN: u32 = 1 << 1 | 1 << 2;
        const STATUS: u32 = 2;
        const REDIRECTED: u32 = 1 << 5;
        let link = |key, operator, name: &[u8]| vec![load("meta", key), compare(operator, name)];
        let whole = |name: &str| {
            let mut padded = name.as_bytes().to_vec();
            padded.resize(NAME, 0);
            padded
        };
        match self {
            Match::From(name) => link(INCOMING, EQUAL, &whole(name)),
            Match::To(name) => link(OUTGOING, EQUAL, &whole(name)),
            Match::NotTo(name) => link(OUTGOING, NOT_EQUAL, &whole(name)),
            Match::ToAny(start) => link(OUTGOING, EQUAL, start.as_bytes()),
            Match::Known => connection(STATE, KNOWN, NOT_EQUAL).to_vec(),
            Match::Uncalled => {
                [connection(STATE, KNOWN, EQUAL), connection(STATUS, REDIRECTED, EQUAL)].concat()
            }
            Match::Source(address) => {
                const NETWORK_HEADER: u32 = 1;
                const AT: u32 = 12;
                let payload = Body::default()
                    .with_network_number(attribute::FIRST, REGISTER)
                    .with_network_number(attribute::SECOND, NETWORK_HEADER)
                    .with_network_number(attribute::THIRD, AT)
                    .with_network_number(attribute::FOURTH, 4);
                vec![expression("payload", &payload), compare(EQUAL, &address.octets())]
            }
        }
    }
}

/// Compares some bits of what is known of a packet's connection with none.
fn connection(key: u32, bits: u32, operator: u32) -> [Body; 3] {
    let data = |number: u32| Body::default().with(attribute::FIRST, &number.to_ne_bytes());
    let masked = Body::default()
        .with_network_number(attribute::FIRST, REGISTER)
        .with_network_number(attribute::SECOND, REGISTER)
        .with_network_number(attribute::THIRD, 4)
        .with_marked(attribute::FOURTH, &data(bits))
        .with_marked(attribute::FIFTH, &data(0));
    [load("ct", key), expression("bitwise", &masked), compare(operator, &[0; 4])]
}

impl Verdict {
    fn expression(self) -> Body {
        let code = match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Masquerade => return expression("masq", &Body::default()),
        };
        let verdict = Body::default().with_network_number(attribute::FIRST, code);
        let data = Body::default().with_marked(attribute::VERDICT, &verdict);
        let immediate = Body::default()
            .with_network_number(attribute::FIRST, REGISTER_VERDICT)
            .with_marked(attribute::SECOND, &data);
        expression("immediate", &immediate)
    }
}

fn expression(name: &str, data: &Body) -> Body {
    Body::default().with_text(attribute::FIRST, name).with_marked(attribute::EXPRESSION_DATA, data)
}

/// Both have the register first and the key second.
fn load(name: &str, key: u32) -> Body {
    let data = Body::default()
        .with_network_number(attribute::FIRST, REGISTER)
        .with_network_number(attribute::SECOND, key);
    expression(name, &data)
}

fn compare(operator: u32, with: &[u8]) -> Body {
    let data = Body::default().with(attribute::FIRST, with);
    let compared = Body::default()
        .with_network_number(attribute::FIRST, REGISTER)
        .with_network_number(attribute::SECOND, operator)
        .with_marked(attribute::THIRD, &data);
    expression("cmp", &compared)
}
