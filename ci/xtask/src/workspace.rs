//! Where things are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    own.canonicalize().with_context(|| format!("failed to find the workspace in `{}`", own.display()))
}

/// Where stubs lie: `<triple>/dpack-runner`. Fixed, whatever `CARGO_TARGET_DIR` says: the build script of dpack-targets
/// looks here.
pub(crate) fn stubs() -> Result<PathBuf> {
    Ok(root()?.join("target/stubs"))
}

/// Where the tests' static programs lie: `<triple>/probe`.
pub(crate) fn probes() -> Result<PathBuf> {
    Ok(root()?.join("target/probes"))
}

/// Where `cargo build --release` puts programs.
pub(crate) fn release_folder() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    Ok(root()?.join(target).join("release"))
}

/// The folder for what development needs and no clone should have twice: toolchain, unpacked packages, test images.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DPACK_DEV_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("dpack-dev")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/dpack-dev")))
        .context("neither DPACK_DEV_CACHE nor XDG_CACHE_HOME nor HOME is set")
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root()?);
    Ok(cargo)
}
