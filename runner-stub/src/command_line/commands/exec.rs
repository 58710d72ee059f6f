//! `exec`: joins a running container. Needs no supervisor, and no thread may exist when the namespaces are entered.

use std::io::IsTerminal as _;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use dpack_sandbox::exec::{self, ExecOptions};

use super::super::SUCCESS;
use super::super::args::Exec;
use super::super::settings::Settings;
use crate::container::{Container, State};
use crate::failure::{Context as _, Failure};
use crate::plan;
use crate::supervisor::{self, sandbox_failure};

/// `exec`
pub(crate) fn run(settings: &Settings, arguments: &Exec) -> Result<u8> {
    let container = running(settings, &arguments.service, arguments.index)?;
    let folder = settings.project.container(&container.identity.name);
    if arguments.detach {
        return detach(settings, arguments);
    }
    let tty = !arguments.no_tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut env = variables(&arguments.env);
    let user = match &arguments.user {
        Some(user) => {
            let (user, home) = supervisor::user(&folder, user)?;
            env.insert(0, format!("HOME={home}"));
            Some(user)
        }
        None => None,
    };
    if tty {
        env.insert(0, "TERM=xterm".to_owned());
    }
    let options = ExecOptions {
        container_dir: &folder,
        args: arguments.command.clone(),
        env,
        cwd: arguments.workdir.clone(),
        user,
        capabilities: arguments.privileged.then(dpack_bundle::all_capabilities),
        tty,
        stdin: true,
    };
    match exec::run(&options) {
        Ok(never) => match never {},
        Err(error) => Err(sandbox_failure(error)),
    }
}

/// A container of a service by its number, whatever it does.
pub(crate) fn replica(settings: &Settings, service: &str, index: u32) -> Result<Container> {
    let containers = Container::list(&settings.project)?;
    let found = containers.into_iter().find(|container| {
        let identity = &container.identity;
        !identity.one_off && identity.service == *service && identity.number == index
    });
    let Some(container) = found else {
        plan::check_services(&settings.known()?, &[service.to_owned()])?;
        return Err(Failure::usage(format!("service `{service}` has no container {index}"))
            .hint("create it with: up -d")
            .into());
    };
    Ok(container)
}

/// The same, and it has to run.
pub(crate) fn running(settings: &Settings, service: &str, index: u32) -> Result<Container> {
    let container = replica(settings, service, index)?;
    match container.state {
        State::Running { .. } => Ok(container),
        state => Err(Failure::usage(format!("service `{service}` is not running but {}", state.word()))
            .hint(format!("start it with: start {service}"))
            .into()),
    }
}

/// `KEY=VALUE` as it is; `KEY` with its value here, or not at all.
pub(crate) fn variables(written: &[String]) -> Vec<String> {
    let resolve = |text: &String| match text.contains('=') {
        true => Some(text.clone()),
        false => std::env::var(text).ok().map(|value| format!("{text}={value}")),
    };
    written.iter().filter_map(resolve).collect()
}

/// The same without a terminal, in a process of its own that nobody waits for.
fn detach(settings: &Settings, arguments: &Exec) -> Result<u8> {
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .args(["-p", &settings.name])
        .arg("--data-dir")
        .arg(&settings.paths.data)
        .args(["exec", "--no-tty"]);
    command.args(["--index", &arguments.index.to_string()]);
    command.args(arguments.privileged.then_some("--privileged"));
    for variable in &arguments.env {
        command.args(["--env", variable]);
    }
    for (flag, value) in [("--user", &arguments.user), ("--workdir", &arguments.workdir)] {
        command.args(value.iter().flat_map(|value| [flag, value]));
    }
    command.arg(&arguments.service).args(&arguments.command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().context("failed to start the process that joins the container").environment()?;
    Ok(SUCCESS)
}
