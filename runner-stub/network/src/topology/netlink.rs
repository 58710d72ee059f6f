//! One netlink socket, used in step: a request, its acknowledgement.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::links::Link;
use super::message::{self, ACKNOWLEDGE, Answer, Body, DUMP, GET_LINK, Received, link};

/// The kernel splits dumps into datagrams of at most this size.
const DATAGRAM: usize = 32 * 1024;

/// A netlink socket of the network namespace in which it was opened, whoever uses it.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket for links, addresses and routes in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Netlink> {
        Netlink::open_for(None)
    }

    /// Opens a socket for packet filters there.
    pub(super) fn open_for_filters() -> io::Result<Netlink> {
        Netlink::open_for(Some(netlink::NETFILTER))
    }

    fn open_for(protocol: Option<Protocol>) -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends a request and waits until the kernel has carried it out.
    pub(super) fn request(&mut self, kind: u16, flags: u16, body: Body) -> io::Result<()> {
        self.exchange(kind, flags | ACKNOWLEDGE, body).map(drop)
    }

    /// All links of the namespace.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let filter = Body::link(0, 0).with_number(link::EXTENSIONS, link::WITHOUT_STATISTICS);
        self.exchange(GET_LINK, DUMP, filter)
    }

    /// The link with this name, `NotFound` (by `ENODEV`) when there is none.
    pub(super) fn link(&mut self, name: &str) -> io::Result<Link> {
        let filter = Body::link(0, 0)
            .with(link::NAME, name.as_bytes())
            .with_number(link::EXTENSIONS, link::WITHOUT_STATISTICS);
        self.exchange(GET_LINK, ACKNOWLEDGE, filter)?.pop().ok_or_else(|| Errno::NODEV.into())
    }

    /// Body of every answer of this kind to a request that is answered at length.
    pub(super) fn dump(&mut self, kind: u16, body: Body, answer: u16) -> io::Result<Vec<Vec<u8>>> {
        let request = body.into_request(kind, DUMP, self.next_sequence());
        let mut found = Vec::new();
        self.converse(&request, 1, |received| {
            if let Answer::Other { kind, body } = received
                && kind == answer
            {
                found.push(body.to_vec());
            }
        })?;
        Ok(found)
    }

    /// Sends requests that are carried out all together or not at all, between a first and a last that have no answer.
    pub(super) fn transact(
        &mut self,
        first: (u16, Body),
        requests: Vec<(u16, u16, Body)>,
        last: (u16, Body),
    ) -> io::Result<()> {
        let sequence = self.next_sequence();
        let (count, mut bytes) = (requests.len(), first.1.into_request(first.0, 0, sequence));
        for (kind, flags, body) in requests {
            bytes.extend(body.into_request(kind, flags | ACKNOWLEDGE, sequence));
        }
        bytes.extend(last.1.into_request(last.0, 0, sequence));
        self.converse(&bytes, count, |_| {})
    }

    fn exchange(&mut self, kind: u16, flags: u16, body: Body) -> io::Result<Vec<Link>> {
        let request = body.into_request(kind, flags, self.next_sequence());
        let mut links = Vec::new();
        self.converse(&request, 1, |received| {
            if let Answer::Link(link) = received {
                links.push(Link::from(&link));
            }
        })?;
        Ok(links)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a datagram and waits until that many of its requests are done, or one is refused.
    fn converse(
        &mut self,
        request: &[u8],
        mut open: usize,
        mut take: impl FnMut(Answer<'_>),
    ) -> io::Result<()> {
        rustix::net::send(&self.socket, request, SendFlags::empty())?;
        let mut datagram = vec![0; DATAGRAM];
        while open > 0 {
            let (length, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut datagram, RecvFlags::empty())
            })?;
            let mut rest = datagram.get(..length).unwrap_or_default();
            while let Some(Received { sequence, answer }) = message::next_message(&mut rest)? {
                match answer {
                    _ if sequence != self.sequence => {}
                    Answer::Refused(error) => return Err(error.into()),
                    Answer::Done => open = open.saturating_sub(1),
                    answer => take(answer),
                }
            }
        }
        Ok(())
    }
}
