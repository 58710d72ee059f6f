//! `cp`: copies between a container and the device, in the role `dpack-copy` inside the project's user namespace, where the
//! owners of the container's files are.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use dpack_sandbox::copy::{self, CopyError, CopyOptions, Direction};
use dpack_sandbox::role::Spawn;
use serde::{Deserialize, Serialize};

use super::super::args::Cp;
use super::super::client::Namespace;
use super::super::settings::Settings;
use super::super::{SUCCESS, output};
use super::exec::replica;
use crate::container::Container;
use crate::failure::{Context as _, Failure};
use crate::plan;
use crate::supervisor::sandbox_failure;

/// `argv[0]` of the role.
pub(crate) const ROLE: &str = "dpack-copy";

/// What the role is told: its only argument.
#[derive(Debug, Serialize, Deserialize)]
struct Commission {
    container: PathBuf,
    inside: String,
    outside: String,
    into: bool,
    follow: bool,
    archive: bool,
}

/// One end of a copy as it was typed.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Container(&'a str, &'a str),
    Device(&'a str),
}

/// `cp`
pub(crate) fn run(settings: &Settings, arguments: &Cp) -> Result<u8> {
    let (service, inside, outside, into) = match (end(&arguments.source), end(&arguments.target)) {
        (End::Container(service, inside), End::Device(outside)) => (service, inside, outside, false),
        (End::Device(outside), End::Container(service, inside)) => (service, inside, outside, true),
        _ => {
            let failure = Failure::usage("one of the two has to be in a container, and one on the device");
            return Err(failure.hint("cp SERVICE:PATH PATH, or: cp PATH SERVICE:PATH").into());
        }
    };
    if outside == "-" {
        let failure = Failure::usage("a stream of tar is not supported");
        return Err(failure.hint(format!("exec -T {service} tar -c … , where the image has tar")).into());
    }
    let folder = std::env::current_dir().context("failed to find the working directory")?;
    let outside = absolute(&folder, outside)?;
    let namespace = Namespace::find(settings)?;
    for container in meant(settings, arguments, service)? {
        let commission = Commission {
            container: settings.project.container(&container.identity.name),
            inside: inside.to_owned(),
            outside: outside.clone(),
            into,
            follow: arguments.follow_link,
            archive: arguments.archive,
        };
        let commission = serde_json::to_string(&commission).context("failed to encode a commission")?;
        let spawn = Spawn::new(ROLE).arg(commission).program_length(settings.executable.program_length());
        let copying = namespace.apply(spawn).spawn().map_err(sandbox_failure)?;
        let status = copying.wait().map_err(sandbox_failure)?;
        if status != 0 {
            return Ok(u8::try_from(status).unwrap_or(u8::MAX));
        }
    }
    Ok(SUCCESS)
}

fn meant(settings: &Settings, arguments: &Cp, service: &str) -> Result<Vec<Container>> {
    if let Some(index) = arguments.index {
        return Ok(vec![replica(settings, service, index)?]);
    }
    let mut containers = Container::list(&settings.project)?;
    containers.retain(|container| {
        container.identity.service == service && (arguments.all || !container.identity.one_off)
    });
    if containers.is_empty() {
        plan::check_services(&settings.known()?, &[service.to_owned()])?;
        return Err(Failure::usage(format!("service `{service}` has no container"))
            .hint("create it with: up -d")
            .into());
    }
    // Into every container of the service, out of the first, as Docker Compose does it.
    if matches!(end(&arguments.source), End::Container(..)) {
        containers.truncate(1);
    }
    Ok(containers)
}

/// A colon after a slash or a dot is part of a path of the device.
fn end(text: &str) -> End<'_> {
    match text.split_once(':') {
        Some((service, path))
            if !service.is_empty() && !service.contains('/') && !service.starts_with('.') =>
        {
            End::Container(service, path)
        }
        _ => End::Device(text),
    }
}

/// Without losing a slash or a dot at the end, which mean something.
fn absolute(folder: &Path, text: &str) -> Result<String> {
    let folder = folder.to_str().context("the working directory is not UTF-8").environment()?;
    Ok(if text.starts_with('/') { text.to_owned() } else { format!("{folder}/{text}") })
}

/// Role entry: inside the user namespace, one thread.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::super::fail(&error),
    }
}

fn serve() -> Result<()> {
    let argument = std::env::args().nth(1).context("`cp` was started without its commission")?;
    let commission: Commission =
        serde_json::from_slice(argument.as_bytes()).context("the commission of `cp` makes no sense")?;
    let options = CopyOptions {
        container_dir: &commission.container,
        // Paths in a container start at its root, with or without a slash.
        inside: &format!("/{}", commission.inside.trim_start_matches('/')),
        outside: &commission.outside,
        direction: if commission.into { Direction::In } else { Direction::Out },
        follow: commission.follow,
        archive: commission.archive,
    };
    let skipped = copy::copy(&options).map_err(|error| match error {
        CopyError::Root(error) => sandbox_failure(error),
        CopyError::Misfit { .. } => Failure::usage(error.to_string()).into(),
        CopyError::File { .. } => anyhow::Error::from(error),
    });
    for path in skipped.environment()? {
        output::note(&format!("warning: `{path}` is a device or socket and was not copied"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_end_is_in_a_container() {
        assert_eq!(end("web:/etc/hosts"), End::Container("web", "/etc/hosts"));
        assert_eq!(end("web:x:y"), End::Container("web", "x:y"));
        for path in ["./web:x", "/a/b:c", "file", ":x", "../a:b"] {
            assert_eq!(end(path), End::Device(path));
        }
        assert_eq!(absolute(Path::new("/w"), "a/.").unwrap(), "/w/a/.");
    }
}
