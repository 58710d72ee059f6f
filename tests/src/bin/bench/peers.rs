//! The root folder in which the peers are installed, and our work folder in it.
//!
//! Everything that is compared runs there, ours too: the same user, the same libraries, the same mounts, the same disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use dpack_tests::workspace;

use crate::race::{AGENT, Contender, Outcome, Race, Step, USER};

/// Where the work folder lies, seen from inside.
const PARENT: &str = "/var/tmp";

/// The peers' root, entered by its `enter`; what was made in it goes with this value.
#[derive(Debug)]
pub(crate) struct Peers {
    folder: PathBuf,
    work: String,
}

impl Peers {
    /// Makes the root with `ci/peers.sh` if it is not there yet, and a work folder with this program in it.
    pub(crate) fn prepare() -> Result<Self> {
        let output = Command::new(workspace().join("ci/peers.sh"))
            .stderr(Stdio::inherit())
            .output()
            .context("failed to start `ci/peers.sh`")?;
        if !output.status.success() {
            bail!("`ci/peers.sh` failed with {}", output.status);
        }
        let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim_end());
        let work = format!("{PARENT}/dpack-bench-{}", std::process::id());
        let peers = Self { folder, work };
        let outside = peers.outside(&peers.work);
        fs::create_dir_all(&outside).with_context(|| format!("failed to create `{}`", outside.display()))?;
        chown(&outside, Some(USER), Some(USER)).context("the peers' root needs root\nhint: sudo")?;
        peers.bring(&std::env::current_exe()?, "bench")?;
        Ok(peers)
    }

    /// A path in the work folder, seen from inside.
    pub(crate) fn work(&self, name: &str) -> String {
        format!("{}/{name}", self.work)
    }

    /// An inside path seen from outside.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        self.folder.join("root").join(path.trim_start_matches('/'))
    }

    /// Copies a file into the work folder, for everybody to read and run; returns its path inside.
    pub(crate) fn bring(&self, file: &Path, name: &str) -> Result<String> {
        let inside = self.work(name);
        let outside = self.outside(&inside);
        fs::copy(file, &outside).with_context(|| format!("failed to copy `{}`", file.display()))?;
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o755))?;
        Ok(inside)
    }

    /// Runs a race inside.
    pub(crate) fn run(&self, race: &Race) -> Result<Outcome> {
        let output = Command::new(self.folder.join("enter"))
            .arg("root")
            .arg(self.work("bench"))
            .arg(AGENT)
            .arg(serde_json::to_string(race)?)
            .stdin(Stdio::null())
            .output()
            .context("failed to enter the peers' root")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        serde_json::from_slice(&output.stdout).context("the outcome of a race")
    }

    /// Runs steps inside, one after the other, without measuring.
    pub(crate) fn steps(&self, steps: impl IntoIterator<Item = Step>) -> Result<()> {
        let contenders = steps.into_iter().map(Contender::new).collect();
        self.run(&Race { rounds: 1, contenders }).map(|_| ())
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // a mount that is still used by a process of ours is detached with it; other file systems are left alone
        let _ = Command::new("rm")
            .args(["-rf", "--one-file-system"])
            .arg(self.outside(&self.work))
            .stderr(Stdio::null())
            .status();
    }
}
