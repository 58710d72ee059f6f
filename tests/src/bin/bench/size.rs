//! Size of the payload against a solid compressor that cannot give back a single file.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use dpack_targets::{TARGETS, Target};
use dpack_tests::{Output, stubs};

use crate::Context;
use crate::application::Project;
use crate::image::BenchImage;
use crate::report::{Aim, Report, Row};

/// Compression of releases.
const BEST: &[&str] = &["-19", "--long=27", "-T0"];
/// Compression of everyday.
const USUAL: &[&str] = &["-9", "-T0"];

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let project = Project::new()?;
    let host = Target::host().context("there is no runner for this machine's architecture")?;
    for target in TARGETS {
        report.add(Row::size(&format!("stub for {}", target.platform), stub(target)?).aim(Aim::Below(2.5e6)));
    }
    let image = BenchImage::of(host)?;
    let measure = |level| payload(&project.build(&image, host.platform, level)?, host);
    let (solid, solid_usual) = (solid(&image, BEST)?, solid(&image, USUAL)?);
    let usual = measure(None)?;
    report.add(Row::sizes("payload, default level", usual, "zstd -9", solid_usual));
    let nineteen = measure(Some(19))?;
    report.add(Row::sizes("payload, level 19", nineteen, "zstd -19 --long=27", solid));
    if bench.options.quick {
        return Ok(());
    }
    let best = measure(Some(22))?;
    report.add(Row::sizes("payload, level 22", best, "zstd -19 --long=27", solid).aim(Aim::AtMost(1.10)));
    let executable = best + stub(host)?;
    report.add(Row::sizes("executable, level 22", executable, "zstd -19 --long=27", solid));
    all_platforms(&project, report)
}

/// The executables of all platforms, stubs included, at the default level.
fn all_platforms(project: &Project, report: &mut Report) -> Result<()> {
    let (mut ours, mut theirs) = (0, 0);
    for target in TARGETS {
        let image = BenchImage::of(target)?;
        ours += fs::metadata(project.build(&image, target.platform, None)?)?.len();
        theirs += solid(&image, USUAL)?;
    }
    report.add(Row::sizes("three executables, default level", ours, "zstd -9, three tars", theirs));
    Ok(())
}

fn stub(target: &Target) -> Result<u64> {
    let file = stubs().join(target.triple).join("dpack-runner");
    let metadata = fs::metadata(&file);
    Ok(metadata.with_context(|| format!("no `{}`\nhint: cargo xtask stubs", file.display()))?.len())
}

fn payload(executable: &Path, target: &Target) -> Result<u64> {
    Ok(fs::metadata(executable)?.len().saturating_sub(stub(target)?))
}

/// Size of the flattened tar after zstd; kept, because the same input gives the same bytes.
fn solid(image: &BenchImage, arguments: &[&str]) -> Result<u64> {
    let compressed = image.flat().with_extension(format!("tar{}.zst", arguments.concat()));
    if !compressed.exists() {
        let aside = compressed.with_extension("part");
        let mut zstd = Command::new("zstd");
        zstd.args(["-q", "-f"]).args(arguments).arg(image.flat()).arg("-o").arg(&aside);
        Output::of(&mut zstd)?.success()?;
        fs::rename(&aside, &compressed)?;
    }
    Ok(fs::metadata(&compressed)?.len())
}
