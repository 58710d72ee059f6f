//! Why the network process refused: typed, and the same on both sides of the socket.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use serde::{Deserialize, Serialize};

use crate::protocol::Protocol;

/// A request that was not carried out. Nothing of it remains done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// Something else listens on a port that is to be published.
    #[error(
        "port {}{}/{protocol} of container `{container}` is in use on {}{}",
        .address.port(), up_to(*.last), .address.ip(), held_by(.owner.as_deref())
    )]
    PortInUse {
        /// Container whose port it is.
        container: String,
        /// Address that was asked for.
        address: SocketAddr,
        /// Last port of the range that was asked for: in use, or not for this user, are all of them.
        #[serde(default)]
        last: Option<u16>,
        /// Transport protocol.
        protocol: Protocol,
        /// Who listens there: the network process sees no other processes, so that its client asks ([`crate::port_owner`]).
        owner: Option<String>,
    },
    /// The kernel reserves low ports for root.
    #[error(
        "container `{container}` may not publish port {}/{protocol}: ports below {first} need a privilege\n\
         hint: sudo sysctl net.ipv4.ip_unprivileged_port_start={}", .address.port(), .address.port()
    )]
    PortReserved {
        /// Container whose port it is.
        container: String,
        /// Address that was asked for.
        address: SocketAddr,
        /// Transport protocol.
        protocol: Protocol,
        /// Lowest port that is free for all at present.
        first: u16,
    },
    /// The address of a published port is not one of the device's, or the kernel refused for another reason.
    #[error("failed to listen on {address}/{protocol} for container `{container}`: {cause}")]
    Listen {
        /// Container whose port it is.
        container: String,
        /// Address that was asked for.
        address: SocketAddr,
        /// Transport protocol.
        protocol: Protocol,
        /// The kernel's reason.
        cause: String,
    },
    /// A container names a network that was not configured.
    #[error("container `{container}` is on network `{network}`, which is not one of the project's")]
    UnknownNetwork {
        /// Container name.
        container: String,
        /// Key that leads nowhere.
        network: String,
    },
    /// The pool of subnets is used up.
    #[error(
        "no subnet is left for network `{network}`: there are {limit}, and other networks or routes of the device have them\n\
         hint: give it one with `ipam`"
    )]
    NoSubnet {
        /// Key of the network.
        network: String,
        /// Number of subnets there are.
        limit: usize,
    },
    /// The subnet that a network was given is another one's.
    #[error("subnet {subnet} of network `{network}` overlaps with {other} of network `{owner}`")]
    SubnetTaken {
        /// Key of the network.
        network: String,
        /// Its subnet.
        subnet: IpNet,
        /// The subnet that has addresses of it.
        other: IpNet,
        /// Key of the network that has that one.
        owner: String,
    },
    /// A network is to be another one, and containers are on it.
    #[error(
        "network `{network}` has changed, and other containers are still on it\nhint: start all services of the network, or take the project down first"
    )]
    NetworkInUse {
        /// Key of the network.
        network: String,
    },
    /// The address that a container asks for is another one's, or none of the network's.
    #[error("container `{container}` cannot have address {address} on network `{network}`: {reason}")]
    Address {
        /// Key of the network.
        network: String,
        /// Container name.
        container: String,
        /// The address.
        address: IpAddr,
        /// Why not.
        reason: String,
    },
    /// All addresses of a network are in use.
    #[error("no address is left on network `{network}` for container `{container}`")]
    NoAddress {
        /// Key of the network.
        network: String,
        /// Container name.
        container: String,
    },
    /// A request that makes no sense.
    #[error("invalid request: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The other side is another release.
    #[error(
        "the running network process speaks protocol version {running}, this executable {ours}\nhint: stop the project with the executable that started it"
    )]
    Version {
        /// Version of the network process.
        running: u32,
        /// Version of the client.
        ours: u32,
    },
    /// The kernel refused a step.
    #[error("failed to {step}: {cause}")]
    System {
        /// What was attempted.
        step: String,
        /// The kernel's reason, with a hint where one is known.
        cause: String,
    },
}

impl Failure {
    /// For `map_err`: the kernel refused `step`.
    pub(crate) fn system<E: std::fmt::Display>(step: impl Into<String>) -> impl FnOnce(E) -> Failure {
        let step = step.into();
        move |cause| Failure::System { step, cause: cause.to_string() }
    }
}

/// The end of a range.
fn up_to(last: Option<u16>) -> String {
    last.map_or_else(String::new, |last| format!("-{last}"))
}

fn held_by(owner: Option<&str>) -> String {
    owner.map_or_else(String::new, |owner| format!(", held by {owner}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn refused_ports_say_what_to_do() {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
        let (container, protocol) = ("shop-web-1".to_owned(), Protocol::Tcp);
        let reserved = Failure::PortReserved { container: container.clone(), address, protocol, first: 1024 };
        assert_eq!(
            reserved.to_string(),
            "container `shop-web-1` may not publish port 80/tcp: ports below 1024 need a privilege\n\
             hint: sudo sysctl net.ipv4.ip_unprivileged_port_start=80"
        );
        let owner = Some("process 12 (nginx)".to_owned());
        assert_eq!(
            Failure::PortInUse { container, address, last: None, protocol, owner }.to_string(),
            "port 80/tcp of container `shop-web-1` is in use on 0.0.0.0, held by process 12 (nginx)"
        );
    }
}
