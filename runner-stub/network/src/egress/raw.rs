//! Raw sockets in the project's namespace: what comes for foreign addresses, and what is answered in their names.

use std::io;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::packet::{self, Packet};

/// Mark of sockets that speak for foreign addresses.
pub(crate) const MARK: u32 = 1;
/// Mark of a SYN that is let in, on its way through `lo`.
pub(crate) const INJECTED: u32 = 2;

/// Bytes that wait to be looked at; the kernel cuts it down to `net.core.rmem_max`.
const BUFFER: usize = 1 << 20;
/// `lo` in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// What a receiver is shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// First segments of TCP connections.
    Synchronise,
    /// UDP datagrams, reassembled.
    Udp,
    /// ICMP echo requests.
    Echo,
}

/// Classic BPF; values from `linux/filter.h`.
mod bpf {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_BYTE_INDEXED: u16 = 0x50;
    /// X = length of the IPv4 header at an offset.
    pub(super) const LOAD_HEADER_LENGTH: u16 = 0xb1;
    /// X = a number.
    pub(super) const LOAD_INDEX: u16 = 0x01;
    pub(super) const AND: u16 = 0x54;
    pub(super) const JUMP_EQUAL: u16 = 0x15;
    pub(super) const RETURN: u16 = 0x06;
    /// Index of the interface a packet came by (`SKF_AD_OFF + SKF_AD_IFINDEX`).
    pub(super) const INTERFACE: u32 = 0xffff_f008;
    pub(super) const ALL: u32 = u32::MAX;
}

/// Byte of a TCP header that has the flags, and those that tell a first segment.
const FLAGS: u32 = 13;
const SYN_ACK: u32 = 0x12;
const SYN: u32 = 0x02;
const ECHO_REQUEST: u32 = 8;
const ECHO_REQUEST6: u32 = 128;
/// Size of `struct in6_pktinfo`.
const PACKET_INFO: usize = 20;

/// Which addresses a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Kind {
    fn protocol(self) -> packet::Protocol {
        match self {
            Kind::Synchronise => packet::Protocol::Tcp,
            Kind::Udp => packet::Protocol::Udp,
            Kind::Echo => packet::Protocol::Icmp,
        }
    }
}

/// Receives packets for foreign addresses. The runtime's type stands for any socket here: it only waits.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: UdpSocket,
    family: Family,
    kind: Kind,
}

impl Receiver {
    pub(super) fn open(kind: Kind, family: Family) -> io::Result<Receiver> {
        let protocol = match (kind, family) {
            (Kind::Synchronise, _) => Protocol::TCP,
            (Kind::Udp, _) => Protocol::UDP,
            (Kind::Echo, Family::V4) => Protocol::ICMPV4,
            (Kind::Echo, Family::V6) => Protocol::ICMPV6,
        };
        let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        // X = where the data starts that comes after the IP header: IPv6 sockets show that alone.
        let start = match family {
            Family::V4 => SockFilter::new(bpf::LOAD_HEADER_LENGTH, 0, 0, 0),
            Family::V6 => SockFilter::new(bpf::LOAD_INDEX, 0, 0, 0),
        };
        let header = |at, mask, wanted| {
            [
                start,
                SockFilter::new(bpf::LOAD_BYTE_INDEXED, 0, 0, at),
                SockFilter::new(bpf::AND, 0, 0, mask),
                SockFilter::new(bpf::JUMP_EQUAL, 0, 1, wanted),
                SockFilter::new(bpf::RETURN, 0, 0, bpf::ALL),
                SockFilter::new(bpf::RETURN, 0, 0, 0),
            ]
        };
        match (kind, family) {
            (Kind::Synchronise, _) => socket.attach_filter(&header(FLAGS, SYN_ACK, SYN))?,
            (Kind::Echo, Family::V4) => socket.attach_filter(&header(0, 0xff, ECHO_REQUEST))?,
            (Kind::Echo, Family::V6) => socket.attach_filter(&header(0, 0xff, ECHO_REQUEST6))?,
            (Kind::Udp, _) => {}
        }
        if family == Family::V6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        socket.set_recv_buffer_size(BUFFER)?;
        Ok(Receiver { socket: UdpSocket::from_std(socket.into())?, family, kind })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// What is read of the next packet, if there is one: nothing of one that makes no sense.
    pub(super) fn try_receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Packet<'a>>> {
        if self.family == Family::V4 {
            let (length, _) = self.socket.try_io(Interest::READABLE, || {
                Ok(rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT)?)
            })?;
            return Ok(Packet::parse(buffer.get(..length).unwrap_or_default()));
        }
        let (length, ends) =
            self.socket.try_io(Interest::READABLE, || Ok(receive6(self.socket.as_raw_fd(), buffer)?))?;
        let body = buffer.get(..length).unwrap_or_default();
        Ok(ends.map(|(source, destination)| {
            Packet::of(self.kind.protocol(), IpAddr::V6(source), IpAddr::V6(destination), body)
        }))
    }
}

/// Length of what comes after the header, and who sent it to whom.
fn receive6(socket: i32, buffer: &mut [u8]) -> nix::Result<(usize, Option<(Ipv6Addr, Ipv6Addr)>)> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut space = cmsg_space!([u8; PACKET_INFO]);
    let message = recvmsg::<SockaddrIn6>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let destination = message.cmsgs()?.find_map(|told| match told {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    });
    let source = message.address.map(|address| address.ip());
    Ok((message.bytes, source.zip(destination)))
}

/// Sends packets with any source address.
#[derive(Debug)]
pub(super) struct Sender {
    ipv4: Socket,
    /// Where the kernel has IPv6.
    ipv6: Option<Socket>,
}

impl Sender {
    pub(super) fn open(mark: u32) -> io::Result<Sender> {
        const RAW: i32 = 255;
        let open = |domain| {
            let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(RAW)))?;
            socket.set_mark(mark)?;
            io::Result::Ok(socket)
        };
        let ipv4 = open(Domain::IPV4)?;
        ipv4.set_header_included_v4(true)?;
        // Those of IPv6 are sent with their headers as they are.
        Ok(Sender { ipv4, ipv6: open(Domain::IPV6).ok() })
    }

    /// Sends an IP packet, in fragments where the link is narrow. What finds no room is lost, as on any network.
    pub(super) fn send(&self, packet: &[u8], destination: IpAddr) {
        let least = if destination.is_ipv4() { packet::LEAST_MTU } else { packet::LEAST_MTU6 };
        for mtu in [packet::USUAL_MTU, least] {
            if !self.send_pieces(packet, destination, mtu) {
                break;
            }
        }
    }

    /// True when the link is narrower than `mtu`.
    fn send_pieces(&self, packet: &[u8], destination: IpAddr, mtu: usize) -> bool {
        let send = |piece: &[u8]| self.put(piece, destination);
        if packet.len() <= mtu {
            return send(packet) == Err(Errno::MSGSIZE);
        }
        packet::fragments(packet, mtu).iter().any(|piece| send(piece) == Err(Errno::MSGSIZE))
    }

    /// Sends a packet to the namespace itself, through `lo`, which has no narrow links.
    pub(super) fn inject(&self, packet: &[u8], destination: IpAddr) -> io::Result<()> {
        Ok(self.put(packet, destination)?)
    }

    fn put(&self, packet: &[u8], destination: IpAddr) -> Result<(), Errno> {
        let socket = match destination {
            IpAddr::V4(_) => &self.ipv4,
            IpAddr::V6(_) => self.ipv6.as_ref().ok_or(Errno::AFNOSUPPORT)?,
        };
        let to = SocketAddr::new(destination, 0);
        rustix::net::sendto(socket, packet, SendFlags::DONTWAIT, &to).map(drop)
    }
}

/// A socket of the namespace that speaks in the name of `address`, to which it is bound. Several may have the same address and
/// port, as long as nobody listens there; port 0 is one that nobody has.
pub(crate) fn foreign(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), None)?;
    socket.set_mark(MARK)?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.set_reuse_address(address.port() != 0)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listener for one foreign address and port that takes no SYN but those that are let in.
pub(crate) fn listener(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket = foreign(address, Type::STREAM)?;
    // Data starts at the TCP header here.
    socket.attach_filter(&[
        SockFilter::new(bpf::LOAD_WORD, 0, 0, bpf::INTERFACE),
        SockFilter::new(bpf::JUMP_EQUAL, 3, 0, LOOPBACK_INDEX),
        SockFilter::new(bpf::LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(bpf::AND, 0, 0, SYN_ACK),
        SockFilter::new(bpf::JUMP_EQUAL, 1, 0, SYN),
        SockFilter::new(bpf::RETURN, 0, 0, bpf::ALL),
        SockFilter::new(bpf::RETURN, 0, 0, 0),
    ])?;
    socket.listen(backlog)?;
    Ok(socket)
}
