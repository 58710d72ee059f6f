//! One container's control group: a folder in each hierarchy where there is a place for it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hierarchy;
use super::place::{Place, Unmet, inherit_processors};
use super::resources::Resources;
use super::systemd;
use crate::Error;

/// What folders of containers begin with: so they are found again in `/proc/PID/cgroup`.
const PREFIX: &str = "dpack-container-";

/// A container's folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub(super) v2: Option<PathBuf>,
    /// By controller.
    pub(super) v1: BTreeMap<String, PathBuf>,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::ControlGroup { path, source }
}

impl Group {
    /// Makes the group of a container and sets its limits. No group where there is no place; but then no limit either.
    pub(crate) fn create(
        place: Option<&Place>,
        name: &str,
        resources: &Resources,
    ) -> Result<Option<Group>, Error> {
        let nowhere = Place::default();
        let place = place.unwrap_or(&nowhere);
        // What files there are is seen in the group itself.
        if let Some(unmet) = place.unmet_by(resources, |_| None)?.into_iter().next() {
            return Err(unmet.into());
        }
        if !place.has_groups() {
            return Ok(None);
        }
        let name = if place.exact { name.to_owned() } else { format!("{PREFIX}{name}") };
        let mut group = Group::default();
        let made = group.make(place, &name).and_then(|()| group.limit(place, resources));
        match made {
            Ok(()) => Ok(Some(group)),
            // Without a limit to enforce, a container runs as well without a group.
            Err(_) if resources.is_empty() => {
                group.remove();
                Ok(None)
            }
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn make(&mut self, place: &Place, name: &str) -> Result<(), Error> {
        if let Some(unified) = &place.v2 {
            let dir = unified.dir.join(name);
            make_folder(&dir)?;
            self.v2 = Some(dir);
        }
        for (controller, parent) in &place.v1 {
            let dir = parent.join(name);
            // Controllers can share a hierarchy.
            if !self.v1.values().any(|made| *made == dir) {
                make_folder(&dir)?;
            }
            if controller == "cpuset" {
                inherit_processors(&dir);
            }
            self.v1.insert(controller.clone(), dir);
        }
        Ok(())
    }

    fn limit(&self, place: &Place, resources: &Resources) -> Result<(), Error> {
        for setting in resources.settings()? {
            let Some((v2, file)) = place.file(&setting) else { continue };
            let dir = if v2 { self.v2.as_ref() } else { self.v1.get(&file.controller) };
            let Some(dir) = dir else { continue };
            if setting.is_missing_in(dir, v2, file) {
                return Err(Unmet::missing(setting.property, file).into());
            }
            let Some(file) = setting.file_in(dir, v2, file) else { continue };
            let path = dir.join(&file.name);
            fs::write(&path, &file.value).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// Moves the calling process in.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        for dir in self.folders() {
            let path = dir.join("cgroup.procs");
            fs::write(&path, "0").map_err(failed(&path))?;
        }
        Ok(())
    }

    /// Moves the calling process in, by systemd where it comes from a session that only systemd may take it out of.
    pub(crate) fn enter_from_outside(&self) -> Result<(), Error> {
        let Err(error) = self.enter() else { return Ok(()) };
        let Some((scope, below)) = self.v2.as_deref().and_then(scope_of) else { return Err(error) };
        let uid = crate::idmap::outside_user();
        let pid = std::process::id();
        systemd::attach(uid, &scope, &below, pid)
            .map_err(failed(self.v2.as_deref().unwrap_or(Path::new("/"))))
    }

    /// The group of a container by its PID 1; none when it has none of its own.
    pub fn of_process(pid: i32) -> Option<Group> {
        let folders = hierarchy::of(&pid.to_string());
        // The container may have gone further down by itself.
        let own = |dir: &Path| {
            let found = dir
                .ancestors()
                .filter(|dir| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
            found.last().map(Path::to_owned)
        };
        let group = Group {
            v2: folders.v2.as_ref().and_then(|folder| own(&folder.own)),
            v1: folders
                .v1
                .iter()
                .filter_map(|(name, folder)| Some((name.clone(), own(&folder.own)?)))
                .collect(),
        };
        (group != Group::default()).then_some(group)
    }

    /// The group of a container that has just been made, by its PID 1, wherever it was to be made.
    pub(crate) fn made_in(place: &Place, name: &str, pid: i32) -> Option<Group> {
        if !place.exact {
            return Self::of_process(pid);
        }
        let folders = hierarchy::of(&pid.to_string());
        let own = |folder: &hierarchy::Folder, parent: &Path| {
            (folder.own == parent.join(name)).then(|| folder.own.clone())
        };
        let group = Group {
            v2: folders
                .v2
                .as_ref()
                .zip(place.v2.as_ref())
                .and_then(|(folder, place)| own(folder, &place.dir)),
            v1: place
                .v1
                .iter()
                .filter_map(|(name, parent)| Some((name.clone(), own(folders.v1.get(name)?, parent)?)))
                .collect(),
        };
        (group != Group::default()).then_some(group)
    }

    /// The processes in it, as we see their PIDs. None when it cannot tell.
    pub fn processes(&self) -> Option<Vec<i32>> {
        let dir = self.folders().next()?;
        let mut pids = Vec::new();
        collect(&dir, &mut pids);
        pids.sort_unstable();
        Some(pids)
    }

    /// Stops all processes at once, or lets them go on; returns when it is done. Only the kernel's freezer does this:
    /// SIGSTOP reaches processes one by one, is seen by their parents, and ends with the first SIGCONT from inside.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let (path, value, done): (PathBuf, &str, Box<dyn Fn() -> bool>) =
            if let Some(dir) = self.v2.clone().filter(|dir| dir.join("cgroup.freeze").exists()) {
                let events = dir.join("cgroup.events");
                let wanted = if frozen { "frozen 1" } else { "frozen 0" };
                let done =
                    move || fs::read_to_string(&events).is_ok_and(|text| text.lines().any(|l| l == wanted));
                (dir.join("cgroup.freeze"), if frozen { "1" } else { "0" }, Box::new(done))
            } else if let Some(dir) = self.v1.get("freezer") {
                let path = dir.join("freezer.state");
                let value = if frozen { "FROZEN" } else { "THAWED" };
                let state = path.clone();
                let done = move || fs::read_to_string(&state).is_ok_and(|text| text.trim() == value);
                (path, value, Box::new(done))
            } else {
                return Err(Error::NoFreezer);
            };
        fs::write(&path, value).map_err(failed(&path))?;
        for _ in 0..1000 {
            if done() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // A process in an uninterruptible call: half frozen helps nobody.
        if frozen {
            let _ = self.freeze(false);
        }
        Err(failed(&path)(io::ErrorKind::TimedOut.into()))
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        let v2 = self.v2.as_ref().map(|dir| dir.join("cgroup.freeze"));
        let v1 = self.v1.get("freezer").map(|dir| dir.join("freezer.state"));
        let says = |path: &Option<PathBuf>, text: &str| {
            path.as_ref()
                .and_then(|path| fs::read_to_string(path).ok())
                .is_some_and(|found| found.trim() == text)
        };
        says(&v2, "1") || says(&v1, "FROZEN")
    }

    /// How many processes the kernel has killed because the container was out of memory.
    pub fn killed_for_memory(&self) -> u64 {
        let v2 = self.v2.as_ref().map(|dir| dir.join("memory.events"));
        let v1 = self.v1.get("memory").map(|dir| dir.join("memory.oom_control"));
        let count = |path: &PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        };
        v2.iter().chain(&v1).filter_map(count).sum()
    }

    /// Kills what is left in it and removes it. Nothing is left when PID 1 of a PID namespace has ended.
    pub(crate) fn remove(&self) {
        if self.is_frozen() {
            let _ = self.freeze(false);
        }
        for dir in self.folders() {
            remove_folder(&dir, 0);
        }
    }

    /// The folders above it, from which it is removed.
    pub(crate) fn parents(&self) -> Vec<PathBuf> {
        self.folders().filter_map(|dir| dir.parent().map(Path::to_owned)).collect()
    }

    /// What a shim that was killed left of a container's group.
    pub(crate) fn left(place: &Place, name: &str) -> Group {
        let name = format!("{PREFIX}{name}");
        let left = |parent: &Path| Some(parent.join(&name)).filter(|dir| dir.is_dir());
        Group {
            v2: place.v2.as_ref().and_then(|unified| left(&unified.dir)),
            v1: place.v1.iter().filter_map(|(name, parent)| Some((name.clone(), left(parent)?))).collect(),
        }
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let mut all: Vec<PathBuf> = self.v2.iter().chain(self.v1.values()).cloned().collect();
        all.dedup();
        all.into_iter()
    }
}

/// An empty one that an earlier run left may be there; its counters would be those of that run. Only a name that a bundle
/// chose has folders above it that may be missing.
fn make_folder(dir: &Path) -> Result<(), Error> {
    let _ = fs::remove_dir(dir);
    if let Some(above) = dir.parent() {
        fs::create_dir_all(above).map_err(failed(above))?;
    }
    fs::create_dir(dir).map_err(failed(dir))
}

fn remove_folder(dir: &Path, depth: u32) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth < 32 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folder(&entry.path(), depth + 1);
        }
    }
    // A process counts until it is reaped, and that may take its parent a moment.
    for _ in 0..50 {
        match fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                let _ = fs::write(dir.join("cgroup.kill"), "1");
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
}

fn collect(dir: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

/// The scope that a folder lies in, and the folder's path from there.
fn scope_of(dir: &Path) -> Option<(String, String)> {
    let scope = dir.ancestors().find(|dir| dir.extension().is_some_and(|extension| extension == "scope"))?;
    let below = dir.strip_prefix(scope).ok()?;
    Some((scope.file_name()?.to_str()?.to_owned(), format!("/{}", below.to_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_found_above_its_groups() {
        let dir = "/sys/fs/cgroup/user.slice/user@1.service/app.slice/dpack-shop-7.scope/dpack-container-a";
        let found = scope_of(Path::new(dir));
        assert_eq!(found, Some(("dpack-shop-7.scope".to_owned(), "/dpack-container-a".to_owned())));
        assert_eq!(scope_of(Path::new("/sys/fs/cgroup/user/x")), None);
    }

    #[test]
    fn a_limit_without_a_place_is_an_error_and_no_limit_needs_none() {
        assert_eq!(Group::create(None, "a", &Resources::default()).unwrap(), None);
        let limit = Resources::parse(br#"{"pids": {"limit": 3}}"#).unwrap();
        let error = Group::create(None, "a", &limit).unwrap_err();
        assert!(error.to_string().contains("linux.resources.pids.limit"), "{error}");
    }
}
