//! Packets as bytes: what is read from them, and those that are made. Pure; lengths are hostile until checked.
//!
//! Public so that it can be fuzzed. Total length, checksum and (where it is zero) identification of an IPv4 header are
//! filled in by the kernel when a raw socket sends it. Of an IPv6 packet raw sockets show what comes after its headers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Next header of an IPv6 fragment (RFC 8200, 4.5).
const FRAGMENT: u8 = 44;
/// An IPv4 header without options, and an IPv6 header.
const HEADER: usize = 20;
const HEADER6: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const ICMP_HEADER: usize = 8;
const TIME_TO_LIVE: u8 = 64;
const MORE_FRAGMENTS: u16 = 0x2000;
/// Fragments of one packet share it; those of different packets must not.
const IDENTIFICATION: std::ops::Range<usize> = 4..6;

/// MTU of links that nobody changed.
pub(super) const USUAL_MTU: usize = 1500;
/// What every link carries (RFC 791).
pub(super) const LEAST_MTU: usize = 576;
/// What every link with IPv6 carries (RFC 8200).
pub(super) const LEAST_MTU6: usize = 1280;

/// What carries a packet, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Echo requests and their kin, of either family.
    Icmp,
}

impl Protocol {
    fn number(self, like: IpAddr) -> u8 {
        match self {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
            Protocol::Icmp if like.is_ipv4() => ICMP,
            Protocol::Icmp => ICMP6,
        }
    }
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// For whom it is.
    pub destination: IpAddr,
    /// An IPv4 header, with options. Nothing of IPv6.
    header: &'a [u8],
    protocol: u8,
    /// What comes after the headers.
    pub body: &'a [u8],
}

/// The first segment of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronise {
    /// The container's end.
    pub source: SocketAddr,
    /// The foreign end.
    pub destination: SocketAddr,
    /// Its sequence number.
    pub sequence: u32,
}

/// A datagram: UDP, or an echo request, whose identifier takes the place of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The container's end.
    pub source: SocketAddr,
    /// The foreign end.
    pub destination: SocketAddr,
    /// UDP: what it carries. Echo: sequence number and what is carried.
    pub body: &'a [u8],
}

/// Why something does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route.
    Network,
    /// Nobody there.
    Host,
    /// Nobody listens.
    Port,
    /// A filter refuses.
    Prohibited,
    /// Longer than the path carries: that many bytes.
    TooBig(u16),
}

impl Unreachable {
    /// Type and code in the words of ICMP (RFC 792, RFC 1812) and of ICMPv6 (RFC 4443).
    fn code(self, like: IpAddr) -> [u8; 2] {
        match (self, like) {
            (Unreachable::Network, IpAddr::V4(_)) => [3, 0],
            (Unreachable::Host, IpAddr::V4(_)) => [3, 1],
            (Unreachable::Port, IpAddr::V4(_)) => [3, 3],
            (Unreachable::Prohibited, IpAddr::V4(_)) => [3, 13],
            (Unreachable::TooBig(_), IpAddr::V4(_)) => [3, 4],
            (Unreachable::Network, IpAddr::V6(_)) => [1, 0],
            (Unreachable::Host, IpAddr::V6(_)) => [1, 3],
            (Unreachable::Port, IpAddr::V6(_)) => [1, 4],
            (Unreachable::Prohibited, IpAddr::V6(_)) => [1, 1],
            (Unreachable::TooBig(_), IpAddr::V6(_)) => [2, 0],
        }
    }

    /// What comes after the checksum (RFC 1191; RFC 4443, 3.2, where it takes all four bytes).
    fn detail(self) -> [u8; 4] {
        let [high, low] = match self {
            Unreachable::TooBig(mtu) => mtu.to_be_bytes(),
            _ => [0, 0],
        };
        [0, 0, high, low]
    }
}

/// Type of an echo request.
#[must_use]
pub fn echo_request(like: IpAddr) -> u8 {
    if like.is_ipv4() { 8 } else { 128 }
}

impl<'a> Packet<'a> {
    /// Reads an IPv4 packet that is no fragment.
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Packet<'a>> {
        let first = packet.first()?;
        let length = usize::from(first & 0xf) * 4;
        let total = usize::from(number(packet, 2)?);
        if first >> 4 != 4 || length < HEADER || total < length {
            return None;
        }
        let fragment = number(packet, 6)?;
        if fragment & (MORE_FRAGMENTS | 0x1fff) != 0 {
            return None;
        }
        Some(Packet {
            source: address(packet, 12)?,
            destination: address(packet, 16)?,
            header: packet.get(..length)?,
            protocol: *packet.get(9)?,
            body: packet.get(length..total)?,
        })
    }

    /// What a raw socket tells of a packet without its headers.
    #[must_use]
    pub fn of(protocol: Protocol, source: IpAddr, destination: IpAddr, body: &'a [u8]) -> Packet<'a> {
        Packet { source, destination, header: &[], protocol: protocol.number(source), body }
    }

    /// Reads it as the first segment of a TCP connection.
    #[must_use]
    pub fn synchronise(&self) -> Option<Synchronise> {
        let (source, destination) = self.ends(TCP)?;
        let flags = *self.body.get(13)?;
        (self.body.len() >= TCP_HEADER && flags & 0x12 == 0x02).then_some(Synchronise {
            source,
            destination,
            sequence: u32::from_be_bytes(self.body.get(4..8)?.try_into().ok()?),
        })
    }

    /// Reads it as a UDP datagram.
    #[must_use]
    pub fn udp(&self) -> Option<Datagram<'a>> {
        let (source, destination) = self.ends(UDP)?;
        let length = usize::from(number(self.body, 4)?);
        Some(Datagram { source, destination, body: self.body.get(UDP_HEADER..length)? })
    }

    /// Reads it as an echo request.
    #[must_use]
    pub fn echo(&self) -> Option<Datagram<'a>> {
        let is_echo = self.body.get(..2) == Some(&[echo_request(self.source), 0]);
        if self.protocol != Protocol::Icmp.number(self.source) || !is_echo {
            return None;
        }
        let identifier = number(self.body, 4)?;
        Some(Datagram {
            source: SocketAddr::new(self.source, identifier),
            destination: SocketAddr::new(self.destination, 0),
            body: self.body.get(6..).filter(|body| body.len() >= 2)?,
        })
    }

    /// The same packet with its TCP checksum filled in, which containers leave to their network cards.
    #[must_use]
    pub fn with_checksum(&self) -> Vec<u8> {
        let mut body = self.body.to_vec();
        fill(&mut body, 16, pseudo_header(self.source, self.destination, TCP, self.body.len()));
        [self.header(), body].concat()
    }

    fn header(&self) -> Vec<u8> {
        match self.header {
            [] => header(self.protocol, self.source, self.destination, self.body.len()),
            header => header.to_vec(),
        }
    }

    fn ends(&self, protocol: u8) -> Option<(SocketAddr, SocketAddr)> {
        let ports = (number(self.body, 0)?, number(self.body, 2)?);
        (self.protocol == protocol)
            .then_some((SocketAddr::new(self.source, ports.0), SocketAddr::new(self.destination, ports.1)))
    }
}

/// The reset that a closed port answers a SYN with.
#[must_use]
pub fn reset(syn: &Synchronise) -> Vec<u8> {
    let mut body = vec![0; TCP_HEADER];
    put(&mut body, 0, &syn.destination.port().to_be_bytes());
    put(&mut body, 2, &syn.source.port().to_be_bytes());
    put(&mut body, 8, &syn.sequence.wrapping_add(1).to_be_bytes());
    // Five words of header; RST and ACK.
    put(&mut body, 12, &[5 << 4, 0x14]);
    let (from, to) = (syn.destination.ip(), syn.source.ip());
    fill(&mut body, 16, pseudo_header(from, to, TCP, TCP_HEADER));
    whole(TCP, from, to, &body)
}

/// An answer by UDP. `None` when it does not fit in a packet.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + data.len()).ok()?;
    let mut body = vec![0; UDP_HEADER];
    put(&mut body, 0, &from.port().to_be_bytes());
    put(&mut body, 2, &to.port().to_be_bytes());
    put(&mut body, 4, &length.to_be_bytes());
    body.extend_from_slice(data);
    fill(&mut body, 6, pseudo_header(from.ip(), to.ip(), UDP, usize::from(length)));
    if body.get(6..8) == Some(&[0, 0]) {
        // Zero means "none" (RFC 768).
        put(&mut body, 6, &[0xff, 0xff]);
    }
    fits(from.ip(), &body).then(|| whole(UDP, from.ip(), to.ip(), &body))
}

/// The answer to an echo request of `to`, whose port is the identifier; `rest` starts with the sequence number.
#[must_use]
pub fn echo_reply(from: IpAddr, to: SocketAddr, rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = vec![if from.is_ipv4() { 0 } else { 129 }, 0, 0, 0];
    body.extend_from_slice(&to.port().to_be_bytes());
    body.extend_from_slice(rest);
    fill_icmp(&mut body, from, to.ip());
    fits(from, &body).then(|| whole(Protocol::Icmp.number(from), from, to.ip(), &body))
}

/// Tells the sender of a whole packet, without options in IPv6, that it did not arrive.
#[must_use]
pub fn refused(reason: Unreachable, from: IpAddr, to: IpAddr, packet: &[u8]) -> Option<Vec<u8>> {
    let length = if from.is_ipv4() { usize::from(packet.first()? & 0xf) * 4 } else { HEADER6 };
    let (header, body) = packet.split_at_checked(length)?;
    unreachable(reason, from, to, header, body)
}

/// Tells the sender of a UDP datagram that was sent long ago that it did not arrive.
#[must_use]
pub fn udp_refused(reason: Unreachable, from: SocketAddr, to: SocketAddr) -> Option<Vec<u8>> {
    let mut body = vec![0; UDP_HEADER];
    put(&mut body, 0, &from.port().to_be_bytes());
    put(&mut body, 2, &to.port().to_be_bytes());
    put(&mut body, 4, &(UDP_HEADER as u16).to_be_bytes());
    let header = header(UDP, from.ip(), to.ip(), body.len());
    unreachable(reason, from.ip(), to.ip(), &header, &body)
}

/// Tells the sender of an echo request that was sent long ago that it did not arrive.
#[must_use]
pub fn echo_refused(reason: Unreachable, from: SocketAddr, to: IpAddr) -> Option<Vec<u8>> {
    let mut body = vec![0; ICMP_HEADER];
    put(&mut body, 0, &[echo_request(to)]);
    put(&mut body, 4, &from.port().to_be_bytes());
    let header = header(Protocol::Icmp.number(to), from.ip(), to, body.len());
    unreachable(reason, from.ip(), to, &header, &body)
}

fn unreachable(
    reason: Unreachable,
    sender: IpAddr,
    destination: IpAddr,
    header: &[u8],
    body: &[u8],
) -> Option<Vec<u8>> {
    let mut message = vec![0; ICMP_HEADER];
    put(&mut message, 0, &reason.code(sender));
    put(&mut message, 4, &reason.detail());
    message.extend_from_slice(header);
    message.extend_from_slice(body.get(..8)?);
    fill_icmp(&mut message, destination, sender);
    Some(whole(Protocol::Icmp.number(sender), destination, sender, &message))
}

/// A packet without options in pieces that fit a link.
pub(super) fn fragments(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let is_ipv4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let length = if is_ipv4 { HEADER } else { HEADER6 };
    let Some((header, body)) = packet.split_at_checked(length) else { return Vec::new() };
    let identification = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
    let step = (mtu - length - if is_ipv4 { 0 } else { FRAGMENT_HEADER }) & !7;
    let mut pieces = Vec::new();
    for (number, piece) in body.chunks(step).enumerate() {
        let is_last = (number + 1) * step >= body.len();
        let offset = u16::try_from(number * step / 8).unwrap_or(0);
        let fragment = if is_ipv4 {
            let mut fragment = [header, piece].concat();
            let length = u16::try_from(fragment.len()).unwrap_or(0);
            put(&mut fragment, 2, &length.to_be_bytes());
            put(&mut fragment, IDENTIFICATION.start, &identification.to_be_bytes());
            put(&mut fragment, 6, &(offset | if is_last { 0 } else { MORE_FRAGMENTS }).to_be_bytes());
            fragment
        } else {
            let mut between = [0; FRAGMENT_HEADER];
            put(&mut between, 0, header.get(6..7).unwrap_or_default());
            put(&mut between, 2, &(offset << 3 | u16::from(!is_last)).to_be_bytes());
            put(&mut between, 6, &identification.to_be_bytes());
            let mut fragment = [header, &between, piece].concat();
            let length = u16::try_from(FRAGMENT_HEADER + piece.len()).unwrap_or(0);
            put(&mut fragment, 4, &length.to_be_bytes());
            put(&mut fragment, 6, &[FRAGMENT]);
            fragment
        };
        pieces.push(fragment);
    }
    pieces
}

/// Whether the length of the packet can be written down: with its header in IPv4, without it in IPv6.
fn fits(like: IpAddr, body: &[u8]) -> bool {
    body.len() + if like.is_ipv4() { HEADER } else { 0 } <= usize::from(u16::MAX)
}

fn whole(protocol: u8, from: IpAddr, to: IpAddr, body: &[u8]) -> Vec<u8> {
    let mut packet = header(protocol, from, to, body.len());
    packet.extend_from_slice(body);
    packet
}

/// A header without options. Both addresses are of one family.
fn header(protocol: u8, from: IpAddr, to: IpAddr, length: usize) -> Vec<u8> {
    if from.is_ipv4() {
        let mut header = vec![0; HEADER];
        put(&mut header, 0, &[0x45]);
        put(&mut header, 2, &u16::try_from(HEADER + length).unwrap_or(0).to_be_bytes());
        put(&mut header, 8, &[TIME_TO_LIVE, protocol]);
        put(&mut header, 12, &octets(from));
        put(&mut header, 16, &octets(to));
        header
    } else {
        let mut header = vec![0; HEADER6];
        put(&mut header, 0, &[0x60]);
        put(&mut header, 4, &u16::try_from(length).unwrap_or(0).to_be_bytes());
        put(&mut header, 6, &[protocol, TIME_TO_LIVE]);
        put(&mut header, 8, &octets(from));
        put(&mut header, 24, &octets(to));
        header
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Sum of what a checksum covers besides the body.
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> u32 {
    let length = u32::try_from(length).unwrap_or(0);
    sum(&octets(from)) + sum(&octets(to)) + u32::from(protocol) + length
}

/// The checksum of ICMP covers the body alone, that of ICMPv6 the addresses, too.
fn fill_icmp(body: &mut [u8], from: IpAddr, to: IpAddr) {
    let start = if from.is_ipv4() { 0 } else { pseudo_header(from, to, ICMP6, body.len()) };
    fill(body, 2, start);
}

/// Computes the checksum of `body` into two bytes of it.
fn fill(body: &mut [u8], at: usize, start: u32) {
    put(body, at, &[0, 0]);
    let mut total = start + sum(body);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // No more than 16 bits are left.
    let checksum = !(total as u16);
    put(body, at, &checksum.to_be_bytes());
}

/// At most 32,768 words of 16 bits: no overflow.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    };
    bytes.chunks(2).map(word).sum()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

/// Overwrites what lies within `bytes`.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(is_ipv4: bool) -> (SocketAddr, SocketAddr) {
        let (web, far) = if is_ipv4 {
            ("172.18.0.2:40000", "1.2.3.4:80")
        } else {
            ("[fd00::2]:40000", "[2001:db8::1]:80")
        };
        (web.parse().unwrap(), far.parse().unwrap())
    }

    /// As a raw socket shows it: without its header in IPv6.
    fn parse(packet: &[u8]) -> Option<Packet<'_>> {
        if packet[0] >> 4 == 4 {
            return Packet::parse(packet);
        }
        let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        assert_eq!(usize::from(number(packet, 4).unwrap()), packet.len() - HEADER6);
        let body = &packet[HEADER6..];
        let (source, destination, protocol) = (ip(8), ip(24), packet[6]);
        Some(Packet { source, destination, header: &[], protocol, body })
    }

    /// A receiver adds everything up, the checksum too, and gets all ones.
    fn is_summed(packet: &[u8]) -> bool {
        let packet = parse(packet).unwrap();
        let start = match packet.protocol {
            ICMP => 0,
            protocol => pseudo_header(packet.source, packet.destination, protocol, packet.body.len()),
        };
        let mut total = start + sum(packet.body);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total == 0xffff
    }

    fn syn(web: SocketAddr, far: SocketAddr) -> Vec<u8> {
        let mut body = vec![0; TCP_HEADER];
        put(&mut body, 0, &web.port().to_be_bytes());
        put(&mut body, 2, &far.port().to_be_bytes());
        put(&mut body, 4, &u32::MAX.to_be_bytes());
        put(&mut body, 12, &[5 << 4, 0x02]);
        whole(TCP, web.ip(), far.ip(), &body)
    }

    #[test]
    fn a_syn_is_read_answered_and_passed_on() {
        for (web, far) in [ends(true), ends(false)] {
            let packet = syn(web, far);
            let parsed = parse(&packet).unwrap();
            let syn = parsed.synchronise().unwrap();
            assert_eq!(syn, Synchronise { source: web, destination: far, sequence: u32::MAX });
            assert!(is_summed(&parsed.with_checksum()) && !is_summed(&packet));
            let answer = reset(&syn);
            assert!(is_summed(&answer));
            let answer = parse(&answer).unwrap();
            assert_eq!((answer.source, answer.destination), (far.ip(), web.ip()));
            // Acknowledges what comes after the SYN: 2^32 - 1 + 1.
            assert_eq!((&answer.body[8..12], answer.body[13]), (&[0; 4][..], 0x14));
            assert_eq!(answer.synchronise(), None);
            let refusal = refused(Unreachable::Network, web.ip(), far.ip(), &packet).unwrap();
            assert!(is_summed(&refusal));
            let refusal = parse(&refusal).unwrap();
            assert_eq!((refusal.source, refusal.destination), (far.ip(), web.ip()));
            assert!(refusal.body.ends_with(&packet[packet.len() - TCP_HEADER..][..8]));
        }
    }

    #[test]
    fn datagrams_go_both_ways() {
        for (web, far) in [ends(true), ends(false)] {
            for length in [0, 1, 2, 1472, 1473, 9000, 65_507] {
                let data: Vec<u8> = (0..length).map(|at: u32| at as u8).collect();
                let packet = udp(far, web, &data).unwrap();
                assert!(is_summed(&packet), "{length}");
                let read = parse(&packet).unwrap().udp().unwrap();
                assert_eq!((read.source, read.destination, read.body), (far, web, &data[..]));
                let skipped = if web.is_ipv4() { HEADER } else { HEADER6 + FRAGMENT_HEADER };
                let pieces = fragments(&packet, USUAL_MTU);
                assert!(pieces.iter().all(|piece| piece.len() <= USUAL_MTU));
                let whole: Vec<u8> = pieces.iter().flat_map(|piece| &piece[skipped..]).copied().collect();
                let header = if web.is_ipv4() { HEADER } else { HEADER6 };
                assert_eq!(whole, packet[header..]);
            }
            let longest = if web.is_ipv4() { 65_507 } else { 65_527 };
            assert_eq!(udp(far, web, &vec![0; longest + 1]), None);
        }
    }

    #[test]
    fn echo_and_refusals() {
        for (web, far) in [ends(true), ends(false)] {
            let icmp = Protocol::Icmp.number(web.ip());
            let request = [echo_request(web.ip()), 0, 0, 0, 0x12, 0x34, 0, 1, 9, 9];
            let request = whole(icmp, web.ip(), far.ip(), &request);
            let request = parse(&request).unwrap();
            let echo = request.echo().unwrap();
            assert_eq!((echo.source.port(), echo.body), (0x1234, &[0, 1, 9, 9][..]));
            let reply = echo_reply(far.ip(), echo.source, echo.body).unwrap();
            assert!(is_summed(&reply));
            assert_eq!(parse(&reply).unwrap().body[4..], request.body[4..]);

            let refusal = udp_refused(Unreachable::Port, web, far).unwrap();
            assert!(is_summed(&refusal));
            let refusal = parse(&refusal).unwrap();
            assert_eq!((refusal.source, refusal.destination), (far.ip(), web.ip()));
            assert_eq!(refusal.body[..2], if web.is_ipv4() { [3, 3] } else { [1, 4] });
            assert_eq!(parse(&refusal.body[8..]).unwrap().udp().unwrap().destination, far);
            let narrow = udp_refused(Unreachable::TooBig(1280), web, far).unwrap();
            assert!(is_summed(&narrow));
            let narrow = parse(&narrow).unwrap().body;
            assert_eq!(narrow[..2], if web.is_ipv4() { [3, 4] } else { [2, 0] });
            assert_eq!(narrow[4..8], [0, 0, 5, 0]);
            let refusal = echo_refused(Unreachable::Host, echo.source, far.ip()).unwrap();
            assert!(is_summed(&refusal));
            let inner = parse(&refusal).unwrap();
            assert_eq!(parse(&inner.body[8..]).unwrap().echo().unwrap().source, echo.source);
        }
    }

    #[test]
    fn damaged_packets_are_nothing() {
        let (web, far) = ends(true);
        let packet = syn(web, far);
        for length in 0..packet.len() {
            assert_eq!(Packet::parse(&packet[..length]), None, "{length}");
        }
        for at in 0..packet.len() {
            for value in [0, 1, 0x0f, 0x7f, 0xff] {
                let mut damaged = packet.clone();
                damaged[at] = value;
                if let Some(read) = Packet::parse(&damaged) {
                    let _ = (read.synchronise(), read.udp(), read.echo(), read.with_checksum());
                }
            }
        }
        let mut fragment = packet.clone();
        fragment[6] = 0x20;
        assert_eq!(Packet::parse(&fragment), None);
        let (web, far) = ends(false);
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            for length in 0..packet.len() {
                let read = Packet::of(protocol, web.ip(), far.ip(), &packet[..length]);
                let _ = (read.synchronise(), read.udp(), read.echo(), read.with_checksum());
            }
        }
    }
}
