//! `cargo xtask stubs --check-reproducible`: two clones in two folders must give the same bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::toolchain::Toolchain;
use crate::{process, static_build, stubs, toolchain, workspace};

/// Clones what is committed into two folders of different depth, builds the stubs of these platforms in each (the
/// platform of this machine when none is named), and compares.
pub(crate) fn check(platforms: &[String]) -> Result<()> {
    let host = dpack_targets::Target::host().map(|target| target.platform.to_owned());
    let default = [host.unwrap_or_else(|| "linux/amd64".to_owned())];
    let targets = stubs::select(if platforms.is_empty() { &default } else { platforms })?;
    let toolchain = toolchain::prepare(&targets)?;

    let scratch = Scratch::new()?;
    let first = clone_and_build(&scratch.0.join("one"), &targets, &toolchain)?;
    let second = clone_and_build(&scratch.0.join("a second/clone, elsewhere"), &targets, &toolchain)?;
    for ((target, first), second) in targets.iter().zip(&first).zip(&second) {
        if std::fs::read(first)? != std::fs::read(second)? {
            bail!("`{}` and `{}` differ", first.display(), second.display());
        }
        println!("{:<34}the same {} bytes from two clones", target.triple, std::fs::metadata(first)?.len());
    }
    scratch.remove()
}

fn clone_and_build(
    folder: &Path,
    targets: &[&dpack_targets::Target],
    toolchain: &Toolchain,
) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--no-hardlinks"]).arg(workspace::root()?).arg(folder);
    process::run(&mut git)?;
    static_build::build(&stubs::RUNNER, folder, targets, toolchain)
}

/// A folder that stays when there is something to look at.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("dpack-reproducible-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
        // cargo resolves symbolic links; what we remap must be what it sees
        Ok(Self(folder.canonicalize()?))
    }

    fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.0).with_context(|| format!("failed to remove `{}`", self.0.display()))
    }
}
