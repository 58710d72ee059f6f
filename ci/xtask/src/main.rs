//! `cargo xtask <command>`: the one front door, for people and for pipelines.
//!
//! Each command sets up what it needs, so that any of them may be the first on a fresh machine. Progress goes to
//! standard error, results to standard output.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

mod arguments;
mod bench;
mod check;
mod demo;
mod elf;
mod process;
mod reproducible;
mod setup;
mod sizes;
mod static_build;
mod stubs;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use arguments::Arguments;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup                      install the Debian packages that the other commands need
  stubs [--platform P]...    build the static runners into target/stubs
        [--check-reproducible]   build two clones in two folders and compare
  probe                      build the static probe of the tests into target/probes
  demo                       build an application for three platforms, run it, look at it, stop it
  test [FILTER]              everything a change has to pass: check, unit tests, stubs, integration tests
  bench [--quick] [--rounds N] [--format json] [NAME]...
                             ratios against crun, podman, skopeo and zstd (needs root)
  check                      formatting, lints, documentation, dependency policy
  size [--record]            size of the stubs against ci/stub-sizes.txt";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = Arguments::from_environment()?;
    let Some(command) = arguments.word() else {
        bail!("no command given\n{USAGE}");
    };
    match command.as_str() {
        "setup" => arguments.finish().and_then(|()| setup::everything()),
        "stubs" => {
            let check_reproducible = arguments.flag("--check-reproducible");
            let platforms = arguments.values("--platform")?;
            arguments.finish()?;
            if check_reproducible { reproducible::check(&platforms) } else { stubs::build(&platforms) }
        }
        "probe" => arguments.finish().and_then(|()| stubs::build_probes()),
        "demo" => arguments.finish().and_then(|()| demo::run()),
        "test" => {
            let filter = arguments.word();
            arguments.finish()?;
            test::run(filter.as_deref())
        }
        "bench" => bench::run(&arguments.rest()),
        "check" => arguments.finish().and_then(|()| check::run()),
        "size" => {
            let record = arguments.flag("--record");
            arguments.finish()?;
            if record { sizes::record() } else { sizes::compare() }
        }
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bail!("unknown command `{other}`\n{USAGE}"),
    }
}
