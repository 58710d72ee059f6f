//! Stub sizes: printed after each build, recorded in `ci/stub-sizes.txt`, not to grow unnoticed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dpack_targets::{TARGETS, Target};

use crate::workspace;

/// What every executable should cost a device before its first image, at most. An aim: missing it is shown, growth fails.
const AIM: u64 = 2_500_000;

/// Growth over the recorded size that needs a decision, in per cent.
const GROWTH: u64 = 2;

/// Prints the size of each stub.
pub(crate) fn print(targets: &[&Target], folder: &Path) -> Result<()> {
    for target in targets {
        println!("{:<34}{:>10} bytes", target.triple, size(target, folder)?);
    }
    Ok(())
}

/// `cargo xtask size`: fails when a stub grew.
pub(crate) fn compare() -> Result<()> {
    let folder = workspace::stubs()?;
    let file = record_file()?;
    let record =
        std::fs::read_to_string(&file).with_context(|| format!("failed to read `{}`", file.display()))?;
    let mut complaints = Vec::new();
    for target in TARGETS {
        let now = size(target, &folder)?;
        let before = recorded(&record, target.triple);
        let change = before.map_or("not recorded".to_owned(), |before| format!("recorded {before}"));
        let aim =
            if now > AIM { format!("over the aim of {AIM}") } else { format!("below the aim of {AIM}") };
        println!("{:<34}{now:>10} bytes, {change}, {aim}", target.triple);
        if before.is_some_and(|before| now > before + before * GROWTH / 100) {
            complaints.push(format!("{} grew by more than {GROWTH} %", target.triple));
        }
    }
    if !complaints.is_empty() {
        bail!("{}\nhint: if that is worth it, `cargo xtask size --record`", complaints.join(", "));
    }
    Ok(())
}

/// `cargo xtask size --record`: what is there now becomes the record.
pub(crate) fn record() -> Result<()> {
    let folder = workspace::stubs()?;
    let mut text = String::from(
        "# Bytes of each stub; `cargo xtask size` compares, `cargo xtask size --record` writes.\n",
    );
    for target in TARGETS {
        let _ = writeln!(text, "{} {}", target.triple, size(target, &folder)?);
    }
    std::fs::write(record_file()?, text).context("failed to write the recorded sizes")
}

fn record_file() -> Result<PathBuf> {
    Ok(workspace::root()?.join("ci/stub-sizes.txt"))
}

fn recorded(record: &str, triple: &str) -> Option<u64> {
    record.lines().find_map(|line| line.strip_prefix(triple)?.trim().parse().ok())
}

fn size(target: &Target, folder: &Path) -> Result<u64> {
    let stub = folder.join(target.triple).join("dpack-runner");
    let metadata = std::fs::metadata(&stub)
        .with_context(|| format!("no stub `{}`\nhint: cargo xtask stubs", stub.display()))?;
    Ok(metadata.len())
}
