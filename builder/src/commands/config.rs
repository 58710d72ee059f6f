//! `dpack config`: the application as the Compose files mean it here.

use anyhow::Result;
use dpack::compose;

use crate::args::{ConfigArguments, ConfigFormat};
use crate::settings::{self, Environment};
use crate::text::{print, print_json};

pub(crate) fn run(arguments: &ConfigArguments, environment: &Environment) -> Result<()> {
    // Without output it is a check, of what runs.
    let options = compose::Options {
        show_only: !arguments.quiet,
        ..settings::compose(&arguments.compose, environment)
    };
    let application = super::load(&options)?;
    match arguments.format {
        _ if arguments.quiet => Ok(()),
        ConfigFormat::Yaml => print(&application.resolved.to_yaml()),
        ConfigFormat::Json => print_json(&application.resolved.to_json()),
    }
}
