//! Packets as bytes: what is read from them, and those that are made. Pure; lengths are hostile until checked.
//!
//! Public so that it can be fuzzed. Total length, checksum and (where it is zero) identification of an IPv4 header are
//! filled in by the kernel when a raw socket sends it.

use std::net::{Ipv4Addr, SocketAddrV4};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
/// An IPv4 header without options.
const HEADER: usize = 20;
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

/// An IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: Ipv4Addr,
    /// For whom it is.
    pub destination: Ipv4Addr,
    /// The header, with options.
    pub header: &'a [u8],
    /// What comes after the header.
    pub body: &'a [u8],
}

/// The first segment of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronise {
    /// The container's end.
    pub source: SocketAddrV4,
    /// The foreign end.
    pub destination: SocketAddrV4,
    /// Its sequence number.
    pub sequence: u32,
}

/// A datagram: UDP, or an echo request, whose identifier takes the place of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// The container's end.
    pub source: SocketAddrV4,
    /// The foreign end.
    pub destination: SocketAddrV4,
    /// UDP: what it carries. Echo: sequence number and what is carried.
    pub body: &'a [u8],
}

/// Why something does not arrive, in the words of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route.
    Network = 0,
    /// Nobody there.
    Host = 1,
    /// Nobody listens.
    Port = 3,
    /// A filter refuses.
    Prohibited = 13,
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
            body: packet.get(length..total)?,
        })
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
        if self.protocol() != Some(ICMP) || self.body.first() != Some(&8) || self.body.get(1) != Some(&0) {
            return None;
        }
        let identifier = number(self.body, 4)?;
        Some(Datagram {
            source: SocketAddrV4::new(self.source, identifier),
            destination: SocketAddrV4::new(self.destination, 0),
            body: self.body.get(6..).filter(|body| body.len() >= 2)?,
        })
    }

    /// The same packet with its TCP checksum filled in, which containers leave to their network cards.
    #[must_use]
    pub fn with_checksum(&self) -> Vec<u8> {
        let mut packet = [self.header, self.body].concat();
        if let Some(body) = packet.get_mut(self.header.len()..) {
            fill(body, 16, pseudo_header(self.source, self.destination, TCP, self.body.len()));
        }
        packet
    }

    fn protocol(&self) -> Option<u8> {
        self.header.get(9).copied()
    }

    fn ends(&self, protocol: u8) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let ports = (number(self.body, 0)?, number(self.body, 2)?);
        (self.protocol() == Some(protocol)).then_some((
            SocketAddrV4::new(self.source, ports.0),
            SocketAddrV4::new(self.destination, ports.1),
        ))
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
    let (from, to) = (*syn.destination.ip(), *syn.source.ip());
    fill(&mut body, 16, pseudo_header(from, to, TCP, TCP_HEADER));
    whole(TCP, from, to, &body)
}

/// An answer by UDP. `None` when it does not fit in a packet.
#[must_use]
pub fn udp(from: SocketAddrV4, to: SocketAddrV4, data: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP_HEADER + data.len()).ok()?;
    let mut body = vec![0; UDP_HEADER];
    put(&mut body, 0, &from.port().to_be_bytes());
    put(&mut body, 2, &to.port().to_be_bytes());
    put(&mut body, 4, &length.to_be_bytes());
    body.extend_from_slice(data);
    fill(&mut body, 6, pseudo_header(*from.ip(), *to.ip(), UDP, usize::from(length)));
    if body.get(6..8) == Some(&[0, 0]) {
        // Zero means "none" (RFC 768).
        put(&mut body, 6, &[0xff, 0xff]);
    }
    (HEADER + body.len() <= usize::from(u16::MAX)).then(|| whole(UDP, *from.ip(), *to.ip(), &body))
}

/// The answer to an echo request of `to`, whose port is the identifier; `rest` starts with the sequence number.
#[must_use]
pub fn echo_reply(from: Ipv4Addr, to: SocketAddrV4, rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&to.port().to_be_bytes());
    body.extend_from_slice(rest);
    fill(&mut body, 2, 0);
    (HEADER + body.len() <= usize::from(u16::MAX)).then(|| whole(ICMP, from, *to.ip(), &body))
}

/// Tells the sender of a packet, given by its header and at least eight bytes of its body, that it did not arrive.
#[must_use]
pub fn unreachable(reason: Unreachable, header: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let (from, to) = (address(header, 16)?, address(header, 12)?);
    let mut message = vec![0; ICMP_HEADER];
    put(&mut message, 0, &[3, reason as u8]);
    message.extend_from_slice(header);
    message.extend_from_slice(body.get(..8)?);
    fill(&mut message, 2, 0);
    Some(whole(ICMP, from, to, &message))
}

/// Header and first eight bytes of a UDP datagram that was sent long ago, for [`unreachable()`].
#[must_use]
pub fn udp_head(from: SocketAddrV4, to: SocketAddrV4) -> (Vec<u8>, Vec<u8>) {
    let mut packet = whole(UDP, *from.ip(), *to.ip(), &[0; UDP_HEADER]);
    let mut body = packet.split_off(HEADER);
    put(&mut body, 0, &from.port().to_be_bytes());
    put(&mut body, 2, &to.port().to_be_bytes());
    put(&mut body, 4, &(UDP_HEADER as u16).to_be_bytes());
    (packet, body)
}

/// Header and first eight bytes of an echo request that was sent long ago, for [`unreachable()`].
#[must_use]
pub fn echo_head(from: SocketAddrV4, to: Ipv4Addr) -> (Vec<u8>, Vec<u8>) {
    let mut packet = whole(ICMP, *from.ip(), to, &[8, 0, 0, 0, 0, 0, 0, 0]);
    let mut body = packet.split_off(HEADER);
    put(&mut body, 4, &from.port().to_be_bytes());
    (packet, body)
}

/// A packet without options in pieces that fit a link.
pub(super) fn fragments(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let Some((header, body)) = packet.split_at_checked(HEADER) else { return Vec::new() };
    let identification = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
    let step = (mtu - HEADER) & !7;
    let mut pieces = Vec::new();
    for (number, piece) in body.chunks(step).enumerate() {
        let is_last = (number + 1) * step >= body.len();
        let offset = u16::try_from(number * step / 8).unwrap_or(0);
        let mut fragment = [header, piece].concat();
        let length = u16::try_from(fragment.len()).unwrap_or(0);
        put(&mut fragment, 2, &length.to_be_bytes());
        put(&mut fragment, IDENTIFICATION.start, &identification.to_be_bytes());
        put(&mut fragment, 6, &(offset | if is_last { 0 } else { MORE_FRAGMENTS }).to_be_bytes());
        pieces.push(fragment);
    }
    pieces
}

fn whole(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER];
    let length = u16::try_from(HEADER + body.len()).unwrap_or(0);
    put(&mut packet, 0, &[0x45]);
    put(&mut packet, 2, &length.to_be_bytes());
    put(&mut packet, 8, &[TIME_TO_LIVE, protocol]);
    put(&mut packet, 12, &from.octets());
    put(&mut packet, 16, &to.octets());
    packet.extend_from_slice(body);
    packet
}

/// Sum of what a checksum covers besides the body.
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, length: usize) -> u32 {
    let length = u32::try_from(length).unwrap_or(0);
    sum(&from.octets()) + sum(&to.octets()) + u32::from(protocol) + length
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

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
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

    const WEB: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 18, 0, 2), 40_000);
    const FAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 80);

    /// A receiver adds everything up, the checksum too, and gets all ones.
    fn is_summed(protocol: u8, packet: &[u8]) -> bool {
        let packet = Packet::parse(packet).unwrap();
        let start = match protocol {
            ICMP => 0,
            _ => pseudo_header(packet.source, packet.destination, protocol, packet.body.len()),
        };
        let mut total = start + sum(packet.body);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        total == 0xffff
    }

    fn syn() -> Vec<u8> {
        let mut body = vec![0; TCP_HEADER];
        put(&mut body, 0, &WEB.port().to_be_bytes());
        put(&mut body, 2, &FAR.port().to_be_bytes());
        put(&mut body, 4, &u32::MAX.to_be_bytes());
        put(&mut body, 12, &[5 << 4, 0x02]);
        whole(TCP, *WEB.ip(), *FAR.ip(), &body)
    }

    #[test]
    fn a_syn_is_read_answered_and_passed_on() {
        let packet = syn();
        let parsed = Packet::parse(&packet).unwrap();
        let syn = parsed.synchronise().unwrap();
        assert_eq!(syn, Synchronise { source: WEB, destination: FAR, sequence: u32::MAX });
        assert!(is_summed(TCP, &parsed.with_checksum()) && !is_summed(TCP, &packet));
        let answer = reset(&syn);
        assert!(is_summed(TCP, &answer));
        let answer = Packet::parse(&answer).unwrap();
        assert_eq!((answer.source, answer.destination), (*FAR.ip(), *WEB.ip()));
        // Acknowledges what comes after the SYN: 2^32 - 1 + 1.
        assert_eq!((&answer.body[8..12], answer.body[13]), (&[0; 4][..], 0x14));
        assert_eq!(answer.synchronise(), None);
    }

    #[test]
    fn datagrams_go_both_ways() {
        for length in [0, 1, 2, 1472, 1473, 9000, 65_507] {
            let data: Vec<u8> = (0..length).map(|at: u32| at as u8).collect();
            let packet = udp(FAR, WEB, &data).unwrap();
            assert!(is_summed(UDP, &packet), "{length}");
            let read = Packet::parse(&packet).unwrap().udp().unwrap();
            assert_eq!((read.source, read.destination, read.body), (FAR, WEB, &data[..]));
            let pieces = fragments(&packet, USUAL_MTU);
            assert!(pieces.iter().all(|piece| piece.len() <= USUAL_MTU));
            let whole: Vec<u8> = pieces.iter().flat_map(|piece| &piece[HEADER..]).copied().collect();
            assert_eq!(whole, packet[HEADER..]);
        }
        assert_eq!(udp(FAR, WEB, &[0; 65_508]), None);
    }

    #[test]
    fn echo_and_refusals() {
        let request = whole(ICMP, *WEB.ip(), *FAR.ip(), &[8, 0, 0, 0, 0x12, 0x34, 0, 1, 9, 9]);
        let request = Packet::parse(&request).unwrap();
        let echo = request.echo().unwrap();
        assert_eq!((echo.source.port(), echo.body), (0x1234, &[0, 1, 9, 9][..]));
        let reply = echo_reply(*FAR.ip(), echo.source, echo.body).unwrap();
        assert!(is_summed(ICMP, &reply));
        assert_eq!(Packet::parse(&reply).unwrap().body[4..], request.body[4..]);

        let (header, body) = udp_head(WEB, FAR);
        let refusal = unreachable(Unreachable::Port, &header, &body).unwrap();
        assert!(is_summed(ICMP, &refusal));
        let refusal = Packet::parse(&refusal).unwrap();
        assert_eq!((refusal.source, refusal.destination), (*FAR.ip(), *WEB.ip()));
        assert_eq!(refusal.body[..2], [3, 3]);
        assert_eq!(Packet::parse(&refusal.body[8..]).unwrap().udp().unwrap().destination, FAR);
    }

    #[test]
    fn damaged_packets_are_nothing() {
        let packet = syn();
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
        let mut fragment = packet;
        fragment[6] = 0x20;
        assert_eq!(Packet::parse(&fragment), None);
    }
}
