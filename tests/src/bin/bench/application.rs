//! The application that is measured: one image, one service without a network and one with the default network.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use dpack_tests::Dpack;

use crate::Context as Bench;
use crate::image::{BenchImage, NAME};
use crate::race::Step;

/// The service with `network_mode: none`.
pub(crate) const ALONE: &str = "alone";
/// The service in the project's default network.
pub(crate) const NETWORKED: &str = "networked";

/// A Compose file for this image reference.
pub(crate) fn compose(image: &str) -> String {
    let service = format!("image: {image}, command: [sleep, \"1000\"], stop_grace_period: 0s");
    format!(
        "name: bench\nservices:\n  {ALONE}: {{{service}, network_mode: none}}\n  {NETWORKED}: {{{service}}}\n"
    )
}

/// A project folder from which executables are built, and a cache of its own.
#[derive(Debug)]
pub(crate) struct Project(Dpack);

impl Project {
    pub(crate) fn new() -> Result<Self> {
        Self::with(&compose(NAME))
    }

    /// A project of this Compose file.
    pub(crate) fn with(compose: &str) -> Result<Self> {
        Ok(Self(Dpack::new()?.file("compose.yml", compose)?))
    }

    /// Builds for the platform of `image`; a compression level or the default.
    pub(crate) fn build(&self, image: &BenchImage, platform: &str, level: Option<u8>) -> Result<PathBuf> {
        let output = format!("dist-{}-{}", platform.replace('/', "-"), level.unwrap_or_default());
        let from = format!("{NAME}=oci:{}:latest", image.layout().display());
        let level = level.map(|level| level.to_string());
        let mut line = vec!["build", "--quiet", "--platform", platform, "--from", &from, "--output", &output];
        if let Some(level) = &level {
            line.extend(["--compression-level", level]);
        }
        line.push("compose.yml");
        self.0.run(&line)?.success()?;
        let folder = self.0.project().join(output);
        let mut files = fs::read_dir(&folder)?;
        Ok(files.next().with_context(|| format!("`{}` is empty", folder.display()))??.path())
    }
}

/// The executable for this machine, in the peers' root.
#[derive(Debug)]
pub(crate) struct Application {
    executable: String,
}

impl Application {
    /// Builds it at the default level and brings it there.
    pub(crate) fn install(bench: &Bench, image: &BenchImage) -> Result<Self> {
        // the executable lies in the project's folder, which goes with it
        Self::install_project(bench, image, &Project::new()?)
    }

    /// The same of another project.
    pub(crate) fn install_project(bench: &Bench, image: &BenchImage, project: &Project) -> Result<Self> {
        let host = dpack_targets::Target::host().context("there is no runner for this architecture")?;
        let built = project.build(image, host.platform, None)?;
        Ok(Self { executable: bench.peers.bring(&built, "app")? })
    }

    /// The same for a shell; no argument needs quotes.
    pub(crate) fn line(&self, data: &str, arguments: &[&str]) -> String {
        format!("{} --data-dir {data} {}", self.executable, arguments.join(" "))
    }

    /// A command of the executable, with this data folder.
    pub(crate) fn step(&self, data: &str, arguments: &[&str]) -> Step {
        let line = [&[self.executable.as_str(), "--data-dir", data], arguments].concat();
        Step::user(line)
    }
}
