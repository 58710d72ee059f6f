//! `config`: the project with every variable filled in, as `docker compose config` prints it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use dpack_compose::{Resolved, Source};

use super::super::SUCCESS;
use super::super::args::Config;
use super::super::output::{self, Table};
use super::super::settings::Settings;
use crate::container::configuration_hash;
use crate::failure::{Context as _, Failure};
use crate::files;
use crate::plan;

/// `config`
pub(crate) fn run(settings: &Settings, arguments: &Config) -> Result<u8> {
    let resolved = settings.resolved()?;
    for warning in &resolved.warnings {
        output::note(&format!("warning: {warning}"));
    }
    if arguments.quiet {
        return Ok(SUCCESS);
    }
    let text = text(settings, arguments, &resolved)?;
    match &arguments.output {
        Some(path) => files::write_output(path, &text).environment()?,
        None => output::print(&text),
    }
    Ok(SUCCESS)
}

fn text(settings: &Settings, arguments: &Config, resolved: &Resolved) -> Result<String> {
    let project = &resolved.project;
    let lines = |lines: Vec<&str>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let json = arguments.format == "json";
    Ok(if arguments.services {
        lines(project.services.keys().map(String::as_str).collect())
    } else if arguments.volumes {
        lines(project.volumes.keys().map(String::as_str).collect())
    } else if arguments.networks {
        lines(project.networks.keys().map(String::as_str).collect())
    } else if arguments.profiles {
        let services = project.services.values().chain(project.disabled.values());
        let profiles: BTreeSet<&str> =
            services.flat_map(|service| service.profiles.iter().map(String::as_str)).collect();
        lines(profiles.into_iter().collect())
    } else if arguments.images {
        let images = project.services.iter().map(|(name, service)| {
            // One that was built has its name from the builder.
            let own = settings.executable.image(name, &service.image).ok();
            own.map_or(service.image.as_str(), |image| image.reference.as_str())
        });
        lines(images.collect())
    } else if let Some(services) = &arguments.hash {
        hashes(settings, resolved, services)?
    } else if arguments.variables {
        let mut table = Table::new(&["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"]);
        for (name, used) in &resolved.variables {
            let required = used.required.to_string();
            table.row([name.clone(), required, used.default.clone(), used.alternate.clone()]);
        }
        table.to_string()
    } else if arguments.environment && json {
        format!("{}\n", serde_json::to_string_pretty(&resolved.variables)?)
    } else if arguments.environment {
        let mut table = Table::new(&["VARIABLE", "VALUE", "SOURCE"]);
        for (name, used) in &resolved.variables {
            let (value, source) = match &used.variable {
                None => (String::new(), "not set".to_owned()),
                Some(variable) => (variable.value.clone(), source(&variable.source)),
            };
            table.row([name.clone(), value, source]);
        }
        table.to_string()
    } else if json {
        format!("{}\n", serde_json::to_string_pretty(&resolved.to_json())?)
    } else {
        resolved.to_yaml()
    })
}

/// `service hash`, one a line. The device's ID map, which is in the hash of a container, is not in these.
fn hashes(settings: &Settings, resolved: &Resolved, services: &str) -> Result<String> {
    let project = &resolved.project;
    let asked: Vec<String> = match services {
        "*" => project.services.keys().cloned().collect(),
        named => named.split(',').map(str::to_owned).collect(),
    };
    plan::check_services(project, &asked)?;
    let mut text = String::new();
    for name in &asked {
        let service =
            project.services.get(name).with_context(|| format!("service `{name}` is not active"))?;
        let image = settings.executable.image(name, &service.image)?.digest;
        let others = service.other_images().map(|other| Ok(settings.executable.image(name, other)?.digest));
        let others: Vec<_> = others.collect::<Result<_, Failure>>()?;
        let _ = writeln!(text, "{name} {}", configuration_hash(project, service, &image, &others, "")?);
    }
    Ok(text)
}

fn source(source: &Source) -> String {
    match source {
        Source::Process => "environment".to_owned(),
        Source::File(file) => file.clone(),
        Source::Embedded(file) => format!("{file} (embedded)"),
    }
}
