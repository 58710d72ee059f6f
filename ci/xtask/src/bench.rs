//! `cargo xtask bench`: ratios against peers, measured on this machine. The benchmarks are in `tests/src/bin/bench`.

use std::process::Command;

use anyhow::Result;

use crate::{process, setup, stubs, workspace};

/// Sets up, builds what is measured as it is released, and measures. The arguments are the benchmark program's.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::everything()?;
    // without the table of sizes: standard output belongs to the report
    stubs::build_into(&stubs::RUNNER, &stubs::select(&[])?, &workspace::stubs()?)?;
    let build = [
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "dpack",
        "-p",
        "dpack-tests",
        "--bin",
        "dpack",
        "--bin",
        "bench",
    ];
    process::run(workspace::cargo()?.args(build))?;
    let programs = workspace::release_folder()?;
    process::run(
        Command::new(programs.join("bench")).args(arguments).env("DPACK_TEST_BINARY", programs.join("dpack")),
    )
}
