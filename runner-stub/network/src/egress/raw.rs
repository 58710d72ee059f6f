//! Raw sockets in the project's namespace: what comes for foreign addresses, and what is answered in their names.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::packet;

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

/// Receives packets for foreign addresses. The runtime's type stands for any socket here: it only waits.
#[derive(Debug)]
pub(super) struct Receiver(UdpSocket);

impl Receiver {
    pub(super) fn open(kind: Kind) -> io::Result<Receiver> {
        let protocol = match kind {
            Kind::Synchronise => Protocol::TCP,
            Kind::Udp => Protocol::UDP,
            Kind::Echo => Protocol::ICMPV4,
        };
        let socket = Socket::new(Domain::IPV4, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
        let header = |at, mask, wanted| {
            [
                SockFilter::new(bpf::LOAD_HEADER_LENGTH, 0, 0, 0),
                SockFilter::new(bpf::LOAD_BYTE_INDEXED, 0, 0, at),
                SockFilter::new(bpf::AND, 0, 0, mask),
                SockFilter::new(bpf::JUMP_EQUAL, 0, 1, wanted),
                SockFilter::new(bpf::RETURN, 0, 0, bpf::ALL),
                SockFilter::new(bpf::RETURN, 0, 0, 0),
            ]
        };
        match kind {
            Kind::Synchronise => socket.attach_filter(&header(FLAGS, SYN_ACK, SYN))?,
            Kind::Echo => socket.attach_filter(&header(0, 0xff, ECHO_REQUEST))?,
            Kind::Udp => {}
        }
        socket.set_recv_buffer_size(BUFFER)?;
        Ok(Receiver(UdpSocket::from_std(socket.into())?))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// A packet with its IPv4 header, if there is one.
    pub(super) fn try_receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let (length, _) = self.0.try_io(Interest::READABLE, || {
            Ok(rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT)?)
        })?;
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// Sends packets with any source address.
#[derive(Debug)]
pub(super) struct Sender(Socket);

impl Sender {
    pub(super) fn open(mark: u32) -> io::Result<Sender> {
        const RAW: i32 = 255;
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(RAW)))?;
        socket.set_header_included_v4(true)?;
        socket.set_mark(mark)?;
        Ok(Sender(socket))
    }

    /// Sends an IPv4 packet, in fragments where the link is narrow. What finds no room is lost, as on any network.
    pub(super) fn send(&self, packet: &[u8], destination: Ipv4Addr) {
        for mtu in [packet::USUAL_MTU, packet::LEAST_MTU] {
            if !self.send_pieces(packet, destination, mtu) {
                break;
            }
        }
    }

    /// True when the link is narrower than `mtu`.
    fn send_pieces(&self, packet: &[u8], destination: Ipv4Addr, mtu: usize) -> bool {
        let to = SocketAddrV4::new(destination, 0);
        let send = |piece: &[u8]| rustix::net::sendto(&self.0, piece, SendFlags::DONTWAIT, &to);
        if packet.len() <= mtu {
            return send(packet) == Err(Errno::MSGSIZE);
        }
        packet::fragments(packet, mtu).iter().any(|piece| send(piece) == Err(Errno::MSGSIZE))
    }

    /// Sends a packet to the namespace itself, through `lo`, which has no narrow links.
    pub(super) fn inject(&self, packet: &[u8], destination: Ipv4Addr) -> io::Result<()> {
        rustix::net::sendto(&self.0, packet, SendFlags::DONTWAIT, &SocketAddrV4::new(destination, 0))?;
        Ok(())
    }
}

/// A listener for one foreign address and port that takes no SYN but those that are let in.
pub(super) fn listener(address: SocketAddr, backlog: i32) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_mark(MARK)?;
    socket.set_ip_transparent_v4(true)?;
    socket.set_reuse_address(true)?;
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
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}
