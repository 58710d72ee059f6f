//! `port`: where a port of a container is published. Read from disk; needs no supervisor.

use std::net::IpAddr;

use anyhow::Result;
use dpack_compose::project::Protocol;

use super::super::SUCCESS;
use super::super::args::PrivatePort;
use super::super::output;
use super::super::settings::Settings;
use super::exec::replica;
use crate::failure::Failure;

/// `port`
pub(crate) fn run(settings: &Settings, arguments: &PrivatePort) -> Result<u8> {
    let protocol = match arguments.protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            let failure = Failure::usage(format!("`{other}` is no protocol")).hint("tcp or udp");
            return Err(failure.into());
        }
    };
    let container = replica(settings, &arguments.service, arguments.index)?;
    let published = container.supervision.ports.iter().find(|port| {
        port.target == arguments.private_port && port.protocol == protocol && container.state.is_running()
    });
    let Some(port) = published else {
        return Err(Failure::usage(format!(
            "no port {}/{} of container {} is published",
            arguments.private_port,
            arguments.protocol.to_ascii_lowercase(),
            container.identity.name
        ))
        .into());
    };
    let number = port.published.unwrap_or(0);
    match port.host_ip {
        Some(IpAddr::V6(address)) => output::print(&format!("[{address}]:{number}\n")),
        Some(IpAddr::V4(address)) => output::print(&format!("{address}:{number}\n")),
        None => output::print(&format!("0.0.0.0:{number}\n")),
    }
    Ok(SUCCESS)
}
