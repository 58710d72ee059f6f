//! The supervisor's side of the network process: starts it, tells it what is wanted, and tells it again when it was killed.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dpack_compose::project::{
    Attachment, IpamPool, Network as Definition, NetworkMode, Port, Project, Protocol, Service,
};
use dpack_network::{Attach, Attached, Client, ClientError, Membership, NetworkConfig, Pool, Published};
use dpack_sandbox::record::ProcessId;
use dpack_sandbox::role::{Child, Spawn, launcher};
use serde::{Deserialize, Serialize};

use super::create::sandbox_failure;
use super::lifecycle::note;
use super::pidfd;
use crate::container::Identity;
use crate::failure::{Context as _, Failure};
use crate::json;
use crate::paths::ProjectPaths;

/// What the builder refuses before anything is started is what the device would refuse.
const _: () = assert!(dpack_compose::NETWORKS == dpack_network::NETWORKS);

/// `argv[0]` of the network process.
pub(crate) const ROLE: &str = "dpack-network";
/// How long it may take to listen.
const START: Duration = Duration::from_secs(30);
/// Pause between two attempts to reach it.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// What the network process is told when it is started: its only argument.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Commission {
    /// Where it listens.
    socket: PathBuf,
    /// A shim in whose network namespace the project's networks still are.
    join: Option<u32>,
}

/// Role entry.
pub(crate) fn main() -> Result<()> {
    let argument =
        std::env::args().nth(1).context("the network process was started without its commission")?;
    let commission: Commission =
        json::decode(argument.as_bytes()).context("the network's commission makes no sense")?;
    let join = commission.join.map(|pid| {
        let failed = || format!("failed to open the network namespace of process {pid}");
        File::open(format!("/proc/{pid}/ns/net")).with_context(failed)
    });
    let join = join.transpose()?;
    let resolv_conf = PathBuf::from("/etc/resolv.conf");
    if let Err(error) = dpack_sandbox::harden::network(&commission.socket, &resolv_conf) {
        // It serves as well without.
        note(&sandbox_failure(error));
    }
    dpack_network::serve(dpack_network::ServeOptions {
        socket: commission.socket,
        join,
        resolv_conf,
        ready: None,
    })?;
    Ok(())
}

/// The connection to the network process, if there is one.
pub(crate) struct Network {
    socket: PathBuf,
    log: PathBuf,
    program_length: u64,
    client: Option<Client>,
    child: Option<Child>,
}

impl Network {
    /// Not connected yet.
    pub(crate) fn new(project: &ProjectPaths, program_length: u64) -> Self {
        Self {
            socket: project.network_socket(),
            log: project.supervisor_log(),
            program_length,
            client: None,
            child: None,
        }
    }

    /// Makes sure that the process runs and has these networks. `shims` live in the project's network namespace, or did so a
    /// moment ago. A descriptor comes back when this is another process than before: readable when it has ended.
    pub(crate) fn ensure(&mut self, configs: &[NetworkConfig], shims: &[i32]) -> Result<Option<OwnedFd>> {
        if let Some(client) = &mut self.client
            && client.configure(configs).is_ok()
        {
            return Ok(None);
        }
        self.client = None;
        let mut client = match self.find(|| false)? {
            Some(client) => client,
            None => self.start(shims)?,
        };
        client.configure(configs).environment()?;
        let pid = client.status().environment()?.pid;
        self.client = Some(client);
        Ok(Some(pidfd::open(pid.cast_signed())?))
    }

    /// Connects to the process. Waits while one is being killed, which still takes connections but answers none, and while
    /// `is_awaited`. Nothing when there is none.
    fn find(&self, is_awaited: impl Fn() -> bool) -> Result<Option<Client>> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let deadline = Instant::now() + START;
        loop {
            // Before the look: what listens when it ends is found.
            let is_awaited = is_awaited();
            let error = match Client::connect(&self.socket) {
                Ok(client) => return Ok(Some(client)),
                Err(error) if error.is_absent() && !is_awaited => return Ok(None),
                Err(error) => error,
            };
            let is_killed = matches!(&error, ClientError::Lost { source, .. }
                if matches!(source.kind(), BrokenPipe | ConnectionReset | UnexpectedEof));
            if !(error.is_absent() || is_killed) || Instant::now() >= deadline {
                return Err(error).environment();
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// Starts the process in the network namespace of the first shim that has not ended in the meantime, else in a new one.
    fn start(&mut self, shims: &[i32]) -> Result<Client> {
        for &shim in shims {
            match self.start_in(Some(shim)) {
                Err(_) if ProcessId::of(shim).is_none() => {}
                started => return started,
            }
        }
        self.start_in(None)
    }

    fn start_in(&mut self, join: Option<i32>) -> Result<Client> {
        let commission =
            Commission { socket: self.socket.clone(), join: join.and_then(|pid| u32::try_from(pid).ok()) };
        let commission = serde_json::to_string(&commission).context("failed to encode a commission")?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Spawn::new(ROLE)
            .arg(commission)
            .program_length(self.program_length)
            .detached(log.as_fd())
            .spawn()
            .context("failed to start the network process")
            .environment()?;
        if let Some(earlier) = self.child.replace(child) {
            let _ = earlier.wait();
        }
        let child = self.child.as_ref();
        self.find(|| child.is_some_and(|child| !child.has_ended()))?
            .with_context(|| format!("the network process ended at its start: see `{}`", self.log.display()))
            .environment()
    }

    /// Connects only to a process that is there.
    pub(crate) fn connect(&mut self) -> Result<()> {
        self.client = Some(Client::connect(&self.socket).environment()?);
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Client> {
        self.client.as_mut().context("the network process does not run")
    }

    /// The project's network namespace.
    pub(crate) fn namespace(&mut self) -> Result<OwnedFd> {
        self.client()?.network_namespace().environment()
    }

    /// Opens ports before the container is there.
    pub(crate) fn publish(&mut self, container: &str, ports: &[dpack_network::Port]) -> Result<()> {
        self.client()?.publish(container, ports).map_err(port_failure)?;
        Ok(())
    }

    /// Connects a container.
    pub(crate) fn attach(&mut self, attach: &Attach, init: i32) -> Result<Attached> {
        let namespace = launcher::network_namespace(init);
        let namespace =
            namespace.context("failed to open the container's network namespace").environment()?;
        self.client()?.attach(attach, namespace).map_err(port_failure)
    }

    /// Takes a container away, if there is a network process.
    pub(crate) fn detach(&mut self, container: &str) -> Result<()> {
        match &mut self.client {
            Some(client) => client.detach(container).environment(),
            None => Ok(()),
        }
    }

    /// Ends the process. True when there was one.
    pub(crate) fn end(&mut self) -> Result<bool> {
        // The one that is known may have been killed, and another one may run.
        let mut told = self.client.take().is_some_and(|client| client.shutdown().is_ok());
        if !told && let Some(client) = self.find(|| false)? {
            client.shutdown().environment()?;
            told = true;
        }
        if told && let Some(child) = self.child.take() {
            let _ = child.wait();
        }
        dpack_network::remove_leftovers(&self.socket);
        Ok(told)
    }
}

/// A port that is taken is the device's matter, and stands for itself.
fn port_failure(mut error: ClientError) -> anyhow::Error {
    use dpack_network::Failure::PortInUse;
    if let ClientError::Refused(PortInUse { address, last: None, protocol, owner, .. }) = &mut error {
        *owner = dpack_network::port_owner(*protocol, *address);
    }
    let taken = matches!(error, ClientError::Refused(PortInUse { .. }));
    let failure = Failure::of(&error.into());
    let hint = failure
        .hint
        .clone()
        .or_else(|| taken.then(|| "stop what has it, or publish another port".to_owned()));
    Failure { kind: crate::failure::Kind::Environment, hint, ..failure }.into()
}

/// The networks of a project that its network process makes.
pub(crate) fn network_configs(project: &Project) -> Vec<NetworkConfig> {
    let used = |key: &String| {
        project
            .services
            .values()
            .any(|service| memberships(&service.network).is_some_and(|m| m.contains_key(key)))
    };
    let networks = project.networks.iter().filter(|(key, _)| used(key));
    networks.map(|(key, network)| network_config(project, key, network)).collect()
}

fn network_config(project: &Project, key: &str, network: &Definition) -> NetworkConfig {
    let pool = |pool: &IpamPool| Pool { subnet: pool.subnet, range: pool.ip_range, gateway: pool.gateway };
    let defaults = NetworkConfig::default();
    let aux_addresses = network.ipam.iter().flat_map(|pool| pool.aux_addresses.values().copied());
    let services = project.services.values().chain(project.disabled.values());
    let fixed = services.filter_map(|service| memberships(&service.network)?.get(key)).flat_map(addresses);
    NetworkConfig {
        key: key.to_owned(),
        internal: network.internal,
        ipv4: network.has_ipv4(),
        ipv6: network.has_ipv6(),
        pools: network.ipam.iter().map(pool).collect(),
        reserved: aux_addresses.chain(fixed).collect(),
        mtu: network.driver_opts.mtu.unwrap_or(defaults.mtu),
        isolated: network.driver_opts.enable_icc == Some(false),
        interface_prefix: network.driver_opts.interface_prefix.clone().unwrap_or(defaults.interface_prefix),
    }
}

/// Fixed addresses of a service on a network.
fn addresses(attachment: &Attachment) -> impl Iterator<Item = IpAddr> {
    let ipv4 = attachment.ipv4_address.map(IpAddr::V4);
    ipv4.into_iter().chain(attachment.ipv6_address.map(IpAddr::V6))
}

fn memberships(mode: &NetworkMode) -> Option<&BTreeMap<String, Attachment>> {
    match mode {
        NetworkMode::Networks(networks) if !networks.is_empty() => Some(networks),
        _ => None,
    }
}

/// What a container is connected to; nothing for one with the device's network or none.
pub(crate) fn attachment(identity: &Identity) -> Option<Attach> {
    let service = &identity.definition;
    let memberships = memberships(&service.network)?;
    let first = memberships.iter().min_by_key(|(key, place)| (-i128::from(place.priority), *key));
    let networks = memberships.iter().map(|(key, attachment)| {
        // A one-off container does not answer to its service's name, as in Docker Compose.
        let names = if identity.one_off && !identity.aliases {
            Vec::new()
        } else {
            [vec![identity.service.clone()], attachment.aliases.clone()].concat()
        };
        let own_mac = service.mac_address.clone().filter(|_| first.is_some_and(|(first, _)| first == key));
        // The service's own container has the addresses that a one-off container would be refused.
        let is_fixed = !identity.one_off;
        Membership {
            network: key.clone(),
            aliases: [names, vec![identity.short_id().to_owned()]].concat(),
            addresses: addresses(attachment).filter(|_| is_fixed).collect(),
            link_local: attachment.link_local_ips.iter().copied().filter(|_| is_fixed).collect(),
            mac: attachment.mac_address.clone().or(own_mac).filter(|_| is_fixed),
            interface: attachment.interface_name.clone(),
            priority: attachment.priority,
            gateway_priority: attachment.gw_priority,
        }
    });
    // Those of a one-off container are what `run` was asked to publish.
    let ports = service.ports.iter().map(port).collect();
    Some(Attach {
        container: identity.name.clone(),
        hostname: service.hostname.clone(),
        networks: networks.collect(),
        links: service.links.clone(),
        dns: service.dns.clone(),
        ports,
    })
}

/// Ports that a service publishes; nothing for one that is on no network of the project.
pub(crate) fn service_ports(service: &Service) -> Option<Vec<dpack_network::Port>> {
    memberships(&service.network)?;
    (!service.ports.is_empty()).then(|| service.ports.iter().map(port).collect())
}

fn port(port: &Port) -> dpack_network::Port {
    let protocol = match port.protocol {
        Protocol::Tcp => dpack_network::Protocol::Tcp,
        Protocol::Udp => dpack_network::Protocol::Udp,
    };
    let Port { target, published, published_last, host_ip, .. } = *port;
    dpack_network::Port { target, published, published_last, host_ip, protocol }
}

/// Whether the number on the device is yet to be chosen.
pub(crate) fn is_open(port: &dpack_network::Port) -> bool {
    port.published.is_none() || port.published_last.is_some()
}

/// The same with the numbers that were chosen for ports, as they are kept.
pub(crate) fn with_known_ports(attach: &Attach, kept: &[Port]) -> Attach {
    let mut known = attach.clone();
    let mut kept: Vec<dpack_network::Port> = kept.iter().map(port).collect();
    // Those that were asked for are nobody else's.
    kept.retain(|kept| !attach.ports.iter().any(|port| !is_open(port) && port.published == kept.published));
    let mut undecided: Vec<_> = known.ports.iter_mut().filter(|port| is_open(port)).collect();
    // The kernel's choice can be any number, a range's only one of its own.
    undecided.sort_by_key(|port| port.published.is_none());
    for port in undecided {
        let is_it = |kept: &dpack_network::Port| {
            let everywhere = port.host_ip.is_none() && kept.host_ip.is_none_or(|ip| ip.is_unspecified());
            let asked_for = |number| port.numbers().is_none_or(|numbers| numbers.contains(&number));
            (kept.target, kept.protocol) == (port.target, port.protocol)
                && (everywhere || kept.host_ip == port.host_ip)
                && kept.published.is_some_and(asked_for)
        };
        let Some(number) = kept.iter().find(|kept| is_it(kept)).and_then(|kept| kept.published) else {
            continue;
        };
        (port.published, port.published_last) = (Some(number), None);
        kept.retain(|kept| kept.published != Some(number));
    }
    known
}

/// Published ports as they are shown and kept: one for each address.
pub(crate) fn ports(published: &[Published]) -> Vec<Port> {
    let each = published
        .iter()
        .flat_map(|published| published.addresses.iter().map(move |address| (published, address)));
    each.map(|(published, address)| Port {
        target: published.target,
        published: Some(address.port()),
        published_last: None,
        host_ip: Some(address.ip()),
        protocol: match published.protocol {
            dpack_network::Protocol::Tcp => Protocol::Tcp,
            dpack_network::Protocol::Udp => Protocol::Udp,
        },
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_were_chosen_are_asked_for_again() {
        let port = |target, published, host_ip: Option<&str>| Port {
            target,
            published,
            published_last: None,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            protocol: Protocol::Tcp,
        };
        let wanted = [
            port(80, None, None),
            port(80, Some(8080), None),
            port(80, None, Some("127.0.0.1")),
            port(81, None, None),
            port(80, None, None),
            Port { published_last: Some(8010), ..port(80, Some(8000), None) },
            Port { published_last: Some(8010), ..port(81, Some(8000), None) },
        ];
        let kept = [
            port(80, Some(8080), Some("0.0.0.0")),
            port(80, Some(8003), Some("0.0.0.0")),
            port(80, Some(40_000), Some("0.0.0.0")),
            port(80, Some(40_000), Some("::")),
            port(80, Some(40_001), Some("127.0.0.1")),
            port(80, Some(40_002), Some("0.0.0.0")),
        ];
        let attach = Attach { ports: wanted.iter().map(super::port).collect(), ..Attach::default() };
        let known: Vec<Option<u16>> =
            with_known_ports(&attach, &kept).ports.iter().map(|port| port.published).collect();
        let last = |port: &dpack_network::Port| port.published_last;
        let ranges: Vec<Option<u16>> = with_known_ports(&attach, &kept).ports.iter().map(last).collect();
        let chosen = [Some(40_000), Some(8080), Some(40_001), None, Some(40_002)];
        assert_eq!(known, [&chosen[..], &[Some(8003), Some(8000)]].concat());
        assert_eq!(ranges[5..], [None, Some(8010)]);
    }
}
