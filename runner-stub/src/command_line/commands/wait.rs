//! `wait`: until containers stop. Read from disk; needs no supervisor.

use std::time::Duration;

use anyhow::Result;

use super::super::SUCCESS;
use super::super::args::{Down, Wait};
use super::super::output;
use super::super::settings::Settings;
use super::lifecycle;
use crate::container::{Container, State};
use crate::failure::Failure;
use crate::logs::Follower;
use crate::plan;

/// A shim that was killed leaves no record to be woken by.
const LOOK: Duration = Duration::from_secs(1);

/// `wait`: the exit status is that of the container that stopped last.
pub(crate) fn run(settings: &Settings, arguments: &Wait) -> Result<u8> {
    if !arguments.services.is_empty() {
        plan::check_services(&settings.known()?, &arguments.services)?;
    }
    let mut left: Vec<Container> = Container::list(&settings.project)?;
    left.retain(|container| {
        arguments.services.is_empty() || arguments.services.contains(&container.identity.service)
    });
    if left.is_empty() {
        return Err(Failure::usage(format!("no containers for project `{}`", settings.name))
            .hint("create them with: up -d")
            .into());
    }
    let mut follower = Follower::new();
    for container in &left {
        follower.watch(&settings.project.container(&container.identity.name));
    }
    let (mut last, mut stopped) = (SUCCESS, false);
    loop {
        let mut waiting = Vec::new();
        for container in left {
            let folder = settings.project.container(&container.identity.name);
            let state = Container::load(&folder)?.map(|container| container.state);
            match state {
                Some(State::Running { .. } | State::Restarting { .. }) => waiting.push(container),
                Some(State::Exited { code, .. }) => {
                    output::print(&format!(
                        "container \"{}\" exited with status code {code}\n",
                        container.identity.id
                    ));
                    (last, stopped) = (u8::try_from(code).unwrap_or(u8::MAX), true);
                }
                // Never started: nothing to wait for, as in Docker. Removed: it has stopped.
                Some(State::Created) | None => {}
            }
        }
        if arguments.down_project && (stopped || waiting.is_empty()) {
            let all = Down { volumes: false, remove_orphans: false, timeout: None, services: Vec::new() };
            lifecycle::down(settings, &all)?;
            return Ok(last);
        }
        if waiting.is_empty() {
            return Ok(last);
        }
        left = waiting;
        follower.wait(LOOK);
    }
}
