//! Which Rust compiles the stubs: rustup's where its targets are installed, else Debian's with a library made for it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use dpack_targets::Target;

use crate::{process, setup, workspace};

/// A Rust toolchain that can build for some targets.
pub(crate) struct Toolchain {
    /// Path of cargo.
    pub(crate) cargo: PathBuf,
    /// Path of rustc.
    pub(crate) rustc: PathBuf,
    /// The folder whose `lib/rustlib/<triple>` has the standard libraries.
    pub(crate) sysroot: PathBuf,
    /// Release and commit, for messages.
    pub(crate) version: String,
    /// Commit that the standard library was built from.
    pub(crate) commit: String,
}

/// Whether rustup's toolchain, the one that runs us, has the standard library of each target.
pub(crate) fn rustup_has(targets: &[&Target]) -> Result<bool> {
    let libraries = rustup_sysroot()?.join("lib/rustlib");
    Ok(targets.iter().all(|target| libraries.join(target.triple).join("lib").is_dir()))
}

/// A toolchain for all these targets, installed and built if need be.
pub(crate) fn prepare(targets: &[&Target]) -> Result<Toolchain> {
    setup::stubs(targets)?;
    if rustup_has(targets)? {
        let sysroot = rustup_sysroot()?;
        return describe(sysroot.join("bin/cargo"), sysroot.join("bin/rustc"), sysroot);
    }
    let script = workspace::root()?.join("ci/stub-toolchain.sh");
    let sysroot = process::output(
        Command::new(script)
            .args(targets.iter().map(|target| format!("{}:{}", target.triple, target.debian)))
            .env("DPACK_DEV_CACHE", workspace::cache()?),
    )?;
    describe("/usr/bin/cargo".into(), "/usr/bin/rustc".into(), sysroot.into())
}

fn rustup_sysroot() -> Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    process::output(rustc.args(["--print", "sysroot"]).current_dir(workspace::root()?)).map(PathBuf::from)
}

fn describe(cargo: PathBuf, rustc: PathBuf, sysroot: PathBuf) -> Result<Toolchain> {
    let verbose = process::output(Command::new(&rustc).arg("-vV"))?;
    let field = |name: &str| {
        verbose.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    Ok(Toolchain {
        version: verbose.lines().next().unwrap_or_default().to_owned(),
        commit: field("commit-hash:").context("rustc does not know its commit")?,
        cargo,
        rustc,
        sysroot,
    })
}
