//! `cargo xtask check`: what needs no execution. Formatting, lints, documentation, dependency policy.

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

/// Licences, advisories, sources: `deny.toml`. cargo-deny is a program of its own; without it this is skipped aloud.
pub(crate) fn dependencies() -> Result<()> {
    if !process::exists("cargo-deny") {
        eprintln!("skipped: dependency policy (hint: cargo install --locked cargo-deny)");
        return Ok(());
    }
    process::run(workspace::cargo()?.args(["deny", "--all-features", "check"]))
}
