//! `network`: what the networks of the project are, and what passes through one of them.

mod capture;
mod inspect;

use anyhow::Result;
use dpack_compose::project::Project;
use dpack_network::Client;

use super::super::args::{Network, NetworkCommand};
use super::super::settings::Settings;
use crate::failure::{Context as _, Failure};

/// `network`
pub(crate) fn run(settings: &Settings, arguments: &Network) -> Result<u8> {
    match &arguments.command {
        NetworkCommand::Inspect(inspect) => inspect::run(settings, inspect),
        NetworkCommand::Capture(capture) => capture::run(settings, capture),
    }
}

/// The project's network process, if there is one.
pub(super) fn client(settings: &Settings) -> Result<Option<Client>> {
    match Client::connect(&settings.project.network_socket()) {
        Err(error) if error.is_absent() => Ok(None),
        client => Ok(Some(client.environment()?)),
    }
}

/// The key of a network that was named by key or by name.
fn key<'a>(project: &'a Project, named: &str) -> Result<&'a str, Failure> {
    let network = project.networks.iter().find(|(key, network)| *key == named || network.name == named);
    network.map(|(key, _)| key.as_str()).ok_or_else(|| {
        let known: Vec<&str> = project.networks.keys().map(String::as_str).collect();
        Failure::usage(format!("the project has no network `{named}`"))
            .hint(format!("its networks: {}", known.join(", ")))
    })
}
