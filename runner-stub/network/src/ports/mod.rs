//! Published ports: sockets on the device, and for each connection one dialled to the container, by one of two ways
//! ([`clients`]).
//!
//! A port is opened before its container exists (so that a port in use is told before anything starts) and stays open
//! while the container restarts; connections meanwhile wait in the backlog.

mod clients;
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
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use rustix::io::Errno;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(crate) use clients::Sessions;
pub(crate) use host::{Host, Kind};
pub use owner::port_owner;
pub(crate) use relay::abort;
pub(crate) use workers::Workers;

use crate::Failure;
use crate::protocol::{Port, Protocol, Published};
use clients::{Answering, Clients};
use host::Refusal;

/// Attempts to find a port that is free for IPv4 and IPv6 alike.
const ATTEMPTS: usize = 16;

/// Where connections go at present; nowhere while there is no container. Another run of the container ends those of the
/// last.
///
/// Clients on the device are dialled *inside* the container's namespace, at the container's own address (of the client's
/// family, where it has one): the bytes do not go through bridge and veth, and a container that has gone refuses at once.
#[derive(Clone, Debug)]
struct Target {
    /// Those with a default route come first.
    addresses: Vec<IpAddr>,
    answering: Vec<Answering>,
    /// Keeps the namespace alive until another one takes its place, or the port is closed.
    namespace: Arc<OwnedFd>,
}

impl Target {
    /// The address for a client of one family.
    fn address(&self, is_ipv4: bool) -> IpAddr {
        let alike = self.addresses.iter().find(|address| address.is_ipv4() == is_ipv4);
        alike.or(self.addresses.first()).copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The address at which a client is let in under its own; none where that cannot be.
    fn address_by_name(&self, client: IpAddr, clients: &Clients) -> Option<IpAddr> {
        let mut answering = self.answering.iter();
        answering.find(|answering| answering.is_for(client, clients)).map(|answering| answering.address)
    }

    fn is_at(&self, addresses: &[IpAddr], answering: &[IpAddr]) -> bool {
        self.addresses == addresses
            && self.answering.iter().map(|one| one.address).eq(answering.iter().copied())
    }
}

/// What a socket on the device is for.
#[derive(Clone, Debug)]
struct Service {
    /// Inside.
    port: u16,
    target: watch::Receiver<Option<Target>>,
    count: Count,
    clients: Clients,
}

/// All published ports of the project.
#[derive(Debug)]
pub(crate) struct Ports {
    host: Host,
    runtime: Handle,
    workers: Workers,
    open: BTreeMap<String, Vec<OpenPort>>,
    connections: Count,
    clients: Clients,
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
        let (open, connections, clients) = Default::default();
        Ports { host, runtime, workers, open, connections, clients }
    }

    /// UDP sessions in clients' names.
    pub(crate) fn sessions(&self) -> Sessions {
        self.clients.sessions().clone()
    }

    /// Tells which subnets are the project's: a client with an address of theirs has another meaning inside.
    pub(crate) fn set_subnets(&self, subnets: Vec<IpNet>) {
        self.clients.set_subnets(subnets);
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

    /// Leads a container's ports to `addresses` in `namespace`, those `answering` the outside by way of N in the first place.
    /// Connections go on if it is still the same run of the container.
    pub(crate) fn lead_to(
        &self,
        container: &str,
        addresses: &[IpAddr],
        answering: &[IpAddr],
        namespace: OwnedFd,
        is_new_run: bool,
    ) {
        let namespace = Arc::new(namespace);
        let others = addresses.iter().filter(|address| !answering.contains(address));
        let addresses: Vec<IpAddr> = answering.iter().chain(others).copied().collect();
        let mut target = Target { addresses, answering: Vec::new(), namespace };
        // Without a socket to ask by it is the other way for all.
        let probed = answering.iter().map(|address| Answering::new(target.namespace.as_fd(), *address));
        target.answering = probed.filter_map(Result::ok).collect();
        for open in self.open.get(container).into_iter().flatten() {
            open.target.send_if_modified(|before| {
                let is_same =
                    before.as_ref().is_some_and(|before| before.is_at(&target.addresses, answering));
                if is_new_run || !is_same {
                    *before = Some(target.clone());
                }
                is_new_run || !is_same
            });
        }
    }

    /// Tells from which of its addresses a container does still answer by way of N. Connections end when that has changed.
    pub(crate) fn keep_answering(&self, container: &str, answering: &[IpAddr]) {
        for open in self.open.get(container).into_iter().flatten() {
            open.target.send_if_modified(|target| {
                let Some(target) = target else { return false };
                let before = target.answering.len();
                target.answering.retain(|one| answering.contains(&one.address));
                target.answering.len() != before
            });
        }
    }

    /// Closes a container's ports and ends their connections.
    pub(crate) fn close(&mut self, container: &str) {
        self.open.remove(container);
    }

    /// Connections and UDP sessions at this moment.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.now()
    }

    fn restore(&mut self, container: &str, ports: Vec<OpenPort>) {
        if !ports.is_empty() {
            self.open.insert(container.to_owned(), ports);
        }
    }

    fn open(&self, container: &str, port: &Port) -> Result<OpenPort, Failure> {
        let sockets = self.listen(container, port)?;
        self.clients.prepare(&self.host);
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
            let service = Service {
                port: port.target,
                target: follow.clone(),
                count: self.connections.clone(),
                clients: self.clients.clone(),
            };
            let started = match port.protocol {
                Protocol::Tcp => tcp::start(socket, service, self.workers.clone()),
                Protocol::Udp => udp::start(socket, service),
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
#[derive(Clone, Debug, Default)]
struct Count(Arc<AtomicU64>);

impl Count {
    fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// None when that many live.
    fn one_of(&self, limit: u64) -> Option<Counted> {
        (self.now() < limit).then(|| self.one())
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
