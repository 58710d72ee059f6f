//! `config`: the project with every variable filled in, as `docker compose config` prints it.

use std::collections::BTreeSet;

use anyhow::Result;
use dpack_compose::Source;

use super::super::SUCCESS;
use super::super::args::Config;
use super::super::output::{self, Table};
use super::super::settings::Settings;

/// `config`
pub(crate) fn run(settings: &Settings, arguments: &Config) -> Result<u8> {
    let resolved = settings.resolved()?;
    for warning in &resolved.warnings {
        output::note(&format!("warning: {warning}"));
    }
    let project = &resolved.project;
    let lines =
        |lines: Vec<&str>| output::print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    if arguments.quiet {
        return Ok(SUCCESS);
    }
    if arguments.services {
        lines(project.services.keys().map(String::as_str).collect());
    } else if arguments.volumes {
        lines(project.volumes.keys().map(String::as_str).collect());
    } else if arguments.networks {
        lines(project.networks.keys().map(String::as_str).collect());
    } else if arguments.profiles {
        let services = project.services.values().chain(project.disabled.values());
        let profiles: BTreeSet<&str> =
            services.flat_map(|service| service.profiles.iter().map(String::as_str)).collect();
        lines(profiles.into_iter().collect());
    } else if arguments.images {
        let images = project.services.iter().map(|(name, service)| {
            // One that was built has its name from the builder.
            let own = settings.executable.image(name, &service.image).ok();
            own.map_or(service.image.as_str(), |image| image.reference.as_str())
        });
        lines(images.collect());
    } else if arguments.environment && arguments.format.json() {
        output::print_json(&resolved.variables)?;
    } else if arguments.environment {
        let mut table = Table::new(&["VARIABLE", "VALUE", "SOURCE"]);
        for (name, variable) in &resolved.variables {
            let (value, source) = match variable {
                None => (String::new(), "not set".to_owned()),
                Some(variable) => (variable.value.clone(), source(&variable.source)),
            };
            table.row([name.clone(), value, source]);
        }
        output::print(&table.to_string());
    } else if arguments.format.json() {
        output::print_json(&resolved.to_json())?;
    } else {
        output::print(&resolved.to_yaml());
    }
    Ok(SUCCESS)
}

fn source(source: &Source) -> String {
    match source {
        Source::Process => "environment".to_owned(),
        Source::File(file) => file.clone(),
        Source::Embedded(file) => format!("{file} (embedded)"),
    }
}
