//! `doctor --network`: what the kernel allows, who answers about names, and whether what runs is reached.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use dpack_network::Status;
use rustix::process::{Resource, getrlimit};

use super::super::super::settings::Settings;
use super::super::network::client;
use super::{Check, Verdict};
use crate::failure::Failure;

/// How long a name server or a container may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Name of a check.
const PROCESS: &str = "network process";
/// A question that every resolver answers: the name servers of the root (RFC 1035, 4.1).
const ROOT_SERVERS: [u8; 17] = [0x64, 0x70, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// Everything about networks but the trial.
pub(super) fn checks(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![low_ports(), ping(), connections(), outside()];
    checks.extend(name_servers());
    let running = running(settings);
    checks.extend(way_out(settings, &running));
    match running {
        Ok(Some(status)) => checks.extend(network_process(&status)),
        Ok(None) => {
            let detail = "does not run; the first service on a network starts it";
            checks.push(Check::new(PROCESS, Verdict::Ok, detail));
        }
        Err(failure) => checks.push(Check::failed(PROCESS, failure)),
    }
    checks
}

/// What the role does inside a user namespace.
pub(super) fn trial() -> Check {
    let name = "networks";
    match dpack_network::try_out() {
        Ok(()) => Check::new(name, Verdict::Ok, "bridges, veths, DNS and the way out can be made"),
        Err(failure) => Check::new(name, Verdict::Missing, failure.to_string())
            .hint("the kernel needs CONFIG_BRIDGE, CONFIG_VETH and CONFIG_IP_MULTIPLE_TABLES; as root: modprobe bridge veth"),
    }
}

fn setting(name: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?.trim().to_owned())
}

fn low_ports() -> Check {
    let first: u16 =
        setting("ipv4/ip_unprivileged_port_start").and_then(|text| text.parse().ok()).unwrap_or(1024);
    let detail = match first {
        0..=1 => "all can be published".to_owned(),
        first => format!("those from {first} on can be published by everybody"),
    };
    Check::new("ports", Verdict::Ok, detail)
}

/// Echo requests go out by the kernel's unprivileged sockets (icmp(7)).
fn ping() -> Check {
    let range = setting("ipv4/ping_group_range").unwrap_or_default();
    let mut limits = range.split_whitespace().filter_map(|number| number.parse::<u32>().ok());
    let group = rustix::process::getegid().as_raw();
    let allows = matches!((limits.next(), limits.next()), (Some(first), Some(last)) if (first..=last).contains(&group));
    match allows {
        true => Check::new("ping", Verdict::Ok, "containers can ping the outside"),
        false => Check::new(
            "ping",
            Verdict::Warning,
            format!("group {group} is not in net.ipv4.ping_group_range (`{range}`): no echo from outside"),
        )
        .hint("sudo sysctl net.ipv4.ping_group_range=\"0 2147483647\""),
    }
}

/// By what packets go out: what the running network process sees in the project's namespace, else what is to be expected.
fn way_out(settings: &Settings, running: &Result<Option<Status>, Failure>) -> Option<Check> {
    let forwarded = running.as_ref().ok().and_then(|status| status.as_ref()?.forwarded);
    let expected = || match settings.is_root().then(dpack_network::uplink::try_out)? {
        Ok(()) if forwarded.is_none() => {
            Some("the kernel will forward it and translate addresses".to_owned())
        }
        Ok(()) => Some("the kernel will forward it when all containers have been started anew".to_owned()),
        Err(error) => Some(Failure::of(&error.into()).to_string()),
    };
    let detail = match forwarded {
        Some(true) => "the kernel forwards what goes out over IPv4 and translates addresses".to_owned(),
        Some(false) => match expected() {
            Some(reason) => format!("connections are relayed: {reason}"),
            None => "connections are relayed".to_owned(),
        },
        None => expected()?,
    };
    Some(Check::new("way out", Verdict::Ok, detail))
}

/// Two descriptors for each connection (`dpack_network`).
fn connections() -> Check {
    let limit = getrlimit(Resource::Nofile).maximum.map_or(u64::MAX, |limit| limit / 2);
    let backlog = setting("core/somaxconn").unwrap_or_default();
    let detail = format!("about {limit} at a time, {backlog} in the backlog of a port");
    match limit {
        0..1000 => {
            Check::new("connections", Verdict::Warning, detail).hint("raise `ulimit -Hn` (limits.conf(5))")
        }
        _ => Check::new("connections", Verdict::Ok, detail),
    }
}

/// An address that the kernel would use towards the outside; nothing is sent.
fn outside() -> Check {
    let towards = |address: IpAddr| {
        let socket = connected((address, 9).into()).ok()?;
        socket.local_addr().ok().map(|local| local.ip().to_string())
    };
    // Addresses of documentation (RFC 5737, RFC 3849): outside for sure.
    let found = [[192, 0, 2, 1].into(), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])];
    let found: Vec<String> = found.into_iter().filter_map(towards).collect();
    match found.is_empty() {
        true => Check::new("outside", Verdict::Warning, "the device has no route to the outside"),
        false => Check::new("outside", Verdict::Ok, format!("by {}", found.join(" and "))),
    }
}

/// A socket that speaks UDP with one address alone.
fn connected(peer: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket)
}

fn name_servers() -> Vec<Check> {
    let name = "name server";
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = dpack_network::names::servers_of(&text);
    if servers.is_empty() {
        let detail = "/etc/resolv.conf names none: containers know each other, nobody else";
        return vec![Check::new(name, Verdict::Warning, detail)];
    }
    let check = |server: &IpAddr| match answers(*server) {
        Ok(()) => Check::new(name, Verdict::Ok, format!("{server} answers")),
        Err(error) => Check::new(name, Verdict::Warning, format!("{server} does not answer: {error}"))
            .hint("see /etc/resolv.conf, or name others for a service: `dns:`"),
    };
    servers.iter().map(check).collect()
}

fn answers(server: IpAddr) -> std::io::Result<()> {
    let socket = connected((server, 53).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&ROOT_SERVERS)?;
    socket.recv(&mut [0; 512]).map(drop)
}

/// State of the network process, if there is one.
fn running(settings: &Settings) -> Result<Option<Status>, Failure> {
    let client = client(settings).map_err(|error| Failure::of(&error))?;
    client.map(|mut client| client.status()).transpose().map_err(|error| Failure::of(&error.into()))
}

/// How much is going on, and whether somebody listens behind each published port.
fn network_process(status: &Status) -> Vec<Check> {
    let detail = format!(
        "process {}: {} networks, {} containers, {} connections in and {} out, {} DNS questions",
        status.pid,
        status.networks.len(),
        status.containers.len(),
        status.connections,
        status.outgoing,
        status.dns_queries
    );
    let mut checks = vec![Check::new(PROCESS, Verdict::Ok, detail)];
    checks.extend(published(status));
    checks
}

fn published(status: &Status) -> Vec<Check> {
    let ports = status
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().map(move |port| (container, port)));
    let tcp = ports.filter(|(_, port)| port.protocol == dpack_network::Protocol::Tcp);
    tcp.filter_map(|(container, port)| {
        let address = port.addresses.first()?;
        let name = format!("port {}", address.port());
        let target = format!("port {} of {}", port.target, container.container);
        Some(match reached(*address) {
            true => Check::new(&name, Verdict::Ok, format!("{target} takes connections")),
            false => Check::new(&name, Verdict::Warning, format!("nobody listens on {target}"))
                .hint("the service is not ready, or listens on another port or on 127.0.0.1 alone"),
        })
    })
    .collect()
}

/// A connection that nobody takes inside the container is reset at once; one that is taken stays.
fn reached(address: SocketAddr) -> bool {
    use std::io::{ErrorKind, Read as _};
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), PATIENCE) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(300)));
    // Whoever is silent or says something or good-bye is there.
    !matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}
