//! Sockets of the device: listening ones for published ports, others for the way out. Only a thread in the host's
//! network namespace can open them: the process's first thread does nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::sync::oneshot;

use crate::protocol::Protocol;

/// Connections that wait to be accepted; the kernel cuts it down to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that wait to be passed on.
const DATAGRAMS: usize = 1 << 20;
/// Lowest port for everybody where the kernel does not tell (before Linux 4.11).
const FIRST_FREE: u16 = 1024;

/// Why a socket could not be opened.
#[derive(Debug)]
pub(super) enum Refusal {
    InUse,
    Reserved { first: u16 },
    Other(io::Error),
}

/// Sockets for the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream4,
    Stream6,
    Datagram4,
    Datagram6,
    /// Unprivileged sockets for echo requests.
    Echo4,
    Echo6,
}

impl Kind {
    pub(crate) fn stream(address: SocketAddr) -> Kind {
        if address.is_ipv4() { Kind::Stream4 } else { Kind::Stream6 }
    }

    pub(crate) fn datagram(address: SocketAddr) -> Kind {
        if address.is_ipv4() { Kind::Datagram4 } else { Kind::Datagram6 }
    }

    pub(crate) fn echo(address: SocketAddr) -> Kind {
        if address.is_ipv4() { Kind::Echo4 } else { Kind::Echo6 }
    }
}

enum Order {
    Socket { kind: Kind, answer: oneshot::Sender<io::Result<OwnedFd>> },
    OwnAddress { answer: oneshot::Sender<Ipv4Addr> },
    Listen { protocol: Protocol, address: SocketAddr, answer: mpsc::Sender<Result<OwnedFd, Refusal>> },
    Stop,
}

/// A way to the thread in the host's namespace.
#[derive(Clone, Debug)]
pub(crate) struct Host(mpsc::Sender<Order>);

/// The thread's end of it.
#[derive(Debug)]
pub(crate) struct HostThread(mpsc::Receiver<Order>);

impl Host {
    pub(crate) fn new() -> (Host, HostThread) {
        let (sender, receiver) = mpsc::channel();
        (Host(sender), HostThread(receiver))
    }

    /// Opens a non-blocking socket: listening for TCP, bound for UDP.
    pub(super) fn listen(&self, protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Refusal> {
        let (answer, result) = mpsc::channel();
        self.0.send(Order::Listen { protocol, address, answer }).map_err(|_| Refusal::Other(gone()))?;
        result.recv().map_err(|_| Refusal::Other(gone()))?
    }

    /// A non-blocking socket of the device that is neither bound nor connected.
    pub(crate) async fn socket(&self, kind: Kind) -> io::Result<OwnedFd> {
        self.order_socket(kind)?.await.map_err(|_| gone())?
    }

    /// The same for who is on no runtime's thread.
    pub(super) fn socket_now(&self, kind: Kind) -> io::Result<OwnedFd> {
        self.order_socket(kind)?.blocking_recv().map_err(|_| gone())?
    }

    fn order_socket(&self, kind: Kind) -> io::Result<oneshot::Receiver<io::Result<OwnedFd>>> {
        let (answer, result) = oneshot::channel();
        self.0.send(Order::Socket { kind, answer }).map_err(|_| gone())?;
        Ok(result)
    }

    /// The device's address towards the outside. Without one, an address of its loopback at which only those services
    /// answer that listen on all addresses.
    pub(crate) async fn own_address(&self) -> Ipv4Addr {
        let (answer, result) = oneshot::channel();
        let _ = self.0.send(Order::OwnAddress { answer });
        result.await.unwrap_or(NOBODY)
    }

    /// Ends [`HostThread::run`], and with it the process.
    pub(crate) fn stop(&self) {
        // An error means that it has ended already.
        let _ = self.0.send(Order::Stop);
    }
}

fn gone() -> io::Error {
    io::Error::other("the network process is shutting down")
}

impl HostThread {
    /// Opens sockets until told to stop.
    pub(crate) fn run(self) {
        // Nobody waits for an answer any more when the asker is gone; the socket closes.
        while let Ok(order) = self.0.recv() {
            match order {
                Order::Listen { protocol, address, answer } => {
                    let result = open(protocol, address).map_err(explain);
                    let _ = answer.send(result);
                }
                Order::Socket { kind, answer } => {
                    let _ = answer.send(unbound(kind).map_err(io::Error::from));
                }
                Order::OwnAddress { answer } => {
                    let _ = answer.send(own_address().unwrap_or(NOBODY));
                }
                Order::Stop => break,
            }
        }
    }
}

/// Local to every device, and no program listens on it alone.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 100, 112, 107);
/// Any address that is outside for sure (RFC 5737); nothing is sent there.
const OUTSIDE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The address that the kernel would choose for a connection to the outside.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(OUTSIDE).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_loopback() => Some(*address.ip()),
        _ => None,
    }
}

fn unbound(kind: Kind) -> rustix::io::Result<OwnedFd> {
    let (family, kind, protocol) = match kind {
        Kind::Stream4 => (AddressFamily::INET, SocketType::STREAM, None),
        Kind::Stream6 => (AddressFamily::INET6, SocketType::STREAM, None),
        Kind::Datagram4 => (AddressFamily::INET, SocketType::DGRAM, None),
        Kind::Datagram6 => (AddressFamily::INET6, SocketType::DGRAM, None),
        Kind::Echo4 => (AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)),
        Kind::Echo6 => (AddressFamily::INET6, SocketType::DGRAM, Some(ipproto::ICMPV6)),
    };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)
}

fn open(protocol: Protocol, address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 has a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Udp {
        // Bursts from many peers meet in one socket; the kernel cuts it down to `net.core.rmem_max`.
        sockopt::set_socket_recv_buffer_size(&socket, DATAGRAMS)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier run in TIME_WAIT do not count as in use.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn explain(errno: Errno) -> Refusal {
    match errno {
        Errno::ADDRINUSE => Refusal::InUse,
        Errno::ACCESS => {
            let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            Refusal::Reserved {
                first: first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIRST_FREE),
            }
        }
        errno => Refusal::Other(errno.into()),
    }
}
