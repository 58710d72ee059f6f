//! One DNS packet in, one out: wire format by the `domain` crate, nothing allocated by what a packet claims.
//!
//! There is no way out of the project's networks yet, so everything that is not a container's name does not exist
//! (NXDOMAIN, which programs take as final; SERVFAIL would have them try again for seconds).

use std::net::Ipv4Addr;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{Message, MessageBuilder, Name, StaticCompressor, ToName};
use domain::rdata::{A, Ptr};

use super::{Lookup, Names};

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

/// The answer to `query`, asked by the container with address `asker`. `None` for packets that deserve none: too short
/// to be DNS, or answers themselves (two servers would talk for ever).
#[must_use]
pub fn answer(query: &[u8], asker: Ipv4Addr, names: &Names, transport: Transport) -> Option<Vec<u8>> {
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
    let (rcode, records) = look_up(&query, asker, names);
    compose(&query, rcode, &records, offered.is_some(), limit).or_else(|| {
        let mut truncated = start(&query, rcode)?;
        truncated.header_mut().set_tc(true);
        Some(finish(truncated))
    })
}

/// What stands in the answer section.
enum Records {
    None,
    Addresses(Vec<Ipv4Addr>),
    Pointer(Name<Vec<u8>>),
}

fn look_up(query: &Message<&[u8]>, asker: Ipv4Addr, names: &Names) -> (Rcode, Records) {
    if query.header().opcode() != Opcode::QUERY {
        return (Rcode::NOTIMP, Records::None);
    }
    let Ok(question) = query.sole_question() else { return (Rcode::FORMERR, Records::None) };
    if !matches!(question.qclass(), Class::IN | Class::ANY) {
        return (Rcode::REFUSED, Records::None);
    }
    let name = question.qname().to_string();
    if let Some(address) = reverse_address(&name) {
        return match names.reverse(asker, address).and_then(|name| name.parse().ok()) {
            Some(name) if matches!(question.qtype(), Rtype::PTR | Rtype::ANY) => {
                (Rcode::NOERROR, Records::Pointer(name))
            }
            Some(_) => (Rcode::NOERROR, Records::None),
            None => (Rcode::NXDOMAIN, Records::None),
        };
    }
    match names.lookup(asker, name.trim_end_matches('.')) {
        Lookup::Found(addresses) if matches!(question.qtype(), Rtype::A | Rtype::ANY) => {
            (Rcode::NOERROR, Records::Addresses(addresses))
        }
        // The name exists, with no record of this type: AAAA asked by every program that knows IPv6.
        Lookup::Found(_) => (Rcode::NOERROR, Records::None),
        Lookup::Unknown => (Rcode::NXDOMAIN, Records::None),
        Lookup::Stranger => (Rcode::REFUSED, Records::None),
    }
}

/// `None` when it does not fit in `limit` bytes.
fn compose(
    query: &Message<&[u8]>,
    rcode: Rcode,
    records: &Records,
    has_edns: bool,
    limit: u16,
) -> Option<Vec<u8>> {
    let mut answer = start(query, rcode)?;
    answer.set_push_limit(usize::from(limit));
    push(&mut answer, query, records).ok()?;
    if !has_edns {
        return Some(finish(answer));
    }
    let mut additional = answer.additional();
    let offer = additional.opt(|opt| {
        opt.set_udp_payload_size(EDNS_LIMIT);
        Ok(())
    });
    offer.ok()?;
    Some(additional.finish().into_target())
}

fn start(query: &Message<&[u8]>, rcode: Rcode) -> Option<Builder> {
    let builder =
        MessageBuilder::from_target(StaticCompressor::new(Vec::with_capacity(usize::from(UDP_LIMIT))));
    let mut answer = builder.ok()?.start_error(query, rcode);
    answer.header_mut().set_rd(query.header().rd());
    // Some resolvers give up on a server that does not say it resolves.
    answer.header_mut().set_ra(true);
    Some(answer)
}

fn push(answer: &mut Builder, query: &Message<&[u8]>, records: &Records) -> Result<(), PushError> {
    let Ok(question) = query.sole_question() else { return Ok(()) };
    let name = question.qname();
    match records {
        Records::None => Ok(()),
        Records::Addresses(addresses) => addresses
            .iter()
            .try_for_each(|address| answer.push((name, Class::IN, TIME_TO_LIVE, A::new(*address)))),
        Records::Pointer(target) => {
            answer.push((name, Class::IN, TIME_TO_LIVE, Ptr::new(target.to_name::<Vec<u8>>())))
        }
    }
}

fn finish(answer: Builder) -> Vec<u8> {
    answer.finish().into_target()
}

/// The address in `2.0.18.172.in-addr.arpa`.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let reversed: Ipv4Addr = name.strip_suffix(".in-addr.arpa")?.parse().ok()?;
    let [a, b, c, d] = reversed.octets();
    Some(Ipv4Addr::new(d, c, b, a))
}

#[cfg(test)]
mod tests;
