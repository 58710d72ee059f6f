//! `cargo xtask check`: what needs no execution. Formatting, lints, documentation, dependency policy.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{process, workspace};

/// Runs every check; the first failure ends it.
pub(crate) fn run() -> Result<()> {
    format_and_lint()?;
    documentation()?;
    dependencies()
}

/// The checks that `cargo xtask test` begins with.
pub(crate) fn format_and_lint() -> Result<()> {
    process::run(workspace::cargo()?.args(["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    process::run(workspace::cargo()?.args(clippy))
}

/// Links between items lead somewhere, private ones included.
pub(crate) fn documentation() -> Result<()> {
    process::run(
        workspace::cargo()?
            .args(["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}

/// Version of cargo-deny that CI installs.
const CARGO_DENY: &str = "0.20.2";

/// Licences, bans and sources by `deny.toml`, and advisories where their database can be reached.
///
/// cargo-deny is a program of its own: without it this is skipped aloud, and in CI, where nothing may be skipped, it is
/// compiled into the development cache.
pub(crate) fn dependencies() -> Result<()> {
    let deny = match std::env::var_os("CI").filter(|value| !value.is_empty()) {
        _ if process::exists("cargo-deny") => PathBuf::from("cargo-deny"),
        Some(_) => cargo_deny()?,
        None => {
            eprintln!("skipped: dependency policy (hint: cargo install --locked cargo-deny)");
            return Ok(());
        }
    };
    let mut what = vec!["bans", "licenses", "sources"];
    let mut fetch = Command::new(&deny);
    fetch.args(["fetch", "db"]).current_dir(workspace::root()?).stdin(Stdio::null()).stderr(Stdio::null());
    if fetch.status().is_ok_and(|status| status.success()) {
        what.push("advisories");
    } else {
        eprintln!("not checked: advisories, because their database cannot be fetched");
    }
    let mut check = Command::new(deny);
    check.args(["--all-features", "--log-level", "error", "check"]).args(what);
    process::run(check.current_dir(workspace::root()?))
}

/// cargo-deny in the development cache, installed if need be. Not optimised: it compiles longer than it runs.
fn cargo_deny() -> Result<PathBuf> {
    let root = workspace::cache()?.join("cargo-deny").join(CARGO_DENY);
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = workspace::cargo()?;
        install.args(["install", "--quiet", "--locked", "--version", CARGO_DENY, "--root"]).arg(&root);
        install.arg("cargo-deny").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").stdin(Stdio::null());
        process::run(install.env("CARGO_PROFILE_RELEASE_LTO", "off"))?;
    }
    Ok(program)
}
