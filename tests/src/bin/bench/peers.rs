//! The root folder in which the peers are installed.
//!
//! Everything that is compared runs there, ours too: the same user, the same libraries, the same mounts, the same disk.

use std::ops::Deref;

use anyhow::{Context, Result, bail};

use crate::race::{AGENT, Contender, Outcome, Race, Step};
use crate::start::forget_podman;

/// The peers' root with this program in its work folder.
#[derive(Debug)]
pub(crate) struct Peers(dpack_tests::Peers);

impl Deref for Peers {
    type Target = dpack_tests::Peers;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Peers {
    /// Makes the root if it is not there yet.
    pub(crate) fn prepare() -> Result<Self> {
        let peers = dpack_tests::Peers::prepare_with_docker("bench")?;
        peers.bring(&std::env::current_exe()?, "bench")?;
        let peers = Self(peers);
        // of a run that was interrupted: podman would fail to join its namespace
        peers.steps([forget_podman()])?;
        Ok(peers)
    }

    /// Runs a race inside.
    pub(crate) fn run(&self, race: &Race) -> Result<Outcome> {
        let mut enter = self.command("root");
        let output = enter
            .arg(self.work("bench"))
            .arg(AGENT)
            .arg(serde_json::to_string(race)?)
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
