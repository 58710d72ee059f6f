//! The root folder in which podman, crun and runc are installed, and a work folder in it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::output::Output;
use crate::programs::workspace;

/// Where the work folder lies, seen from inside.
const PARENT: &str = "/var/tmp";
/// The ordinary user that `ci/peers.sh` makes.
const USER: u32 = 1500;

/// The peers' root, entered by its `enter`; what was made in it goes with this value.
#[derive(Debug)]
pub struct Peers {
    folder: PathBuf,
    work: String,
}

impl Peers {
    /// Makes the root with `ci/peers.sh` if it is not there yet, and a work folder that belongs to the ordinary user. Needs
    /// root and Debian's packages.
    pub fn prepare(name: &str) -> Result<Self> {
        Self::by(name, &[])
    }

    /// The same, with Docker Engine and Docker Compose.
    pub fn prepare_with_docker(name: &str) -> Result<Self> {
        Self::by(name, &["--docker"])
    }

    fn by(name: &str, options: &[&str]) -> Result<Self> {
        let output = Command::new(workspace().join("ci/peers.sh"))
            .args(options)
            .stderr(Stdio::inherit())
            .output()
            .context("failed to start `ci/peers.sh`")?;
        if !output.status.success() {
            bail!("`ci/peers.sh` failed with {}", output.status);
        }
        let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim_end());
        let work = format!("{PARENT}/dpack-{name}-{}", std::process::id());
        let peers = Self { folder, work };
        for folder in [peers.outside(&peers.work), peers.outside(&peers.runtime())] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("failed to create `{}`", folder.display()))?;
            chown(&folder, Some(USER), Some(USER)).context("the peers' root needs root\nhint: sudo")?;
        }
        fs::set_permissions(peers.outside(&peers.runtime()), fs::Permissions::from_mode(0o700))?;
        Ok(peers)
    }

    /// The user's runtime folder, seen from inside: in the common one podman would join the user namespace of another test's
    /// process, or of one that was killed.
    fn runtime(&self) -> String {
        self.work("runtime")
    }

    /// A path in the work folder, seen from inside.
    pub fn work(&self, name: &str) -> String {
        format!("{}/{name}", self.work)
    }

    /// An inside path seen from outside.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.folder.join("root").join(path.trim_start_matches('/'))
    }

    /// Copies a file into the work folder, for everybody to read and run; returns its path inside.
    pub fn bring(&self, file: &Path, name: &str) -> Result<String> {
        let inside = self.work(name);
        let outside = self.outside(&inside);
        fs::copy(file, &outside).with_context(|| format!("failed to copy `{}`", file.display()))?;
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755))?;
        Ok(inside)
    }

    /// A command inside, as `root` or as the ordinary user `dev`.
    pub fn command(&self, user: &str) -> Command {
        let mut command = Command::new(self.folder.join("enter"));
        command.arg(user).stdin(Stdio::null());
        command
    }

    /// Runs a shell script inside, in the work folder and with a runtime folder of its own.
    pub fn run(&self, user: &str, script: &str) -> Result<Output> {
        let script = format!("cd {}\nexport XDG_RUNTIME_DIR={}\n{script}", self.work, self.runtime());
        Output::of(self.command(user).args(["bash", "-c", &script]))
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // podman's process that keeps the user namespace would outlive us
        if self.outside(&self.runtime()).join("libpod/tmp/pause.pid").exists() {
            let _ = self.run("dev", "podman system migrate");
        }
        // a mount that is still used by a process of ours is detached with it; other file systems are left alone
        let _ = Command::new("rm")
            .args(["-rf", "--one-file-system"])
            .arg(self.outside(&self.work))
            .stderr(Stdio::null())
            .status();
    }
}
