//! Where containers' control groups may be made: found, or asked for.
//!
//! | what there is | what is done |
//! |---|---|
//! | a subtree of version 2 that belongs to us | the nearest folder above us without processes; else our own processes move down a step |
//! | systemd | a transient scope with everything delegated, from the user's manager (as root: the system's) |
//! | folders of version 1 that belong to us | one for each controller |
//! | nothing | no groups: a limit is then an error that says what would help |
//!
//! A group with processes cannot pass controllers on to those below it ("no internal processes", cgroups(7)).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use super::hierarchy::{self, Folder, Folders};
use super::processors;
use super::resources::{File, Resources, Setting};
use super::systemd;
use crate::Error;
use crate::role::Errand;

/// Where containers' control groups are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub(super) v2: Option<Unified>,
    /// Folders by controller.
    pub(super) v1: BTreeMap<String, PathBuf>,
    /// Why a controller may be missing.
    lack: Option<Lack>,
    /// The user's manager ends with the last session, and the scope with it.
    pub(super) mortal: bool,
    /// Groups have the names that they are given (`linux.cgroupsPath`), and not names of ours.
    #[serde(default)]
    pub(super) exact: bool,
}

/// A folder of version 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unified {
    pub(super) dir: PathBuf,
    /// Those that groups below it can use.
    pub(super) controllers: Vec<String>,
}

impl Unified {
    fn at(dir: PathBuf) -> Self {
        Self { controllers: words(&dir.join("cgroup.subtree_control")), dir }
    }
}

/// What is missing and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lack {
    /// Why.
    pub reason: String,
    /// A command.
    pub hint: String,
}

/// A limit that cannot be enforced here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Its path in config.json.
    pub property: &'static str,
    /// Why.
    pub reason: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Unmet {
    /// Groups of this kernel have no such file.
    pub(super) fn missing(property: &'static str, file: &File) -> Self {
        let reason = format!("this kernel has no `{}`", file.name);
        Self { property, reason, hint: Some(kernel_hint(&file.name).to_owned()) }
    }
}

impl From<Unmet> for Error {
    fn from(unmet: Unmet) -> Self {
        Error::Limit { property: unmet.property, reason: unmet.reason, hint: unmet.hint }
    }
}

/// The group of version 2 that our own processes move to when they are in the way.
const OURS: &str = "dpack";
/// What a limit can need.
const CONTROLLERS: [&str; 6] = ["memory", "pids", "cpu", "cpuset", "io", "hugetlb"];

impl Place {
    /// Finds a place, and changes what must be changed for it: our own processes may move, a scope may be made. Without
    /// `limits` nothing is changed but the controllers of folders that are ours.
    pub fn prepare(name: &str, limits: bool) -> Self {
        let scope = Scope { name: format!("dpack-{name}-{}.scope", std::process::id()), slice: None };
        Self::prepare_in(&scope, limits, false)
    }

    /// The scope is made wherever systemd runs when it is `wanted`, else only for limits in a place that is not ours.
    fn prepare_in(scope: &Scope, limits: bool, wanted: bool) -> Self {
        let mut folders = hierarchy::of("self");
        let uid = crate::idmap::outside_user();
        let mut place = Place::default();
        let mut trouble = None;
        let managed = systemd::is_there();
        let mut top = folders.v2.as_ref().and_then(top);
        if managed && (wanted || (limits && top.is_none())) {
            let movers = crate::role::launcher::with_launcher();
            match systemd::start_scope(uid, &scope.name, scope.slice.as_deref(), &movers) {
                Ok(()) => {
                    place.mortal = !systemd::lingers(uid);
                    folders = hierarchy::of("self");
                    top = folders.v2.as_ref().map(|own| own.own.clone());
                }
                Err(error) => trouble = Some(error),
            }
        }
        if let (Some(own), Some(top)) = (&folders.v2, &top) {
            place.v2 = unified(own, top, limits);
        }
        place.v1 =
            folders.v1.iter().filter_map(|(name, own)| Some((name.clone(), version_1(own)?))).collect();
        // Whoever made the folder may have left it without any, and groups in it can have none but its own.
        if let Some(dir) = place.v1.get("cpuset") {
            inherit_processors(dir);
        }
        place.lack = Some(lack(&folders, &place, managed, trouble.as_ref(), uid));
        place
    }

    /// The place and the group's name that `linux.cgroupsPath` asks for (config-linux.md, "Cgroups Path"): from the roots of
    /// the hierarchies; with a relative path, from where groups are made anyway; and as `slice:prefix:name` a scope of systemd.
    /// A hierarchy in which the user may make no groups is left out, and limits that need it are errors later.
    pub(crate) fn at(path: &str, id: &str, limits: bool) -> Result<(Self, String), Error> {
        let refused = |reason: &str| Error::Invalid {
            property: "linux.cgroupsPath".to_owned(),
            reason: reason.to_owned(),
        };
        if let [slice, prefix, name] = path.split(':').collect::<Vec<_>>()[..]
            && !path.contains('/')
        {
            if !systemd::is_there() {
                return Err(refused("it names a slice, and systemd does not run here"));
            }
            let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}-{name}") };
            let slice = (!slice.is_empty()).then(|| slice.to_owned());
            let place = Self::prepare_in(&Scope { name: format!("{name}.scope"), slice }, limits, true);
            return Ok((place, id.to_owned()));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.is_empty() || parts.contains(&"..") || path.contains('\0') {
            return Err(refused("a path without `..` is needed"));
        }
        if !path.starts_with('/') {
            return Ok((Self { exact: true, ..Self::prepare(id, limits) }, parts.join("/")));
        }
        let (name, above) = parts.split_last().ok_or_else(|| refused("a path is needed"))?;
        let folders = hierarchy::of("self");
        let v2 = folders.v2.as_ref().and_then(|own| descend(&own.mount, above, &enable));
        let v1 = folders.v1.iter().filter_map(|(controller, own)| {
            let dir = match controller.as_str() {
                "cpuset" => descend(&own.mount, above, &inherit_processors),
                _ => descend(&own.mount, above, &|_| {}),
            };
            Some((controller.clone(), dir?))
        });
        let place = Place {
            v2: v2.map(Unified::at),
            v1: v1.collect(),
            lack: Some(Lack {
                reason: format!(
                    "the control group `{path}`, which the bundle names, is not the user's to make"
                ),
                hint: "leave `linux.cgroupsPath` out, so that a place is looked for".to_owned(),
            }),
            mortal: false,
            exact: true,
        };
        Ok((place, (*name).to_owned()))
    }

    /// What [`Place::prepare`] would find, with nothing changed: for `doctor`.
    pub fn look() -> Self {
        let folders = hierarchy::of("self");
        let uid = crate::idmap::outside_user();
        let v2 = folders.v2.as_ref().and_then(|own| {
            let dir = candidates(own, &top(own)?).into_iter().next_back()?;
            Some(Unified { controllers: words(&dir.join("cgroup.controllers")), dir })
        });
        let v1 = folders.v1.iter().filter_map(|(name, own)| Some((name.clone(), version_1(own)?))).collect();
        let mut place = Place { v2, v1, ..Place::default() };
        place.lack = Some(lack(&folders, &place, systemd::is_there(), None, uid));
        place
    }

    /// The controllers with which limits can be set, sorted.
    pub fn controllers(&self) -> Vec<String> {
        let v2 = self.v2.iter().flat_map(|unified| &unified.controllers).cloned();
        let mut all: Vec<String> = v2.chain(self.v1.keys().map(|name| renamed(name).to_owned())).collect();
        all.retain(|name| CONTROLLERS.contains(&name.as_str()));
        all.sort();
        all.dedup();
        all
    }

    /// Containers get groups of their own: then they can be paused, and counted as a whole.
    pub fn has_groups(&self) -> bool {
        self.v2.is_some() || !self.v1.is_empty()
    }

    /// The groups end with the user's last session, because nothing keeps the user's manager (`loginctl enable-linger`).
    pub fn ends_with_session(&self) -> bool {
        self.mortal
    }

    /// Whether swap can be limited: a kernel may count memory and not swap.
    pub fn limits_swap(&self) -> bool {
        let has = |dir: &Path, file: &str| dir.join(file).exists();
        let below = |dir: &Path| {
            fs::read_dir(dir).into_iter().flatten().flatten().any(|e| has(&e.path(), "memory.swap.max"))
        };
        self.v2.as_ref().is_some_and(|unified| {
            has(&unified.dir, "memory.swap.max") || (is_real_root(&unified.dir) && below(&unified.dir))
        }) || self.v1.get("memory").is_some_and(|dir| has(dir, "memory.memsw.limit_in_bytes"))
    }

    /// Why controllers are missing and what would help.
    pub fn lack(&self) -> Option<&Lack> {
        self.lack.as_ref()
    }

    /// The limits that cannot be enforced here. Empty groups are made for a moment to see what files they have.
    pub fn unmet(&self, resources: &Resources) -> Result<Vec<Unmet>, Error> {
        let mut samples = Samples::default();
        self.unmet_by(resources, |parent| samples.of(parent))
    }

    /// The same, with a group below each folder to see its files in, where there is one.
    pub(super) fn unmet_by(
        &self,
        resources: &Resources,
        mut sample: impl FnMut(&Path) -> Option<PathBuf>,
    ) -> Result<Vec<Unmet>, Error> {
        let mut all = Vec::new();
        for setting in resources.settings()? {
            let property = setting.property;
            let unmet = |reason, hint| Unmet { property, reason, hint };
            let Some((v2, file)) = self.file(&setting) else {
                let file = setting.v2.as_ref().or(setting.v1.as_ref());
                let controller = file.map_or("", |file| &file.controller);
                let lack = self.lack.as_ref();
                let because = lack.map(|lack| format!(": {}", lack.reason)).unwrap_or_default();
                let hint = lack.map(|lack| lack.hint.clone());
                all.push(unmet(format!("there is no `{controller}` controller{because}"), hint));
                continue;
            };
            let Some(parent) = self.parent(v2, &file.controller) else { continue };
            if sample(parent).is_some_and(|sample| setting.is_missing_in(&sample, v2, file)) {
                all.push(Unmet::missing(property, file));
            } else if file.name == "cpuset.cpus"
                && let Some(there) = processors_of(parent)
                && !processors::are_among(&file.value, &there)
            {
                let reason =
                    format!("`{}` are not all among the processors that there are: {there}", file.value);
                all.push(unmet(reason, Some("choose among those that there are".to_owned())));
            }
        }
        Ok(all)
    }

    /// The folder in which groups are made for a controller.
    pub(super) fn parent(&self, v2: bool, controller: &str) -> Option<&Path> {
        match v2 {
            true => self.v2.as_ref().map(|unified| unified.dir.as_path()),
            false => self.v1.get(controller).map(PathBuf::as_path),
        }
    }

    /// Which version enforces it, and with which file.
    pub(super) fn file<'a>(&self, setting: &'a Setting) -> Option<(bool, &'a super::resources::File)> {
        let in_v2 = |controller: &String| {
            self.v2.as_ref().is_some_and(|unified| unified.controllers.contains(controller))
        };
        if let Some(file) = setting.v2.as_ref().filter(|file| in_v2(&file.controller)) {
            return Some((true, file));
        }
        setting.v1.as_ref().filter(|file| self.v1.contains_key(&file.controller)).map(|file| (false, file))
    }
}

/// Empty groups by the folders that they were made in; they go with this value.
#[derive(Default)]
struct Samples(BTreeMap<PathBuf, Option<PathBuf>>);

impl Samples {
    /// None where none can be made: who makes a group for a container then learns why.
    fn of(&mut self, parent: &Path) -> Option<PathBuf> {
        let make = || {
            let dir = parent.join(format!("dpack-sample-{}", std::process::id()));
            fs::create_dir(&dir).is_ok().then_some(dir)
        };
        self.0.entry(parent.to_owned()).or_insert_with(make).clone()
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        for sample in self.0.values().flatten() {
            let _ = fs::remove_dir(sample);
        }
    }
}

/// The processors that groups in a folder can have.
fn processors_of(parent: &Path) -> Option<String> {
    ["cpuset.cpus.effective", "cpuset.effective_cpus"]
        .iter()
        .find_map(|name| fs::read_to_string(parent.join(name)).ok())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
}

fn kernel_hint(file: &str) -> &'static str {
    match file {
        "memory.swap.max" | "memory.memsw.limit_in_bytes" => {
            "add `swapaccount=1` to the kernel's command line and restart the device, or switch swap off"
        }
        "cpu.max" | "cpu.cfs_quota_us" => "it needs a kernel with CONFIG_CFS_BANDWIDTH",
        "io.weight" | "blkio.weight" => {
            "it needs a kernel with CONFIG_IOSCHED_BFQ or CONFIG_BLK_CGROUP_IOCOST"
        }
        "io.max" => "it needs a kernel with CONFIG_BLK_DEV_THROTTLING",
        _ => "it needs a newer kernel, or one with more controllers compiled in",
    }
}

/// Version 1 has another name for it.
fn renamed(controller: &str) -> &str {
    if controller == "blkio" { "io" } else { controller }
}

fn may_write(path: &Path) -> bool {
    rustix::fs::accessat(rustix::fs::CWD, path, Access::WRITE_OK, rustix::fs::AtFlags::EACCESS).is_ok()
}

/// A folder in which we may make groups and move processes.
fn is_ours(dir: &Path) -> bool {
    may_write(dir) && may_write(&dir.join("cgroup.procs")) && may_write(&dir.join("cgroup.subtree_control"))
}

/// The topmost folder above ours in which groups may be made. Where systemd is, what it has not given away is its own, though it
/// be the user's: controllers come and go there as its units need them.
fn top(own: &Folder) -> Option<PathBuf> {
    if systemd::is_there() { delegated(own) } else { Some(own.mount.clone()) }
}

/// The topmost folder at or above our own that systemd has given away: it marks those, and scopes of ours are such.
fn delegated(own: &Folder) -> Option<PathBuf> {
    let marked = |dir: &Path| {
        let mut value = [0_u8; 4];
        ["user.delegate", "trusted.delegate"].iter().any(|name| {
            rustix::fs::getxattr(dir, *name, &mut value).is_ok_and(|length| value[..length] == *b"1")
        })
    };
    let folders = own.own.ancestors().take_while(|dir| dir.starts_with(&own.mount));
    // The user's manager is itself delegated to, and manages what lies below it.
    let manager =
        |dir: &Path| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("user@"));
    // A user's manager marks nothing before Linux 5.7.
    let scope = |dir: &Path| {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("dpack-") && name.ends_with(".scope")
    };
    let given =
        folders.take_while(|dir| !manager(dir)).filter(|dir| (marked(dir) || scope(dir)) && is_ours(dir));
    given.last().map(Path::to_owned)
}

/// Our own folder and those above it up to `top`, as far as they are ours; the nearest first.
fn candidates(own: &Folder, top: &Path) -> Vec<PathBuf> {
    let folders = own.own.ancestors().take_while(|dir| dir.starts_with(top));
    // A session's folder may be root's while one above it is ours only by mistake: the tree that was handed over is contiguous.
    folders.take_while(|dir| is_ours(dir)).map(Path::to_owned).collect()
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn processes(dir: &Path) -> Vec<i32> {
    words(&dir.join("cgroup.procs")).iter().filter_map(|pid| pid.parse().ok()).collect()
}

fn unified(own: &Folder, top: &Path, limits: bool) -> Option<Unified> {
    let candidates = candidates(own, top);
    let root = |dir: &PathBuf| *dir == own.mount;
    let empty = candidates.iter().find(|dir| processes(dir).is_empty() || (root(dir) && is_real_root(dir)));
    let dir = match empty {
        Some(dir) => dir.clone(),
        None => {
            let dir = candidates.first()?.clone();
            if limits {
                let _ = Errand::StepDown(dir.clone()).run();
            }
            dir
        }
    };
    enable(&dir);
    Some(Unified::at(dir))
}

/// The root of the hierarchy, which may have processes, has no type.
fn is_real_root(dir: &Path) -> bool {
    !dir.join("cgroup.type").exists()
}

/// Moves processes of our own program out of the way. Those of others are not ours to move.
pub(crate) fn step_down(dir: &Path) {
    let below = dir.join(OURS);
    let _ = fs::create_dir(&below);
    for pid in processes(dir) {
        if is_our_program(pid) {
            let _ = fs::write(below.join("cgroup.procs"), pid.to_string());
        }
    }
}

fn is_our_program(pid: i32) -> bool {
    use std::os::unix::fs::MetadataExt;
    if pid.cast_unsigned() == std::process::id() {
        return true;
    }
    let identity = |path: String| fs::metadata(path).ok().map(|data| (data.ino(), data.len(), data.mtime()));
    let theirs = identity(format!("/proc/{pid}/exe"));
    theirs.is_some() && theirs == identity("/proc/self/exe".to_owned())
}

/// A scope of systemd.
struct Scope {
    name: String,
    /// The manager's own choice without.
    slice: Option<String>,
}

/// Makes the folders `parts` below a mount, preparing each for groups below it. None when one cannot be made.
fn descend(mount: &Path, parts: &[&str], prepare: &dyn Fn(&Path)) -> Option<PathBuf> {
    let mut dir = mount.to_owned();
    prepare(&dir);
    for part in parts {
        dir.push(part);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            _ => prepare(&dir),
        }
    }
    may_write(&dir).then_some(dir)
}

/// Version 1: without processors and memory nodes no process can enter a group of `cpuset`.
pub(super) fn inherit_processors(dir: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(dir.join(file)).unwrap_or_default();
        let above = dir.parent().and_then(|above| fs::read(above.join(file)).ok());
        if let (true, Some(above)) = (own.trim().is_empty(), above) {
            let _ = fs::write(dir.join(file), above);
        }
    }
}

/// Passes on all controllers that there are.
fn enable(dir: &Path) {
    let control = dir.join("cgroup.subtree_control");
    let enabled = words(&control);
    for controller in words(&dir.join("cgroup.controllers")) {
        if CONTROLLERS.contains(&controller.as_str()) && !enabled.contains(&controller) {
            // One by one: the failure of one must not take the others along.
            let _ = fs::write(&control, format!("+{controller}"));
        }
    }
}

/// The folder for a controller of version 1: our own, else one that somebody made for us at the top.
fn version_1(own: &Folder) -> Option<PathBuf> {
    let ours = |dir: &Path| may_write(dir) && may_write(&dir.join("cgroup.procs"));
    if ours(&own.own) {
        return Some(own.own.clone());
    }
    let entries = fs::read_dir(&own.mount).ok()?.flatten();
    // Most are the controller's files, and to ask for the rights on each costs more than anything else here.
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = folders.map(|entry| entry.path()).filter(|dir| ours(dir)).collect();
    found.sort();
    found.into_iter().next()
}

fn lack(folders: &Folders, place: &Place, managed: bool, trouble: Option<&io::Error>, uid: u32) -> Lack {
    let of_machine =
        folders.v2.as_ref().map(|own| words(&own.mount.join("cgroup.controllers"))).unwrap_or_default();
    let (reason, hint) = if folders.v2.is_none() && folders.v1.is_empty() {
        (
            "no control groups are mounted".to_owned(),
            "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned(),
        )
    } else if managed && trouble.is_some() {
        let error = trouble.map(ToString::to_string).unwrap_or_default();
        (
            format!("systemd gives this user no control group: {error}"),
            format!("sudo loginctl enable-linger {uid}"),
        )
    } else if managed {
        (
            "systemd does not pass all controllers on to users".to_owned(),
            "sudo mkdir -p /etc/systemd/system/user@.service.d && printf \
             '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee \
             /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, then log in again"
                .to_owned(),
        )
    } else if !of_machine.contains(&"memory".to_owned()) && !folders.v1.contains_key("memory") {
        (
            "the kernel was started without the memory controller".to_owned(),
            "add `cgroup_enable=memory` to the kernel's command line and restart the device".to_owned(),
        )
    } else if place.v2.is_some() {
        (
            "the control group that was handed over has other processes in it, or not all controllers"
                .to_owned(),
            "start this program in a control group of its own, below the one that was handed over".to_owned(),
        )
    } else if folders.v1.len() > 1 {
        (
            "control groups (version 1) were not handed over to this user".to_owned(),
            format!(
                "sudo sh -c 'for c in memory pids cpu cpuset freezer blkio; do mkdir -p /sys/fs/cgroup/$c/dpack-{uid} && \
                 chown -R {uid} /sys/fs/cgroup/$c/dpack-{uid}; done'"
            ),
        )
    } else {
        let mount = folders.v2.as_ref().map(|own| own.mount.display().to_string()).unwrap_or_default();
        (
            "no control group was handed over to this user".to_owned(),
            // The files that delegation is about (cgroups(7)); `$$` is the shell that the user types it in.
            format!(
                "sudo sh -c 'cd {mount} && mkdir -p dpack-{uid}/shell && for c in memory pids cpu cpuset io; do echo +$c > \
                 cgroup.subtree_control; echo +$c > dpack-{uid}/cgroup.subtree_control; done; cd dpack-{uid} && chown {uid} . \
                 cgroup.procs cgroup.subtree_control cgroup.threads && chown -R {uid} shell && echo $1 > shell/cgroup.procs' \
                 sh $$"
            ),
        )
    };
    Lack { reason, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files of a group.
    fn group(dir: &Path, controllers: &str, processes: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("cgroup.controllers"), controllers).unwrap();
        fs::write(dir.join("cgroup.procs"), processes).unwrap();
        fs::write(dir.join("cgroup.subtree_control"), "memory pids").unwrap();
        fs::write(dir.join("cgroup.type"), "domain").unwrap();
    }

    #[test]
    fn the_nearest_folder_without_processes_is_taken() {
        let mount = tempfile::tempdir().unwrap();
        let user = mount.path().join("user");
        group(mount.path(), "memory pids", "");
        group(&user, "memory pids", "");
        group(&user.join("session"), "memory pids", "1\n");
        let own = Folder { mount: mount.path().to_owned(), own: user.join("session") };
        let found = unified(&own, &own.mount, true).unwrap();
        assert_eq!((found.dir, found.controllers), (user, vec!["memory".to_owned(), "pids".to_owned()]));
    }

    #[test]
    fn our_own_processes_make_room_and_others_stay() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("own");
        group(mount.path(), "", "1\n");
        group(&own, "memory", &format!("1\n{}\n", std::process::id()));
        let folder = Folder { mount: mount.path().to_owned(), own: own.clone() };
        let found = unified(&folder, mount.path(), true).unwrap();
        assert_eq!(found.dir, own);
        let moved = fs::read_to_string(own.join("dpack/cgroup.procs")).unwrap();
        assert_eq!(moved, std::process::id().to_string());
    }

    #[test]
    fn a_limit_without_its_controller_is_unmet() {
        let place = Place {
            v2: Some(Unified { dir: "/x".into(), controllers: vec!["pids".to_owned()] }),
            ..Place::default()
        };
        let json = serde_json::json!({"pids": {"limit": 5}, "memory": {"limit": 5, "swappiness": 3}});
        let unmet = place.unmet(&Resources::parse(json.to_string().as_bytes()).unwrap()).unwrap();
        let names: Vec<_> = unmet.iter().map(|unmet| (unmet.property, unmet.reason.as_str())).collect();
        let reason = "there is no `memory` controller";
        assert_eq!(
            names,
            [("linux.resources.memory.limit", reason), ("linux.resources.memory.swappiness", reason)]
        );
        let v1 = Place { v1: BTreeMap::from([("memory".to_owned(), "/m".into())]), ..place };
        assert_eq!(v1.unmet(&Resources::parse(json.to_string().as_bytes()).unwrap()).unwrap(), []);
        assert_eq!(v1.controllers(), ["memory", "pids"]);
    }
}
