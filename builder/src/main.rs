//! `dpack`, the command line: arguments become settings, a command calls the library and prints.
//!
//! Data goes to standard output, everything else to standard error. Exit codes are those of `dpack::error::Kind`.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod progress;
mod settings;
mod signals;
mod text;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::{Arguments, Command};
use crate::settings::Environment;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let code = if asked { 0 } else { dpack::error::Kind::Usage.exit_code() };
            return ExitCode::from(code);
        }
    };
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(error) => return ExitCode::from(failure::show(&error, false)),
    };
    let result = match &arguments.command {
        Command::Build(arguments) => commands::build::run(arguments, &environment),
        Command::Inspect(arguments) => commands::inspect::run(arguments),
        Command::Extract(arguments) => commands::extract::run(arguments),
        Command::Cache(arguments) => commands::cache::run(&arguments.command, &environment),
        Command::Config(arguments) => commands::config::run(arguments, &environment),
        Command::Version(arguments) => commands::version::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if text::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(failure::show(&error, environment.colours())),
    }
}
