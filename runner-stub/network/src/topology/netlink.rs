//! One rtnetlink socket, used in step: a request, its acknowledgement.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::links::Link;
use super::message::{self, ACKNOWLEDGE, Answer, Body, DUMP, GET_LINK, link};

/// The kernel splits dumps into datagrams of at most this size.
const DATAGRAM: usize = 32 * 1024;

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

    fn exchange(&mut self, kind: u16, flags: u16, body: Body) -> io::Result<Vec<Link>> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = body.into_request(kind, flags, self.sequence);
        rustix::net::send(&self.socket, &request, SendFlags::empty())?;

        let mut links = Vec::new();
        let mut datagram = vec![0; DATAGRAM];
        loop {
            let (length, _) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, &mut datagram, RecvFlags::empty())
            })?;
            let mut rest = datagram.get(..length).unwrap_or_default();
            while let Some(received) = message::next_message(&mut rest)? {
                match received.answer {
                    _ if received.sequence != self.sequence => {}
                    Answer::Refused(error) => return Err(error.into()),
                    Answer::Done => return Ok(links),
                    Answer::Link(link) => links.push(Link::from(&link)),
                    Answer::Other => {}
                }
            }
        }
    }
}
