//! Stub sizes: printed after each build, held to the budgets in `ci/stub-sizes.txt`.
//!
//! A budget is a size rounded up, so that small changes that land side by side need no new record; going over it is a
//! decision, taken with `--record`. Budgets are of the toolchain that the pipeline uses. Another one brings another
//! standard library: what its stubs weigh is shown, and nobody is stopped.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dpack_targets::{TARGETS, Target};

use crate::{toolchain, workspace};

/// What every executable should cost a device before its first image, at most. An aim: missing it is shown.
const AIM: u64 = 2_500_000;

/// Budgets are whole multiples of this.
const STEP: u64 = 50_000;

/// Prints the size of each stub.
pub(crate) fn print(targets: &[&Target], folder: &Path) -> Result<()> {
    for target in targets {
        println!("{:<34}{:>10} bytes", target.triple, size(target, folder)?);
    }
    Ok(())
}

/// `cargo xtask size`: fails when a stub outgrew its budget.
pub(crate) fn compare() -> Result<()> {
    let folder = workspace::stubs()?;
    let file = record_file()?;
    let record =
        std::fs::read_to_string(&file).with_context(|| format!("failed to read `{}`", file.display()))?;
    let mut complaints = Vec::new();
    for target in TARGETS {
        let now = size(target, &folder)?;
        let budget = budget(&record, target.triple)
            .with_context(|| format!("`{}` has no budget for {}", file.display(), target.triple))?;
        let aim = if now > AIM { "over" } else { "below" };
        println!("{:<34}{now:>10} bytes of {budget}, {aim} the aim of {AIM}", target.triple);
        if now > budget {
            complaints.push(format!("{} is over its budget by {} bytes", target.triple, now - budget));
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    let complaints = complaints.join(", ");
    if toolchain::rustup_has(&TARGETS.iter().collect::<Vec<_>>())? {
        eprintln!("{complaints}: with rustup's standard library, which the budgets are not for");
        return Ok(());
    }
    bail!("{complaints}\nhint: if what was added is worth it, `cargo xtask size --record`")
}

/// `cargo xtask size --record`: what is there now, rounded up, becomes the budget.
pub(crate) fn record() -> Result<()> {
    let folder = workspace::stubs()?;
    let mut text = String::from(
        "# Budget of each stub in bytes; `cargo xtask size` compares, `cargo xtask size --record` writes.\n",
    );
    for target in TARGETS {
        let _ = writeln!(text, "{} {}", target.triple, size(target, &folder)?.next_multiple_of(STEP));
    }
    std::fs::write(record_file()?, text).context("failed to write the budgets")
}

fn record_file() -> Result<PathBuf> {
    Ok(workspace::root()?.join("ci/stub-sizes.txt"))
}

fn budget(record: &str, triple: &str) -> Option<u64> {
    record.lines().find_map(|line| line.strip_prefix(triple)?.trim().parse().ok())
}

fn size(target: &Target, folder: &Path) -> Result<u64> {
    let stub = folder.join(target.triple).join("dpack-runner");
    let metadata = std::fs::metadata(&stub)
        .with_context(|| format!("no stub `{}`\nhint: cargo xtask stubs", stub.display()))?;
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_budget_in_the_record() {
        let record = std::fs::read_to_string(record_file().unwrap()).unwrap();
        for target in TARGETS {
            let budget = budget(&record, target.triple).unwrap();
            assert!(budget.is_multiple_of(STEP) && budget > 1_000_000, "{}: {budget}", target.triple);
        }
    }
}
