//! Published ports: sockets on the device, and for each connection one dialled in the container's namespace.
//!
//! A port is opened before its container exists (so that a port in use is told before anything starts) and stays open
//! while the container restarts; connections meanwhile wait in the backlog.

mod host;
mod owner;
mod pipe;
mod relay;
mod tcp;
mod udp;
mod workers;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(crate) use host::{Host, Kind};
pub use owner::port_owner;
pub(crate) use relay::abort;
pub(crate) use workers::Workers;

use crate::Failure;
use crate::protocol::{Port, Protocol, Published};
use host::Refusal;

/// Attempts to find a port that is free for IPv4 and IPv6 alike.
const ATTEMPTS: usize = 16;

/// Where connections go at present; nowhere while there is no container. Another run of the container ends those of the
/// last.
///
/// They are dialled *inside* the container's namespace, at the container's own address (of the client's family, where it has one): the bytes do not go through
/// bridge and veth, and a container that has gone refuses at once. The container sees its own
/// address as the peer's, never 127.0.0.1, which some programs trust.
#[derive(Clone, Debug)]
struct Target {
    addresses: Vec<IpAddr>,
    /// Keeps the namespace alive until another one takes its place, or the port is closed.
    namespace: Arc<OwnedFd>,
}

impl Target {
    /// The address for a client of one family.
    fn address(&self, is_ipv4: bool) -> IpAddr {
        let alike = self.addresses.iter().find(|address| address.is_ipv4() == is_ipv4);
        alike.or(self.addresses.first()).copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// All published ports of the project.
#[derive(Debug)]
pub(crate) struct Ports {
    host: Host,
    runtime: Handle,
    workers: Workers,
    open: BTreeMap<String, Vec<OpenPort>>,
    connections: Arc<AtomicU64>,
}

#[derive(Debug)]
struct OpenPort {
    port: Port,
    published: Published,
    target: watch::Sender<Option<Target>>,
    tasks: Vec<AbortHandle>,
}

impl OpenPort {
    /// Whether this is what is asked for by `port`, by whatever number it was asked for before.
    fn is(&self, port: &Port) -> bool {
        let Port { published, published_last, .. } = *port;
        let number = self.published.addresses.first().map(SocketAddr::port);
        Port { published, published_last, ..self.port.clone() } == *port
            && port.numbers().is_none_or(|numbers| number.is_some_and(|number| numbers.contains(&number)))
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Ports {
    /// `runtime` has its thread in the project's namespace.
    pub(crate) fn new(host: Host, runtime: Handle, workers: Workers) -> Ports {
        Ports { host, runtime, workers, open: BTreeMap::new(), connections: Arc::default() }
    }

    /// Makes the open ports of a container those asked for: opens what is missing, or changes nothing at all when one
    /// cannot be opened; closes what is not asked for any more.
    pub(crate) fn publish(&mut self, container: &str, ports: &[Port]) -> Result<Vec<Published>, Failure> {
        let mut before = self.open.remove(container).unwrap_or_default();
        let mut after = Vec::new();
        let mut kept = Vec::new();
        for port in ports {
            // The kernel's choice is the same port as the number that it chose.
            let exact = before.iter().position(|open| open.port == *port);
            let same = || before.iter().position(|open| open.is(port) && !ports.contains(&open.port));
            match exact.or_else(same) {
                Some(position) => {
                    after.push(before.swap_remove(position));
                    kept.push(true);
                }
                None => match self.open(container, port) {
                    Ok(open) => {
                        after.push(open);
                        kept.push(false);
                    }
                    Err(failure) => {
                        let unchanged =
                            after.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(open, _)| open);
                        before.extend(unchanged);
                        self.restore(container, before);
                        return Err(failure);
                    }
                },
            }
        }
        let published = after.iter().map(|open| open.published.clone()).collect();
        self.restore(container, after);
        Ok(published)
    }

    /// What a container has open.
    pub(crate) fn published(&self, container: &str) -> Vec<Published> {
        self.open.get(container).into_iter().flatten().map(|open| open.published.clone()).collect()
    }

    /// What was asked for on behalf of a container.
    pub(crate) fn requested(&self, container: &str) -> Vec<Port> {
        self.open.get(container).into_iter().flatten().map(|open| open.port.clone()).collect()
    }

    /// Containers with open ports.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &String> {
        self.open.keys()
    }

    /// Leads a container's ports to `addresses` in `namespace`. Connections go on if it is still the same run of the
    /// container.
    pub(crate) fn lead_to(
        &self,
        container: &str,
        addresses: &[IpAddr],
        namespace: OwnedFd,
        is_new_run: bool,
    ) {
        let namespace = Arc::new(namespace);
        for open in self.open.get(container).into_iter().flatten() {
            open.target.send_if_modified(|target| {
                let is_same =
                    target.as_ref().is_some_and(|target| target.addresses == addresses) && !is_new_run;
                if !is_same {
                    *target =
                        Some(Target { addresses: addresses.to_vec(), namespace: Arc::clone(&namespace) });
                }
                !is_same
            });
        }
    }

    /// Closes a container's ports and ends their connections.
    pub(crate) fn close(&mut self, container: &str) {
        self.open.remove(container);
    }

    /// Connections and UDP sessions at this moment.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn restore(&mut self, container: &str, ports: Vec<OpenPort>) {
        if !ports.is_empty() {
            self.open.insert(container.to_owned(), ports);
        }
    }

    fn open(&self, container: &str, port: &Port) -> Result<OpenPort, Failure> {
        let sockets = self.listen(container, port)?;
        let (target, follow) = watch::channel(None);
        let published = Published {
            target: port.target,
            protocol: port.protocol,
            addresses: sockets.iter().map(|(address, _)| *address).collect(),
        };
        let mut open = OpenPort { port: port.clone(), published, target, tasks: Vec::new() };
        // Sockets belong to the namespace they were made in; the runtime only waits for them.
        let _context = self.runtime.enter();
        for (address, socket) in sockets {
            let (follow, count) = (follow.clone(), Count(Arc::clone(&self.connections)));
            let started = match port.protocol {
                Protocol::Tcp => tcp::start(socket, port.target, follow, count, self.workers.clone()),
                Protocol::Udp => udp::start(socket, port.target, follow, count),
            };
            open.tasks.push(
                started.map_err(|error| refused(container, port.protocol, address, Refusal::Other(error)))?,
            );
        }
        Ok(open)
    }

    fn listen(&self, container: &str, port: &Port) -> Result<Vec<(SocketAddr, OwnedFd)>, Failure> {
        let numbers = port.numbers();
        let is_range = numbers.as_ref().is_some_and(|numbers| numbers.len() > 1);
        // 0 is the kernel's choice.
        let candidates: Vec<u16> = numbers.map_or(vec![0; ATTEMPTS], Iterator::collect);
        // Our own ones are passed over at once: who has a port takes long to find out.
        for &number in candidates.iter().filter(|number| !is_range || !self.has(port, **number)) {
            match self.listen_at(container, port, number) {
                Err(Failure::PortInUse { .. } | Failure::PortReserved { .. }) if is_range => {}
                Err(Failure::PortInUse { .. }) if number == 0 => {}
                result => return result,
            }
        }
        let (container, protocol) = (container.to_owned(), port.protocol);
        let ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = (ip, port.published.unwrap_or(0)).into();
        Err(Failure::PortInUse { container, address, last: port.published_last, protocol, owner: None })
    }

    /// Whether a container has the number already, at an address that is asked for.
    fn has(&self, port: &Port, number: u16) -> bool {
        let open = self.open.values().flatten().filter(|open| open.port.protocol == port.protocol);
        let mut addresses = open.flat_map(|open| &open.published.addresses);
        addresses.any(|address| {
            address.port() == number
                && port.host_ip.is_none_or(|ip| ip == address.ip() || address.ip().is_unspecified())
        })
    }

    /// Listens on one number, for IPv4 and IPv6 unless an address is asked for.
    fn listen_at(
        &self,
        container: &str,
        port: &Port,
        number: u16,
    ) -> Result<Vec<(SocketAddr, OwnedFd)>, Failure> {
        let ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let first = self.listen_on(container, port.protocol, (ip, number).into())?;
        if port.host_ip.is_some() {
            return Ok(vec![first]);
        }
        let again = SocketAddr::from((Ipv6Addr::UNSPECIFIED, first.0.port()));
        match self.host.listen(port.protocol, again) {
            Ok(socket) => Ok(vec![first, (again, socket)]),
            Err(Refusal::Other(error)) if has_no_ipv6(&error) => Ok(vec![first]),
            Err(refusal) => Err(refused(container, port.protocol, again, refusal)),
        }
    }

    fn listen_on(
        &self,
        container: &str,
        protocol: Protocol,
        address: SocketAddr,
    ) -> Result<(SocketAddr, OwnedFd), Failure> {
        let fail = |refusal| refused(container, protocol, address, refusal);
        let socket = self.host.listen(protocol, address).map_err(fail)?;
        let bound = rustix::net::getsockname(&socket).map_err(io::Error::from);
        let bound = bound.and_then(|bound| SocketAddr::try_from(bound).map_err(io::Error::from));
        Ok((bound.map_err(|error| fail(Refusal::Other(error)))?, socket))
    }
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|known| errno == Some(known.raw_os_error()))
}

fn refused(container: &str, protocol: Protocol, address: SocketAddr, refusal: Refusal) -> Failure {
    let container = container.to_owned();
    match refusal {
        Refusal::InUse => Failure::PortInUse { container, address, last: None, protocol, owner: None },
        Refusal::Reserved { first } => Failure::PortReserved { container, address, protocol, first },
        Refusal::Other(error) => Failure::Listen { container, address, protocol, cause: error.to_string() },
    }
}

/// Makes guards that are counted while they live.
#[derive(Clone, Debug)]
struct Count(Arc<AtomicU64>);

impl Count {
    fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
