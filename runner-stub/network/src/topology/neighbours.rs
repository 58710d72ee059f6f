//! The user's other projects on the device: their networks have subnets, too.
//!
//! ```text
//!   RUNTIME                           locked while subnets are chosen (flock(2) takes folders, which leaves no file behind)
//!   RUNTIME/PROJECT/network.subnets   beside the control socket: what a project has, one a line
//! ```
//!
//! Subnets of two projects never meet, because each project has a namespace of its own; who reads addresses in a log, or is in
//! both, still wants them apart. So a file that nobody keeps any more costs a subnet and no more than that: where nothing
//! else is left, what another project has is taken all the same.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustix::fs::FlockOperation;

const SUBNETS: &str = "subnets";

/// Takes away what a project with this control socket told.
pub(crate) fn forget(socket: &Path) {
    let own = socket.with_extension(SUBNETS);
    let _ = fs::remove_file(aside(&own));
    let _ = fs::remove_file(own);
}

/// The file on its way to that name.
fn aside(own: &Path) -> PathBuf {
    own.with_extension("subnets.new")
}

/// What this project tells, and others told.
#[derive(Debug)]
pub(crate) struct Neighbours {
    own: PathBuf,
}

/// No other project chooses while it is held.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "closed when dropped")] File);

impl Neighbours {
    /// For a project with this control socket, which lies in a folder of its own among those of the others.
    pub(crate) fn new(socket: &Path) -> Neighbours {
        Neighbours { own: socket.with_extension(SUBNETS) }
    }

    /// Waits until no other project chooses. None where the folder cannot be locked.
    pub(super) fn hold(&self) -> Option<Held> {
        let folder = File::open(self.all()?).ok()?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&folder, FlockOperation::LockExclusive)).ok()?;
        Some(Held(folder))
    }

    /// What the others have; nothing of files that make no sense.
    pub(super) fn subnets(&self) -> Vec<IpNet> {
        let own_folder = self.own.parent();
        let folders = self.all().and_then(|all| fs::read_dir(all).ok()).into_iter().flatten().flatten();
        let others = folders.map(|entry| entry.path()).filter(|folder| Some(folder.as_path()) != own_folder);
        let name = self.own.file_name().unwrap_or_default();
        let texts = others.filter_map(|folder| fs::read_to_string(folder.join(name)).ok());
        let parse = |text: String| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<IpNet>>();
        texts.flat_map(parse).collect()
    }

    /// Tells what this project has.
    pub(super) fn tell(&self, subnets: &[IpNet]) -> io::Result<()> {
        let lines: String = subnets.iter().map(|subnet| format!("{subnet}\n")).collect();
        let aside = aside(&self.own);
        fs::write(&aside, lines)?;
        fs::rename(aside, &self.own)
    }

    fn all(&self) -> Option<&Path> {
        self.own.parent()?.parent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_reads_what_others_told_and_not_its_own() {
        let runtime = tempfile::tempdir().unwrap();
        let project = |name: &str| {
            fs::create_dir(runtime.path().join(name)).unwrap();
            Neighbours::new(&runtime.path().join(name).join("network.sock"))
        };
        let (one, two, broken) = (project("one"), project("two"), project("broken"));
        let subnets: [IpNet; 2] = ["172.18.0.0/16".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        one.tell(&subnets).unwrap();
        fs::write(&broken.own, "172.19.0.0/99\n\nx").unwrap();
        assert_eq!(two.subnets(), subnets);
        assert!(one.subnets().is_empty());
        one.tell(&[]).unwrap();
        assert!(two.subnets().is_empty());
    }
}
