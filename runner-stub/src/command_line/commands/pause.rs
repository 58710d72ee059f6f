//! `pause`, `unpause`: the kernel's freezer stops all processes of a container at once. Needs no supervisor.
//!
//! SIGSTOP to every process would not be the same: it reaches one after the other, their parents see it, and the first SIGCONT
//! from inside undoes it. Where a container has no control group of its own, this is refused.

use anyhow::Result;
use dpack_sandbox::Error;
use dpack_sandbox::cgroup::{self, Group, Place};

use super::super::SUCCESS;
use super::super::args::Services;
use super::super::output;
use super::super::settings::Settings;
use crate::container::{Container, State};
use crate::failure::Failure;
use crate::plan;
use crate::supervisor::sandbox_failure;

/// `pause` and, with `frozen` unset, `unpause`.
pub(crate) fn run(settings: &Settings, arguments: &Services, frozen: bool) -> Result<u8> {
    if !arguments.services.is_empty() {
        plan::check_services(&settings.known()?, &arguments.services)?;
    }
    for container in Container::list(&settings.project)? {
        let identity = &container.identity;
        let wanted = arguments.services.is_empty() || arguments.services.contains(&identity.service);
        let State::Running { pid, .. } = container.state else { continue };
        if !wanted || identity.one_off {
            continue;
        }
        freeze(pid, frozen).map_err(|error| explained(error, &identity.name))?;
        crate::events::append(&settings.project, identity, if frozen { "pause" } else { "unpause" }, &[]);
        output::note(&format!(
            " Container {}  {}",
            identity.name,
            if frozen { "Paused" } else { "Unpaused" }
        ));
    }
    Ok(SUCCESS)
}

fn freeze(init: i32, frozen: bool) -> Result<(), Error> {
    Group::of_process(init).ok_or(Error::NoFreezer)?.freeze(frozen)
}

fn explained(error: Error, name: &str) -> anyhow::Error {
    if !matches!(error, Error::NoFreezer) {
        return sandbox_failure(error).context(format!("failed to pause container {name}"));
    }
    let hint = match cgroup::is_managed() {
        true => "give its service a limit, such as `pids_limit: 1000`, for which systemd is asked for one, then up".to_owned(),
        false => Place::look().lack().map(|lack| format!("{}, then up", lack.hint)).unwrap_or_default(),
    };
    Failure::environment(format!(
        "container {name} has no control group of its own, and only that can be paused"
    ))
    .hint(hint)
    .into()
}
