//! `cargo xtask stubs`: the runner as a static executable for each target, checked and put where `dpack` embeds it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use dpack_targets::{TARGETS, Target};

use crate::static_build::{self, Program};
use crate::{elf, sizes, toolchain, workspace};

pub(crate) const RUNNER: Program = Program { package: "dpack-runner", binary: "dpack-runner" };
const PROBE: Program = Program { package: "probe", binary: "probe" };

/// Builds the stubs of these platforms, or of all.
pub(crate) fn build(platforms: &[String]) -> Result<()> {
    let targets = select(platforms)?;
    let folder = workspace::stubs()?;
    build_into(&RUNNER, &targets, &folder)?;
    sizes::print(&targets, &folder)
}

/// Builds the probe for every platform.
pub(crate) fn build_probes() -> Result<()> {
    build_into(&PROBE, &select(&[])?, &workspace::probes()?)
}

/// Builds a program and puts it at `<folder>/<triple>/<binary>`, checked.
pub(crate) fn build_into(program: &Program, targets: &[&Target], folder: &Path) -> Result<()> {
    let toolchain = toolchain::prepare(targets)?;
    let root = workspace::root()?;
    eprintln!("building {} with {}", program.package, toolchain.version);
    let built = static_build::build(program, &root, targets, &toolchain)?;
    for (target, built) in targets.iter().zip(&built) {
        let bytes = std::fs::read(built).with_context(|| format!("failed to read `{}`", built.display()))?;
        elf::check_static(&bytes, target.elf)
            .with_context(|| format!("`{}` is not fit for {}", built.display(), target.platform))?;
        if let Some(path) = static_build::leaked_path(&bytes, &root, &toolchain)? {
            bail!("`{}` names `{}`: it depends on where it was built", built.display(), path.display());
        }
        static_build::place(built, &folder.join(target.triple).join(program.binary))?;
    }
    Ok(())
}

/// The rows of these platforms; every row when there are none.
pub(crate) fn select(platforms: &[String]) -> Result<Vec<&'static Target>> {
    if platforms.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    platforms
        .iter()
        .map(|platform| {
            Target::for_platform(platform).with_context(|| {
                let known = TARGETS.iter().map(|target| target.platform).collect::<Vec<_>>().join(", ");
                format!("unknown platform `{platform}`\nhint: there are {known}")
            })
        })
        .collect()
}
