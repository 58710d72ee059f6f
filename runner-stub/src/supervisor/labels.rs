//! SELinux labels of containers, where the device has SELinux: its policy's own, a level for each container, and the files that
//! containers get. Nothing that ran without becomes impossible: where the policy does not let containers be labelled, they are
//! not, and `up` and `doctor` say so.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_bundle::label::{self, Label, Labels};
use dpack_bundle::spec::Spec;
use dpack_compose::project::{Ipc, MountSource, Namespace, Relabel};
use dpack_payload::digest::Digest;
use dpack_sandbox::selinux;
use dpack_store::{Driver, Store};

use super::create::Making;
use crate::container;
use crate::failure::{Context as _, Failure};
use crate::files;
use crate::paths::ProjectPaths;

/// What SELinux means for containers of this device.
#[derive(Debug)]
pub(crate) enum Labelling {
    /// There is no SELinux, or it is switched off.
    Absent,
    /// It is there, and containers are what this program is; why.
    Impossible(String),
    /// Containers get these, with a level of their own.
    Possible(Box<Labels>),
}

/// Where a policy says what containers are (opencontainers/selinux: `openContextFile`).
const CONTEXTS: &str = "/usr/share/containers/selinux/contexts";
/// Names the policy.
const CONFIG: &str = "/etc/selinux/config";
/// An overlay in a user namespace takes a label for its files since then.
const KERNEL: (u16, u16) = (5, 13);

/// Finds out. The policy is asked for everything that a container needs at its start.
pub(crate) fn look(driver: Driver) -> Labelling {
    if !selinux::is_enabled() {
        return Labelling::Absent;
    }
    match possible(driver) {
        Ok(labels) => Labelling::Possible(Box::new(labels)),
        Err(reason) => Labelling::Impossible(reason),
    }
}

fn possible(driver: Driver) -> Result<Labels, String> {
    if driver == Driver::Copy {
        return Err("its root file system is a copy here, whose files have labels of their own".to_owned());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if kernel(&release).is_none_or(|version| version < KERNEL) {
        return Err(format!("that takes Linux {}.{}, this one is {}", KERNEL.0, KERNEL.1, release.trim()));
    }
    let (path, text) = contexts()?;
    let labels = Labels::of_policy(&text).ok_or_else(|| {
        format!("`{}` does not say what processes and files of containers are", path.display())
    })?;
    let own = selinux::own_label().unwrap_or_default();
    let example = labels.at("s0:c1,c2");
    let (process, file) = (example.process.to_string(), example.file.to_string());
    let read_only = example.read_only.to_string();
    for label in [&process, &file, &read_only] {
        if !selinux::knows(label) {
            return Err(format!("the policy does not know `{label}`, which `{}` names", path.display()));
        }
    }
    if selinux::is_enforcing() {
        let needed: [(&str, &str, &str, &[&str]); 10] = [
            (&own, &own, "process", &["setexec", "setkeycreate"]),
            (&own, &process, "process", &["transition"]),
            (&own, &process, "key", &["create"]),
            (&own, &file, "filesystem", &["relabelto"]),
            (&own, &file, "dir", &["relabelto"]),
            (&own, &read_only, "dir", &["relabelto"]),
            (&process, &read_only, "file", &["execute", "read"]),
            (&process, &file, "file", &["entrypoint", "execute", "read"]),
            (&process, &own, "fd", &["use"]),
            (&process, &own, "fifo_file", &["read", "write"]),
        ];
        for (subject, object, class, permissions) in needed {
            if !selinux::allows(subject, object, class, permissions) {
                let permissions = permissions.join(" ");
                return Err(format!(
                    "the policy does not allow `{subject}` {permissions} of {class} `{object}`"
                ));
            }
        }
    }
    Ok(labels)
}

fn contexts() -> Result<(PathBuf, String), String> {
    let kind = fs::read_to_string(CONFIG).ok().and_then(|text| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| {
            Some(line.strip_prefix("SELINUXTYPE")?.trim().strip_prefix('=')?.trim().to_owned())
        })
    });
    let kind = kind.unwrap_or_else(|| "targeted".to_owned());
    let of_policy = PathBuf::from(format!("/etc/selinux/{kind}/contexts/lxc_contexts"));
    let places = [PathBuf::from(CONTEXTS), of_policy.clone()];
    let read = |path: PathBuf| fs::read_to_string(&path).ok().map(|text| (path, text));
    places.into_iter().find_map(read).ok_or_else(|| {
        format!("the policy has nothing for containers: there is no `{}`", of_policy.display())
    })
}

fn kernel(release: &str) -> Option<(u16, u16)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What the user should know when containers are made. `hint` is what may help.
pub(crate) fn warning(labelling: &Labelling) -> Option<(String, String)> {
    let Labelling::Impossible(reason) = labelling else { return None };
    let hint = "install the policy for containers (container-selinux); where it still does not allow it, give this \
                executable the type of an engine: sudo chcon -t container_runtime_exec_t FILE";
    Some((format!("SELinux does not confine containers: {reason}"), hint.to_owned()))
}

/// The labels of a container that is made, before its service has its say. None where containers have none.
pub(super) fn of(making: &Making<'_>) -> Result<Option<Labels>> {
    let Labelling::Possible(labels) = look(making.driver) else { return Ok(None) };
    let level = level(making)?;
    let labels = labels.at(&level);
    if let Some(own) = labels.of_service(making.service) {
        for label in [&own.process, &own.file] {
            check(making.service_name, &label.to_string(), label == &own.process)?;
        }
    }
    Ok(Some(labels))
}

/// What a service asks for may be nothing that the policy has.
fn check(service: &str, label: &str, process: bool) -> Result<(), Failure> {
    let refused = |reason: &str| {
        let hint =
            "labels are changed by `security_opt: label=…`; `seinfo` and `sesearch` show what the policy has";
        Failure::environment(format!("service `{service}` cannot have the SELinux label `{label}`: {reason}"))
            .hint(hint)
    };
    if !selinux::knows(label) {
        return Err(refused("the policy of this device does not know it"));
    }
    let own = selinux::own_label().unwrap_or_default();
    if process && selinux::is_enforcing() && !selinux::allows(&own, label, "process", &["transition"]) {
        return Err(refused(&format!("the policy of this device does not allow it to what `{own}` starts")));
    }
    Ok(())
}

/// Of the container whose IPC or PID namespace it shares, as in Docker; else its own, the same whenever it is made again.
fn level(making: &Making<'_>) -> Result<String> {
    let owner = match (&making.service.ipc, &making.service.pid) {
        (Some(Ipc::Service(service)), _) | (_, Some(Namespace::Service(service))) => {
            Some(container::name(making.model, service, 1))
        }
        (Some(Ipc::Container(name)), _) | (_, Some(Namespace::Container(name))) => Some(name.clone()),
        _ => None,
    };
    let Some(owner) = owner else { return own_level(making.project, making.name) };
    let theirs = bundle(making.project, &owner)?.and_then(|spec| spec.process.selinux_label);
    match theirs.as_deref().and_then(Label::parse).and_then(|label| label.level().map(str::to_owned)) {
        Some(level) => Ok(level),
        None => own_level(making.project, &owner),
    }
}

fn bundle(project: &ProjectPaths, container: &str) -> Result<Option<Spec>> {
    files::read_json::<Spec>(&project.container(container).join("config.json"))
}

/// By the container's name. One that another container of the project has as well is passed over.
fn own_level(project: &ProjectPaths, name: &str) -> Result<String> {
    let folder = project.containers();
    let number = |name: &str, turn: u32| {
        let text = format!("{}\0{name}\0{turn}", folder.display());
        Digest::of(text.as_bytes()).hex().get(..15).and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let level = |name: &str, turn| label::level(number(name, turn).unwrap_or_default());
    let mut others = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))? {
        let other = entry?.file_name().to_string_lossy().into_owned();
        if other != name {
            others.push(level(&other, 0));
        }
    }
    Ok((0..).map(|turn| level(name, turn)).find(|level| !others.contains(level)).unwrap_or_default())
}

/// Gives what is mounted the label with which the container may use it: what is the project's own, and what the Compose file
/// says so of (`z`, `Z`).
pub(super) fn files_of(
    making: &Making<'_>,
    labels: &Labels,
    mount: &MountSource,
    source: &Path,
    layers: &[PathBuf],
) -> Result<()> {
    let shared = labels.shared_files().to_string();
    let wanted = |relabel: &Option<Relabel>| match relabel {
        Some(Relabel::Private) => labels.file.to_string(),
        Some(Relabel::Shared) | None => shared.clone(),
    };
    let is_ours = |path: &Path| {
        path.starts_with(making.project.volumes()) || path.starts_with(making.project.all_files())
    };
    match mount {
        MountSource::Volume { selinux, .. } if selinux.is_some() || is_ours(source) => {
            if !is_ours(source) {
                check_path(making.project, making.service_name, source)?;
            }
            once(source, &wanted(selinux))
        }
        MountSource::Bind { selinux: None, .. } if is_ours(source) => once(source, &shared),
        MountSource::Bind { selinux: selinux @ Some(_), .. } => {
            if !is_ours(source) {
                check_path(making.project, making.service_name, source)?;
            }
            give(source, &wanted(selinux))
        }
        MountSource::Image { .. } => self::layers(labels, layers),
        MountSource::Volume { .. } | MountSource::Bind { .. } | MountSource::Tmpfs { .. } => Ok(()),
    }
}

/// What is extracted into this store gets the label of layers, because files have the type of their folder.
pub(crate) fn prepare_store(store: &Store) {
    if let Labelling::Possible(labels) = look(store.driver())
        && let Ok(file) = fs::File::open(store.dir())
    {
        // Without, each layer is given its label afterwards.
        let _ = selinux::set_label(&file, &labels.read_only.to_string());
    }
}

/// Layers below an overlay: the label of the mount is for most, but memory protection goes by that of the file below. Those
/// that were extracted without are given it once. Where the file system has no labels, the policy has one for all of it.
pub(super) fn layers(labels: &Labels, layers: &[PathBuf]) -> Result<()> {
    for layer in layers {
        let has = fs::File::open(layer).ok().and_then(selinux::label_of);
        if has.as_deref().and_then(Label::parse).is_some_and(|has| has.kind() == labels.read_only.kind()) {
            continue;
        }
        match selinux::relabel(layer, &labels.read_only.to_string()) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            result => result
                .with_context(|| format!("failed to label the layer `{}`", layer.display()))
                .environment()?,
        }
    }
    Ok(())
}

/// Refuses a bind mount that asks for new labels where the device needs those that are there.
pub(crate) fn check_path(project: &ProjectPaths, service: &str, source: &Path) -> Result<(), Failure> {
    // `/home` is a link on some devices.
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = resolved(source);
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let keeps = [home.as_deref(), Some(project.folder.as_path())].map(|kept| kept.map(resolved));
    if keeps.into_iter().all(|kept| label::may_relabel(&path, kept.as_deref())) {
        return Ok(());
    }
    Err(Failure::input(format!(
        "service `{service}` wants new SELinux labels for `{}`, which other programs of the device need as it is",
        path.display()
    ))
    .hint(
        "mount a folder below it, or leave out `z` and `Z`; with `security_opt: [label=disable]` the container may read it",
    ))
}

/// Unless the folder has it: then all that was in it has it.
fn once(path: &Path, label: &str) -> Result<()> {
    let has = fs::File::open(path).ok().and_then(selinux::label_of);
    if has.as_deref() == Some(label) { Ok(()) } else { give(path, label) }
}

/// Gives a path and all below it a label.
pub(super) fn give(path: &Path, label: &str) -> Result<()> {
    selinux::relabel(path, label)
        .with_context(|| format!("failed to give `{}` the SELinux label `{label}`", path.display()))
        .environment()
}

/// What containers share as `/dev/shm` has the label of the container whose it is.
pub(super) fn shared_memory(project: &ProjectPaths, container: &str, folder: &Path) -> Result<()> {
    if !selinux::is_enabled() {
        return Ok(());
    }
    match bundle(project, container)?.and_then(|spec| spec.linux.mount_label) {
        Some(label) => once(folder, &label),
        None => Ok(()),
    }
}
