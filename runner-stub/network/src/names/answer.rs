//! One DNS packet in, one out: wire format by the `domain` crate, nothing allocated by what a packet claims.
//!
//! A name that is not the project's is somebody else's to answer, for those who have a way out. For others it does not
//! exist (NXDOMAIN, which programs take as final; SERVFAIL would have them try again for seconds). The names of
//! containers on other networks never exist, and are asked of nobody outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{Message, MessageBuilder, Name, StaticCompressor, ToName};
use domain::rdata::{A, Aaaa, Ptr};

use super::{Lookup, Names, Reverse};

/// Seconds an answer may be kept: containers come and go.
const TIME_TO_LIVE: u32 = 5;
/// UDP answers without EDNS (RFC 1035, 4.2.1).
const UDP_LIMIT: u16 = 512;
/// UDP answers with EDNS: what passes every path unfragmented.
const EDNS_LIMIT: u16 = 1232;

/// How a question came; decides how long the answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A length and that many bytes.
    Tcp,
}

type Builder = AnswerBuilder<StaticCompressor<Vec<u8>>>;

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This is the answer.
    Here(Vec<u8>),
    /// The asker's other name servers are to answer.
    Elsewhere,
}

/// The answer to `query`, asked by the container with address `asker`. `None` for packets that deserve none: too short
/// to be DNS, or answers themselves (two servers would talk for ever).
#[must_use]
pub fn answer(query: &[u8], asker: IpAddr, names: &Names, transport: Transport) -> Option<Reply> {
    let query = Message::from_octets(query).ok()?;
    if query.header().qr() {
        return None;
    }
    names.count_query();
    let offered = query.opt().map(|opt| opt.udp_payload_size());
    let limit = match (transport, offered) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => UDP_LIMIT,
        (Transport::Udp, Some(size)) => size.clamp(UDP_LIMIT, EDNS_LIMIT),
    };
    let is_known = query.opt().is_none_or(|opt| opt.version() == 0);
    let (rcode, records) = match look_up(&query, asker, names) {
        // RFC 6891, 6.1.3
        _ if !is_known => (OptRcode::BADVERS, Records::None),
        (_, Records::Elsewhere) => return Some(Reply::Elsewhere),
        (rcode, records) => (rcode.into(), records),
    };
    let composed = compose(&query, rcode, &records, offered.is_some(), limit).or_else(|| {
        // The client comes back by TCP.
        compose(&query, rcode, &Records::Truncated, offered.is_some(), limit)
    });
    composed.map(Reply::Here)
}

/// The answer to a question that nobody could answer.
pub(super) fn refuse(query: &[u8], rcode: Rcode) -> Option<Vec<u8>> {
    start(&Message::from_octets(query).ok()?, rcode).map(finish)
}

/// What stands in the answer section.
enum Records {
    None,
    Addresses(Vec<IpAddr>),
    Pointer(Name<Vec<u8>>),
    /// More than fits.
    Truncated,
    Elsewhere,
}

fn look_up(query: &Message<&[u8]>, asker: IpAddr, names: &Names) -> (Rcode, Records) {
    if query.header().opcode() != Opcode::QUERY {
        return (Rcode::NOTIMP, Records::None);
    }
    let Ok(question) = query.sole_question() else { return (Rcode::FORMERR, Records::None) };
    if !matches!(question.qclass(), Class::IN | Class::ANY) {
        return (Rcode::REFUSED, Records::None);
    }
    let name = question.qname().to_string();
    if let Some(address) = reverse_address(&name) {
        return match names.reverse(asker, address) {
            Reverse::Found(name) if matches!(question.qtype(), Rtype::PTR | Rtype::ANY) => {
                (Rcode::NOERROR, name.parse().map_or(Records::None, Records::Pointer))
            }
            Reverse::Found(_) => (Rcode::NOERROR, Records::None),
            Reverse::Unknown => (Rcode::NXDOMAIN, Records::None),
            Reverse::Elsewhere => (Rcode::NOERROR, Records::Elsewhere),
        };
    }
    let is_wanted = |address: &IpAddr| match question.qtype() {
        Rtype::A => address.is_ipv4(),
        Rtype::AAAA => address.is_ipv6(),
        kind => kind == Rtype::ANY,
    };
    match names.lookup(asker, name.trim_end_matches('.'), is_wanted) {
        // None when the name exists with no record of this type: AAAA is asked by every program that knows IPv6.
        Lookup::Found(addresses) => (Rcode::NOERROR, Records::Addresses(addresses)),
        Lookup::Unknown => (Rcode::NXDOMAIN, Records::None),
        Lookup::Elsewhere => (Rcode::NOERROR, Records::Elsewhere),
        Lookup::Stranger => (Rcode::REFUSED, Records::None),
    }
}

/// `None` when it does not fit in `limit` bytes.
fn compose(
    query: &Message<&[u8]>,
    rcode: OptRcode,
    records: &Records,
    has_edns: bool,
    limit: u16,
) -> Option<Vec<u8>> {
    let mut answer = start(query, rcode.rcode())?;
    answer.set_push_limit(usize::from(limit));
    answer.header_mut().set_tc(matches!(records, Records::Truncated));
    push(&mut answer, query, records).ok()?;
    if !has_edns {
        return Some(finish(answer));
    }
    let mut additional = answer.additional();
    let offer = additional.opt(|opt| {
        opt.set_udp_payload_size(EDNS_LIMIT);
        opt.set_rcode(rcode);
        Ok(())
    });
    offer.ok()?;
    Some(additional.finish().into_target())
}

fn start(query: &Message<&[u8]>, rcode: Rcode) -> Option<Builder> {
    let target = StaticCompressor::new(Vec::with_capacity(usize::from(UDP_LIMIT)));
    let mut builder = MessageBuilder::from_target(target).ok()?;
    let mut answer = if query.sole_question().is_ok() {
        builder.start_error(query, rcode)
    } else {
        // Many questions are not repeated: they can be longer than an answer may be.
        let header = builder.header_mut();
        header.set_id(query.header().id());
        header.set_opcode(query.header().opcode());
        header.set_qr(true);
        header.set_rcode(rcode);
        builder.answer()
    };
    answer.header_mut().set_rd(query.header().rd());
    // Some resolvers give up on a server that does not say it resolves.
    answer.header_mut().set_ra(true);
    Some(answer)
}

fn push(answer: &mut Builder, query: &Message<&[u8]>, records: &Records) -> Result<(), PushError> {
    let Ok(question) = query.sole_question() else { return Ok(()) };
    let name = question.qname();
    match records {
        Records::None | Records::Truncated | Records::Elsewhere => Ok(()),
        Records::Addresses(addresses) => addresses.iter().try_for_each(|address| match address {
            IpAddr::V4(address) => answer.push((name, Class::IN, TIME_TO_LIVE, A::new(*address))),
            IpAddr::V6(address) => answer.push((name, Class::IN, TIME_TO_LIVE, Aaaa::new(*address))),
        }),
        Records::Pointer(target) => {
            answer.push((name, Class::IN, TIME_TO_LIVE, Ptr::new(target.to_name::<Vec<u8>>())))
        }
    }
}

fn finish(answer: Builder) -> Vec<u8> {
    answer.finish().into_target()
}

/// The address in `2.0.18.172.in-addr.arpa`, or in 32 digits before `ip6.arpa` (RFC 3596, 2.5).
fn reverse_address(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let [a, b, c, d] = reversed.parse::<Ipv4Addr>().ok()?.octets();
        return Some(Ipv4Addr::new(d, c, b, a).into());
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    let is_digit = |digit: &&str| digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.len() != 32 || !digits.iter().all(is_digit) {
        return None;
    }
    let digits: String = digits.into_iter().rev().collect();
    Some(Ipv6Addr::from(u128::from_str_radix(&digits, 16).ok()?).into())
}

#[cfg(test)]
mod tests;
