//! The command line: clap types become [`settings::Settings`], one module for each verb asks the supervisor or reads the
//! disk, and prints.

mod args;
mod client;
mod commands;
mod log_printer;
pub(crate) mod oci;
mod output;
mod progress;
mod refused;
mod settings;
mod template;
mod times;
mod uplink;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use clap::error::ErrorKind;

use args::{Arguments, Command};
use settings::Settings;

use crate::failure::Failure;

pub(crate) use commands::cp::{ROLE as COPY_ROLE, main as copy_main};
pub(crate) use commands::doctor::{ROLE as DOCTOR_ROLE, main as doctor_main};
pub(crate) use commands::run::{ROLE as RUN_ROLE, main as run_main};

/// Runs what was typed.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help goes to standard output with status 0, mistakes to standard error with status 2.
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            return commands::version::run(&args::Version::default())
                .map_or_else(|error| fail(&error), ExitCode::from);
        }
        Err(error) => match refused::explain(&error) {
            Some(failure) => return fail(&failure.into()),
            None => error.exit(),
        },
    };
    match dispatch(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(&error),
    }
}

/// Reports an error and gives its exit status.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let failure = Failure::of(error);
    output::report(&failure);
    ExitCode::from(failure.exit_status())
}

/// Exit status of a command that did what it should.
const SUCCESS: u8 = 0;

fn dispatch(arguments: Arguments) -> Result<u8> {
    let settings = || Settings::resolve(&arguments.global);
    match arguments.command {
        Command::Up(ref up) => commands::up::run(&settings()?, up),
        Command::Down(ref down) => commands::lifecycle::down(&settings()?, down),
        Command::Create(ref create) => commands::up::create(&settings()?, create),
        Command::Rm(ref rm) => commands::lifecycle::rm(&settings()?, rm),
        Command::Attach(ref attach) => commands::attach::run(&settings()?, attach),
        Command::Cp(ref cp) => commands::cp::run(&settings()?, cp),
        Command::Events(ref events) => commands::events::run(&settings()?, events),
        Command::Wait(ref wait) => commands::wait::run(&settings()?, wait),
        Command::Port(ref port) => commands::port::run(&settings()?, port),
        Command::Completion(ref completion) => commands::completion::run(&settings()?, completion),
        Command::Ps(ref ps) => commands::ps::run(&settings()?, ps),
        Command::Stats(ref stats) => commands::stats::run(&settings()?, stats),
        Command::Top(ref top) => commands::top::run(&settings()?, top),
        Command::Pause(ref pause) => commands::pause::run(&settings()?, pause, true),
        Command::Unpause(ref unpause) => commands::pause::run(&settings()?, unpause, false),
        Command::Logs(ref logs) => commands::logs::run(&settings()?, logs),
        Command::Exec(ref exec) => commands::exec::run(&settings()?, exec),
        Command::Run(ref run) => commands::run::run(&settings()?, run),
        Command::Stop(ref stop) => commands::lifecycle::stop(&settings()?, stop),
        Command::Start(ref start) => commands::lifecycle::start(&settings()?, start),
        Command::Restart(ref restart) => commands::lifecycle::restart(&settings()?, restart),
        Command::Kill(ref kill) => commands::lifecycle::kill(&settings()?, kill),
        Command::Images(ref images) => commands::images::run(&settings()?, images),
        Command::Config(ref config) => commands::config::run(&settings()?, config),
        Command::Bundle(ref bundle) => commands::bundle::run(&settings()?, bundle),
        Command::Inspect(format) => commands::inspect::run(format),
        Command::Network(ref network) => commands::network::run(&settings()?, network),
        Command::Doctor(doctor) => commands::doctor::run(&arguments.global, doctor),
        Command::Verify(format) => commands::verify::run(format),
        Command::Version(ref version) => commands::version::run(version),
    }
}
