//! In whose name containers are dialled: in the client's own, wherever its answers come back.
//!
//! ```text
//!   from outside   port 8080 ═ splice ═ N: socket with the client's address ── bridge ── veth ──> container
//!   other          port 8080 ═ splice ═══════════════ socket with the container's own address ──> container
//! ```
//!
//! For what a container answers, every address outside of the project is local to N (`crate::topology`), so that a socket in N
//! can have a client's. Its port, too, where that is free. What comes to such a socket is what its one peer answers: it is
//! connected, and nobody else finds a socket at that address.
//!
//! The second way is the shorter one. It is for clients on the device, for addresses that mean something else inside, and for
//! containers whose answers would go elsewhere, which is asked of the kernel for each client ([`Probe`]): they have no default
//! route, or are on a network with that address, or have a tunnel of their own. There the client is the container itself,
//! never the device's loopback, the gateway or another container.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use socket2::Type;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use super::Count;
use super::host::{Host, Kind};
use super::tcp::Aborted;
use crate::egress::{self, FAREWELL, foreign};
use crate::topology::namespace;

/// Pause when there is no socket to be had.
const PAUSE: Duration = Duration::from_millis(50);
/// Containers that may still ask whether they were reset; further ones find out by themselves.
const FAREWELLS: u64 = 1024;
/// Datagrams that may wait at a socket before it has its peer; the kernel's usual buffer holds fewer.
const EARLY: usize = 1024;
/// Any port: nothing is sent there.
const DISCARD: u16 = 9;
/// What is to be discarded (RFC 6666); N's own address is of it.
const DISCARDED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64);

/// What all published ports know of clients. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Of the device's namespace; none where the kernel lacks the family.
    ipv4: OnceLock<Option<Probe>>,
    ipv6: OnceLock<Option<Probe>>,
    subnets: RwLock<Vec<IpNet>>,
    sessions: Sessions,
    farewells: Count,
}

impl Clients {
    /// Opens what tells the device's addresses. Not to be called on a runtime's thread.
    pub(super) fn prepare(&self, host: &Host) {
        let open = |kind| host.socket_now(kind).ok().map(Probe::from);
        self.0.ipv4.get_or_init(|| open(Kind::Datagram4));
        self.0.ipv6.get_or_init(|| open(Kind::Datagram6));
    }

    /// Tells which subnets are the project's.
    pub(super) fn set_subnets(&self, subnets: Vec<IpNet>) {
        *self.0.subnets.write().unwrap_or_else(PoisonError::into_inner) = subnets;
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Whether an address is outside of device and project, and nothing but an address.
    fn is_outside(&self, client: IpAddr) -> bool {
        let probe = if client.is_ipv4() { &self.0.ipv4 } else { &self.0.ipv6 };
        let Some(Some(probe)) = probe.get() else { return false };
        let subnets = self.0.subnets.read().unwrap_or_else(PoisonError::into_inner);
        is_plain(client)
            && !subnets.iter().any(|subnet| subnet.contains(&client))
            // What is sent to an own address has it as its source. To the second one of a subnet it has the first, so that a client
            // on the device that has chosen that is seen by it.
            && probe.source(client) != Some(client)
    }

    /// Drops what has failed, and stays in the client's name for a moment: a container that had lost segments before takes no
    /// reset but one that its own last segment asks for (RFC 5961, 3.2), and only a socket may answer that.
    pub(super) async fn take_leave(&self, aborted: Aborted, name: SocketAddr) {
        let farewell = self.0.farewells.one_of(FAREWELLS);
        let door = farewell.as_ref().and_then(|_| egress::listener(name, 0).ok());
        drop(aborted);
        if door.is_some() {
            sleep(FAREWELL).await;
        }
    }
}

/// Addresses that have the same meaning in every network namespace: no loopback, no link's own ones (among them those of the
/// device and of uplinks), nothing reserved.
fn is_plain(address: IpAddr) -> bool {
    egress::is_allowed(address)
        && match address {
            IpAddr::V4(address) => !address.is_link_local(),
            IpAddr::V6(address) => !DISCARDED.contains(&address),
        }
}

/// Asks the kernel from which of a namespace's addresses it would send to another one. Nothing is sent, and between two
/// questions no port is taken. To be asked by one thread at a time.
#[derive(Debug)]
struct Probe(UdpSocket);

impl From<OwnedFd> for Probe {
    fn from(socket: OwnedFd) -> Probe {
        Probe(socket.into())
    }
}

impl Probe {
    fn open(namespace: BorrowedFd<'_>, is_ipv4: bool) -> io::Result<Probe> {
        let family = if is_ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || Ok(rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?);
        namespace::visit(namespace, open).map(Probe::from)
    }

    fn source(&self, peer: IpAddr) -> Option<IpAddr> {
        let told = self.0.connect((peer, DISCARD)).and_then(|()| self.0.local_addr());
        // The kernel would go on with the address that it has chosen.
        rustix::net::connect_unspec(&self.0).ok()?;
        Some(told.ok()?.ip())
    }
}

/// A container's address from which it answers by its default route, which leads to N.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    pub(super) address: IpAddr,
    probe: Arc<Probe>,
}

impl Answering {
    pub(super) fn new(namespace: BorrowedFd<'_>, address: IpAddr) -> io::Result<Answering> {
        Ok(Answering { address, probe: Arc::new(Probe::open(namespace, address.is_ipv4())?) })
    }

    /// Whether a client can be let in under its own address.
    pub(super) fn is_for(&self, client: IpAddr, clients: &Clients) -> bool {
        self.address.is_ipv4() == client.is_ipv4()
            && clients.is_outside(client)
            && self.probe.source(client) == Some(self.address)
    }
}

/// Dials a container in a client's name. To be called on a thread in N. Where descriptors or memory are used up, it waits for
/// others to end.
pub(super) async fn dial(client: SocketAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let at = async |own: SocketAddr| {
        let socket = foreign(own, Type::STREAM)?;
        TcpSocket::from_std_stream(socket.into()).connect(server).await
    };
    loop {
        let dialled = match at(client).await {
            Err(error) if is_taken(&error) => at(any_port(client)).await,
            dialled => dialled,
        };
        match dialled {
            Err(error) if is_shortage(&error) => sleep(PAUSE).await,
            dialled => return dialled,
        }
    }
}

/// A socket for what one client sends to a container, in the client's name. To be called on a thread in N.
pub(super) fn open_session(
    client: SocketAddr,
    server: SocketAddr,
    sessions: &Sessions,
) -> io::Result<(UdpSocket, Session)> {
    let at = |own: SocketAddr| -> io::Result<(UdpSocket, Session)> {
        let socket = UdpSocket::from(foreign(own, Type::DGRAM)?);
        let session = sessions.begin((server, socket.local_addr()?)).ok_or(Errno::ADDRINUSE)?;
        socket.connect(server)?;
        // Until now everybody could send to it.
        let early = || rustix::net::recv(&socket, &mut [0_u8; 1], RecvFlags::DONTWAIT);
        let _ = (0..EARLY).find(|_| early().is_err());
        Ok((socket, session))
    };
    match at(client) {
        Err(error) if is_taken(&error) => at(any_port(client)),
        opened => opened,
    }
}

fn any_port(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip(), 0)
}

/// Whether the client's port is somebody else's in N, or may not be had.
fn is_taken(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL | Errno::ACCESS))
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// A container's end and a client's.
type Ends = (SocketAddr, SocketAddr);

/// Pairs between which datagrams pass in clients' names. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashSet<Ends>>>);

/// A pair as long as it lives.
#[derive(Debug)]
pub(super) struct Session {
    ends: Ends,
    all: Sessions,
}

impl Sessions {
    /// Whether what the first sends to the second is an answer to it.
    pub(crate) fn have(&self, ends: Ends) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&ends)
    }

    /// None when there is such a pair already.
    fn begin(&self, ends: Ends) -> Option<Session> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(ends);
        is_new.then(|| Session { ends, all: self.clone() })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_else_elsewhere_are_nobodys_name() {
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.0.0.1",
            "169.254.1.2",
            "169.254.2.1",
            "169.254.200.7",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "100::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_plain(address.parse().unwrap()), "{address}");
        }
        for address in ["8.8.8.8", "10.0.0.1", "172.18.0.1", "192.168.1.7", "2001:db8::1", "fd00::1"] {
            assert!(is_plain(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_kernel_tells_its_own_address_and_no_port_is_taken() {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        let probe = Probe::from(socket);
        let own: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(probe.source(own), Some(own));
        assert_eq!(probe.0.local_addr().unwrap().port(), 0);
    }

    #[test]
    fn a_pair_is_there_once_and_goes_with_its_session() {
        let sessions = Sessions::default();
        let ends = ("172.18.0.2:53".parse().unwrap(), "192.0.2.1:4000".parse().unwrap());
        let session = sessions.begin(ends).unwrap();
        assert!(sessions.have(ends) && sessions.begin(ends).is_none());
        drop(session);
        assert!(!sessions.have(ends) && sessions.begin(ends).is_some());
    }
}
