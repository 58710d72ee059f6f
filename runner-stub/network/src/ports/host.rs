//! Listening sockets on the device. Only a thread in the host's network namespace can open them: the process's first
//! thread does nothing else.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::owner;
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
    InUse { owner: Option<String> },
    Reserved { first: u16 },
    Other(io::Error),
}

enum Order {
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
        let gone = || Refusal::Other(io::Error::other("the network process is shutting down"));
        self.0.send(Order::Listen { protocol, address, answer }).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// Ends [`HostThread::run`], and with it the process.
    pub(crate) fn stop(&self) {
        // An error means that it has ended already.
        let _ = self.0.send(Order::Stop);
    }
}

impl HostThread {
    /// Opens sockets until told to stop.
    pub(crate) fn run(self) {
        while let Ok(Order::Listen { protocol, address, answer }) = self.0.recv() {
            let result = open(protocol, address).map_err(|errno| explain(errno, protocol, address));
            // Nobody waits any more when the client's thread is gone; the socket closes.
            let _ = answer.send(result);
        }
    }
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

fn explain(errno: Errno, protocol: Protocol, address: SocketAddr) -> Refusal {
    match errno {
        Errno::ADDRINUSE => Refusal::InUse { owner: owner::port_owner(protocol, address) },
        Errno::ACCESS => {
            let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            Refusal::Reserved {
                first: first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(FIRST_FREE),
            }
        }
        errno => Refusal::Other(errno.into()),
    }
}
