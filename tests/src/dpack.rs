//! The builder under test, with a cache and settings of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::output::Output;
use crate::programs::{stubs, workspace};

/// The `dpack` executable and a project folder to run it in. Nothing of the user's own settings reaches it.
#[derive(Debug)]
pub struct Dpack {
    executable: PathBuf,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Dpack {
    /// `DPACK_TEST_BINARY`, else `target/release/dpack` of the workspace.
    pub fn new() -> Result<Self> {
        let executable = std::env::var_os("DPACK_TEST_BINARY")
            .map_or_else(|| workspace().join("target/release/dpack"), PathBuf::from);
        if !executable.is_file() {
            bail!("no `{}`\nhint: cargo build --release -p dpack", executable.display());
        }
        let folder = tempfile::Builder::new().prefix("dpack-project-").tempdir()?;
        fs::create_dir(folder.path().join("project"))?;
        Ok(Self { executable, folder, environment: Vec::new() })
    }

    /// Sets an environment variable for every run.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The project folder: runs start in it.
    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The folder for `$XDG_CACHE_HOME`.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// The folder for `$HOME`, where credential files are looked for.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Writes a file into the project folder.
    pub fn file(self, path: &str, content: &str) -> Result<Self> {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, content)?;
        Ok(self)
    }

    /// Runs `dpack` with these arguments and waits for it.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        Output::of(&mut self.command(arguments))
    }

    /// `dpack` with these arguments, for a test that wants to say more about it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .args(arguments)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("XDG_CACHE_HOME", self.cache())
            .env("DPACK_STUB_DIR", stubs())
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Builds `compose.yml` for these platforms and returns the executables, sorted by name.
    pub fn build(&self, platforms: &[&str]) -> Result<Vec<PathBuf>> {
        self.run(&["build", "--platform", &platforms.join(","), "compose.yml"])?.success()?;
        executables(&self.project().join("dist"))
    }
}

fn executables(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
