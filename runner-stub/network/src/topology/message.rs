//! The bytes of rtnetlink(7): a header of each kind, then attributes; every number in the machine's own byte order.
//!
//! Nine kinds of request are sent from here and one kind of answer is read. The crates that know all of rtnetlink add
//! 220 KB to every executable, so these few are spelled out, with the names of `linux/rtnetlink.h` and its kin.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

/// Message types.
pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const DELETE_ROUTE: u16 = 25;
pub(super) const NEW_NEIGHBOUR: u16 = 28;
pub(super) const NEW_RULE: u16 = 32;
pub(super) const DELETE_RULE: u16 = 33;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Flags of a request.
const REQUEST: u16 = 0x1;
pub(super) const ACKNOWLEDGE: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const REPLACE: u16 = 0x100;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;

/// `IFLA_*` of links, and what is nested in them.
pub(super) mod link {
    pub(in super::super) const ADDRESS: u16 = 1;
    pub(in super::super) const NAME: u16 = 3;
    pub(in super::super) const MTU: u16 = 4;
    pub(in super::super) const PEER: u16 = 5;
    pub(in super::super) const CONTROLLER: u16 = 10;
    pub(in super::super) const INFO: u16 = 18;
    pub(in super::super) const ALIAS: u16 = 20;
    pub(in super::super) const NAMESPACE: u16 = 28;
    pub(in super::super) const EXTENSIONS: u16 = 29;
    pub(in super::super) const INFO_KIND: u16 = 1;
    pub(in super::super) const INFO_DATA: u16 = 2;
    pub(in super::super) const PORT_KIND: u16 = 4;
    pub(in super::super) const PORT_DATA: u16 = 5;
    pub(in super::super) const VETH_PEER: u16 = 1;
    /// `IFLA_BRPORT_ISOLATED`, Linux 4.18.
    pub(in super::super) const PORT_ISOLATED: u16 = 33;
    /// `RTEXT_FILTER_SKIP_STATS`: a value of [`EXTENSIONS`].
    pub(in super::super) const WITHOUT_STATISTICS: u32 = 8;
    /// `IFF_UP`.
    pub(in super::super) const UP: u32 = 1;
}

/// `IFA_*` of addresses.
pub(super) mod address {
    pub(in super::super) const ADDRESS: u16 = 1;
    pub(in super::super) const LOCAL: u16 = 2;
    pub(in super::super) const BROADCAST: u16 = 4;
    pub(in super::super) const LIFETIME: u16 = 6;
    /// `struct ifa_cacheinfo` of an address that lasts, and is not chosen by the kernel when it has another one.
    pub(in super::super) const DEPRECATED: [u8; 16] =
        [0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0];
    /// `IFA_F_NODAD`, of the header: nobody else has the address, so it can be used at once.
    pub(in super::super) const UNIQUE: u8 = 2;
}

/// `RTA_*` of routes, and values of their header.
pub(super) mod route {
    pub(in super::super) const DESTINATION: u16 = 1;
    pub(in super::super) const LINK: u16 = 4;
    pub(in super::super) const GATEWAY: u16 = 5;
    pub(in super::super) const PRIORITY: u16 = 6;
    pub(in super::super) const TABLE: u16 = 15;
    pub(in super::super) const UNICAST: u8 = 1;
    pub(in super::super) const LOCAL: u8 = 2;
    pub(in super::super) const MULTICAST: u8 = 5;
    pub(in super::super) const UNREACHABLE: u8 = 7;
    pub(in super::super) const SCOPE_UNIVERSE: u8 = 0;
    pub(in super::super) const SCOPE_LINK: u8 = 253;
    pub(in super::super) const SCOPE_HOST: u8 = 254;
    /// `RTPROT_BOOT`: set by an administrator's program.
    pub(in super::super) const PROTOCOL_BOOT: u8 = 3;
}

/// `NDA_*` of neighbours, and values of their header.
pub(super) mod neighbour {
    pub(in super::super) const ADDRESS: u16 = 1;
    pub(in super::super) const HARDWARE_ADDRESS: u16 = 2;
    /// `NUD_NOARP` and `NUD_PERMANENT`.
    pub(in super::super) const STATIC: u16 = 0x40;
    pub(in super::super) const PERMANENT: u16 = 0x80;
    /// `NTF_MASTER`: of the bridge that the link is a port of.
    pub(in super::super) const CONTROLLER: u8 = 1 << 2;
    /// `NTF_STICKY`: by no other port, whatever comes by it. Linux 5.0; older kernels pass over it.
    pub(in super::super) const STICKY: u8 = 1 << 6;
    /// `AF_BRIDGE`.
    pub(in super::super) const BRIDGE: u8 = 7;
}

/// `FRA_*` of rules, and the actions of a rule.
pub(super) mod rule {
    pub(in super::super) const SOURCE: u16 = 2;
    pub(in super::super) const INCOMING: u16 = 3;
    pub(in super::super) const PRIORITY: u16 = 6;
    pub(in super::super) const MARK: u16 = 10;
    pub(in super::super) const TABLE: u16 = 15;
    /// Both since Linux 4.17.
    pub(in super::super) const PROTOCOL: u16 = 22;
    pub(in super::super) const SOURCE_PORTS: u16 = 23;
    /// Values of the first.
    pub(in super::super) const TCP: u8 = 6;
    pub(in super::super) const UDP: u8 = 17;
    pub(in super::super) const TO_TABLE: u8 = 1;
    pub(in super::super) const BLACKHOLE: u8 = 6;
    pub(in super::super) const UNREACHABLE: u8 = 7;
}

/// Length of `struct nlmsghdr` and of `struct ifinfomsg`.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const ALIGNMENT: usize = 4;
/// `NLA_F_NESTED`, of an attribute's type.
const NESTED: u16 = 0x8000;

/// Which addresses a message is about: `AF_INET` or `AF_INET6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Family {
    V4 = 2,
    V6 = 10,
}

impl Family {
    pub(super) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// What follows a message's header, or is nested in an attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body(Vec<u8>);

impl Body {
    /// `struct ifinfomsg`; the flags named are set, the others stay.
    pub(super) fn link(index: u32, flags: u32) -> Body {
        let mut bytes = vec![0; 4];
        for number in [index, flags, flags] {
            bytes.extend(number.to_ne_bytes());
        }
        Body(bytes)
    }

    /// `struct ifaddrmsg`.
    pub(super) fn address(family: Family, index: u32, prefix: u8, flags: u8) -> Body {
        let mut bytes = vec![family as u8, prefix, flags, 0];
        bytes.extend(index.to_ne_bytes());
        Body(bytes)
    }

    /// `struct ndmsg`.
    pub(super) fn neighbour(family: u8, index: u32, state: u16, flags: u8) -> Body {
        let mut bytes = vec![family, 0, 0, 0];
        bytes.extend(index.to_ne_bytes());
        bytes.extend(state.to_ne_bytes());
        bytes.extend([flags, 0]);
        Body(bytes)
    }

    /// `struct rtmsg`. Table 0 leaves it to an attribute.
    pub(super) fn route(family: Family, prefix: u8, table: u8, scope: u8, kind: u8) -> Body {
        Body(vec![family as u8, prefix, 0, 0, table, route::PROTOCOL_BOOT, scope, kind, 0, 0, 0, 0])
    }

    /// `RTNH_F_ONLINK` for a route: the gateway is on the link, whatever other routes say.
    pub(super) fn on_link(mut self) -> Body {
        if let Some(flags) = self.0.get_mut(8..12) {
            flags.copy_from_slice(&4_u32.to_ne_bytes());
        }
        self
    }

    /// `struct fib_rule_hdr`. The prefix is that of the source; 0 when any will do.
    pub(super) fn rule(family: Family, action: u8, source_prefix: u8) -> Body {
        Body(vec![family as u8, 0, source_prefix, 0, 0, 0, 0, action, 0, 0, 0, 0])
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Body {
        // 64 KiB and more cannot be said; nothing here comes near (names, addresses, numbers)
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    pub(super) fn with_number(self, kind: u16, value: u32) -> Body {
        self.with(kind, &value.to_ne_bytes())
    }

    pub(super) fn with_ip(self, kind: u16, value: IpAddr) -> Body {
        match value {
            IpAddr::V4(value) => self.with(kind, &value.octets()),
            IpAddr::V6(value) => self.with(kind, &value.octets()),
        }
    }

    pub(super) fn with_nested(self, kind: u16, value: &Body) -> Body {
        self.with(kind, &value.0)
    }

    /// `struct nfgenmsg`: what packet filters' messages start with.
    pub(super) fn filter(family: u8, resource: u16) -> Body {
        let [high, low] = resource.to_be_bytes();
        Body(vec![family, 0, high, low])
    }

    /// Adds a text, with the zero at its end.
    pub(super) fn with_text(self, kind: u16, text: &str) -> Body {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }

    /// Adds a number as packet filters have them: the first byte counts most.
    pub(super) fn with_network_number(self, kind: u16, value: u32) -> Body {
        self.with(kind, &value.to_be_bytes())
    }

    /// Nests an attribute that says that it is nested, as packet filters want it.
    pub(super) fn with_marked(self, kind: u16, value: &Body) -> Body {
        self.with(kind | NESTED, &value.0)
    }

    /// The whole request.
    pub(super) fn into_request(self, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.0.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((REQUEST | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]); // to the kernel
        bytes.extend(self.0);
        bytes
    }
}

/// What the kernel answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// Carried out; nothing follows.
    Done,
    /// Refused.
    Refused(Errno),
    /// A link.
    Link(LinkAnswer<'a>),
    /// Something else: the message's type, and what follows its header.
    Other { kind: u16, body: &'a [u8] },
}

/// One message of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received<'a> {
    pub(super) sequence: u32,
    pub(super) answer: Answer<'a>,
}

/// `struct ifinfomsg` and its attributes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LinkAnswer<'a> {
    pub(super) index: u32,
    attributes: &'a [u8],
}

/// Takes the first message off a datagram; none when nothing is left.
pub(super) fn next_message<'a>(datagram: &mut &'a [u8]) -> io::Result<Option<Received<'a>>> {
    if datagram.is_empty() {
        return Ok(None);
    }
    let length = number(datagram, 0)? as usize;
    let message = datagram.get(..length).filter(|message| message.len() >= HEADER).ok_or_else(nonsense)?;
    *datagram = datagram.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    let body = message.get(HEADER..).unwrap_or_default();
    let answer = match half(message, 4)? {
        DONE => Answer::Done,
        ERROR => match number(body, 0)?.cast_signed() {
            0 => Answer::Done,
            code @ -4095..0 => Answer::Refused(Errno::from_raw_os_error(-code)),
            _ => return Err(nonsense()),
        },
        NEW_LINK => Answer::Link(LinkAnswer {
            index: number(body, 4)?,
            attributes: body.get(LINK_HEADER..).ok_or_else(nonsense)?,
        }),
        kind => Answer::Other { kind, body },
    };
    Ok(Some(Received { sequence: number(message, 8)?, answer }))
}

impl<'a> LinkAnswer<'a> {
    /// Kind and value of each attribute.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        attributes(self.attributes)
    }
}

/// For `fuzz`: everything that is in a datagram, as it is read elsewhere.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_all(mut datagram: &[u8]) {
    while let Ok(Some(received)) = next_message(&mut datagram) {
        if let Answer::Link(link) = received.answer {
            for (_, value) in link.attributes() {
                let _ = (value_number(value), value_text(value));
            }
        }
    }
}

/// Kind and value of each attribute.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0).ok()?);
        let kind = half(rest, 2).ok()? & !NESTED;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number that is an attribute's whole value.
pub(super) fn value_number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A text that is an attribute's whole value, with or without the zero at its end.
pub(super) fn value_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    bytes.get(at..at + 4).and_then(value_number).ok_or_else(nonsense)
}

fn half(bytes: &[u8], at: usize) -> io::Result<u16> {
    let bytes = bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u16::from_ne_bytes).ok_or_else(nonsense)
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's netlink message makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ip link add name br0 type bridge` sends on a little-endian machine, by strace, without its padding choices.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_request_is_laid_out_as_the_kernel_reads_it() {
        let info = Body::default().with(link::INFO_KIND, b"bridge");
        let body = Body::link(0, 0).with(link::NAME, b"br0\0").with_nested(link::INFO, &info);
        let expected: &[u8] = &[
            56, 0, 0, 0, 16, 0, 5, 6, 7, 0, 0, 0, 0, 0, 0,
            0, // length, NEW_LINK, flags, sequence, to the kernel
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // ifinfomsg
            8, 0, 3, 0, b'b', b'r', b'0', 0, // IFLA_IFNAME
            16, 0, 18, 0, // IFLA_LINKINFO
            10, 0, 1, 0, b'b', b'r', b'i', b'd', b'g', b'e', 0, 0, // IFLA_INFO_KIND, padded
        ];
        assert_eq!(body.into_request(NEW_LINK, CREATE | EXCLUSIVE | ACKNOWLEDGE, 7), expected);
    }

    #[test]
    fn answers_are_told_apart_and_read() {
        let link = Body::link(9, 0).with(link::NAME, b"lo\0").with_number(link::CONTROLLER, 3);
        let refused = Body::default().with(0, &[]).0; // any four bytes
        let mut datagram = link.into_request(NEW_LINK, 0, 4);
        datagram.extend(Body((-17_i32).to_ne_bytes().to_vec()).into_request(ERROR, 0, 5));
        datagram.extend(Body(vec![0; 4]).into_request(ERROR, 0, 6));
        datagram.extend(Body(refused).into_request(99, 0, 7));

        let mut rest = datagram.as_slice();
        let first = next_message(&mut rest).unwrap().unwrap();
        let Answer::Link(link) = first.answer else { panic!("{first:?}") };
        assert_eq!((first.sequence, link.index), (4, 9));
        let attributes: Vec<_> = link.attributes().collect();
        assert_eq!(attributes, [(link::NAME, b"lo\0".as_slice()), (link::CONTROLLER, &3_u32.to_ne_bytes())]);
        assert_eq!(value_text(attributes[0].1), "lo");
        assert_eq!(value_number(attributes[1].1), Some(3));
        let mut next = || next_message(&mut rest).unwrap();
        assert_eq!(next(), Some(Received { sequence: 5, answer: Answer::Refused(Errno::EXIST) }));
        assert_eq!(next(), Some(Received { sequence: 6, answer: Answer::Done }));
        assert_eq!(
            next(),
            Some(Received { sequence: 7, answer: Answer::Other { kind: 99, body: &[4, 0, 0, 0] } })
        );
        assert_eq!(next(), None);
    }

    #[test]
    fn a_message_that_is_cut_short_is_refused_and_never_read_past() {
        let whole = Body::link(9, 0).with(link::NAME, b"lo\0").into_request(NEW_LINK, 0, 4);
        for length in 1..whole.len() {
            assert!(next_message(&mut &whole[..length]).is_err(), "{length}");
        }
        // an attribute that claims more than there is ends the list
        let mut lies = Body::link(9, 0).with(link::NAME, b"lo\0").into_request(NEW_LINK, 0, 4);
        lies[32] = 200;
        let Some(Received { answer: Answer::Link(link), .. }) = next_message(&mut lies.as_slice()).unwrap()
        else {
            panic!("no link")
        };
        assert_eq!(link.attributes().count(), 0);
    }
}
