//! Where this process lies in the hierarchies of control groups, and where those are mounted.
//!
//! Parsing is apart from reading. A *pure* system has the one hierarchy of version 2; a *hybrid* one has version 2 beside
//! one hierarchy of version 1 for each controller; both are the same here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process's folders.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Folders {
    pub(super) v2: Option<Folder>,
    /// By controller.
    pub(super) v1: BTreeMap<String, Folder>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    /// The process's own folder in it.
    pub(super) own: PathBuf,
}

/// Where hierarchies are mounted that we are in.
pub(crate) fn mounts() -> Vec<PathBuf> {
    let Folders { v2, v1 } = of("self");
    v2.into_iter().chain(v1.into_values()).map(|folder| folder.mount).collect()
}

/// The folders of a process; its PID as we see it, or `self`.
pub(super) fn of(process: &str) -> Folders {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    parse(&read(&format!("/proc/{process}/cgroup")), &read("/proc/self/mountinfo"))
}

/// `/proc/PID/cgroup` and `/proc/self/mountinfo`.
pub(super) fn parse(cgroup: &str, mountinfo: &str) -> Folders {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut folders = Folders::default();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            folders.v2 = mounts.iter().filter(|mount| mount.v2).find_map(|mount| mount.folder(path));
        }
        for controller in controllers.split(',').filter(|name| !name.is_empty() && !name.contains('=')) {
            let ours = mounts.iter().filter(|mount| mount.controllers.iter().any(|name| name == controller));
            if let Some(folder) = ours.filter_map(|mount| mount.folder(path)).next() {
                folders.v1.insert(controller.to_owned(), folder);
            }
        }
    }
    folders
}

struct Mount {
    root: String,
    point: PathBuf,
    v2: bool,
    controllers: Vec<String>,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _, options) = (after.next()?, after.next()?, after.next()?);
        let controllers = match kind {
            "cgroup2" => Vec::new(),
            "cgroup" => options.split(',').map(str::to_owned).collect(),
            _ => return None,
        };
        Some(Mount { root: root.to_owned(), point: PathBuf::from(point), v2: kind == "cgroup2", controllers })
    }

    fn folder(&self, path: &str) -> Option<Folder> {
        let inside = Path::new(path).strip_prefix(&self.root).ok()?;
        // Above the root of a cgroup namespace: `/..`.
        if inside.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(Folder { mount: self.point.clone(), own: self.point.join(inside) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(mount: &str, own: &str) -> Folder {
        Folder { mount: mount.into(), own: own.into() }
    }

    #[test]
    fn a_pure_system() {
        let mountinfo = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = parse("0::/user.slice/a b\n", mountinfo);
        assert_eq!(found.v2, Some(folder("/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/a b")));
        assert!(found.v1.is_empty());
        assert_eq!(parse("0::/../other\n", mountinfo), Folders::default());
    }

    #[test]
    fn a_hybrid_system() {
        let mountinfo = "1 2 0:1 / /c/unified rw - cgroup2 cgroup2 rw\n\
            1 2 0:2 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            1 2 0:3 /slice /c/memory rw - cgroup cgroup rw,memory\n\
            1 2 0:4 / /c/systemd rw - cgroup cgroup rw,name=systemd\n";
        let found = parse("9:name=systemd:/x\n4:memory:/slice/m\n1:cpu,cpuacct:/\n0::/u\n", mountinfo);
        assert_eq!(found.v2, Some(folder("/c/unified", "/c/unified/u")));
        assert_eq!(found.v1["cpu"], folder("/c/cpu,cpuacct", "/c/cpu,cpuacct"));
        assert_eq!(found.v1["memory"], folder("/c/memory", "/c/memory/m"));
        assert_eq!(found.v1.len(), 3);
    }
}
