//! One rtnetlink socket, used in step: a request, its acknowledgement.
//!
//! Only the message kinds that are needed are decoded; the crate's catch-all message type would pull in all the others.

use std::io;
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Message types of rtnetlink(7) that are sent from here.
pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const DELETE_ROUTE: u16 = 25;
pub(super) const NEW_RULE: u16 = 32;
pub(super) const DELETE_RULE: u16 = 33;

/// The kernel splits dumps into datagrams of at most this size.
const DATAGRAM: usize = 32 * 1024;
const ALIGNMENT: usize = 4;

/// A netlink socket of the network namespace in which it was opened, whoever uses it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Netlink> {
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends a request and waits until the kernel has carried it out.
    pub(super) fn request(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> io::Result<()> {
        self.exchange(kind, flags | NLM_F_ACK, body).map(drop)
    }

    /// All links of the namespace.
    pub(super) fn links(&mut self) -> io::Result<Vec<LinkMessage>> {
        let mut filter = LinkMessage::default();
        filter.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.exchange(GET_LINK, NLM_F_DUMP, &filter)
    }

    /// The link with this name, `NotFound` (by `ENODEV`) when there is none.
    pub(super) fn link(&mut self, name: &str) -> io::Result<LinkMessage> {
        let mut filter = LinkMessage::default();
        filter.attributes.push(LinkAttribute::IfName(name.to_owned()));
        filter.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.exchange(GET_LINK, NLM_F_ACK, &filter)?.pop().ok_or_else(|| Errno::NODEV.into())
    }

    fn exchange(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> io::Result<Vec<LinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Body { kind, body }));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;

        let mut links = Vec::new();
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let (length, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut datagram, RecvFlags::empty())
            })?;
            let mut rest = datagram.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<Link>::deserialize(rest).map_err(io::Error::other)?;
                let step = usize::try_from(message.header.length).map_err(io::Error::other)?;
                rest = rest.get(step.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(links),
                    NetlinkPayload::InnerMessage(Link(link)) => links.push(link),
                    _ => {}
                }
            }
        }
    }
}

/// A request on its way out.
struct Body<'a, T> {
    kind: u16,
    body: &'a T,
}

impl<T: Emitable> NetlinkSerializable for Body<'_, T> {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.body.emit(buffer);
    }
}

/// A link on its way in; nothing else is asked for.
struct Link(LinkMessage);

impl NetlinkDeserializable for Link {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Link, DecodeError> {
        LinkMessage::parse(payload).map(Link)
    }
}
