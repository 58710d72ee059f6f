//! Containers that share something with others: namespaces, `/dev/shm`, and with a network the files below `/etc`.
//!
//! Whom a container joins is known when it is started, not when it is made. So its bundle names links in its own folder
//! (`ns/net`, `ns/pid`, `ns/ipc`, `ns/shm`), and each start points them at the container that runs then.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_bundle::JOINED;
use dpack_bundle::spec::Spec;
use dpack_compose::project::{Ipc, Namespace, NetworkMode, Service};

use super::labels;
use crate::container::{Container, Identity, State};
use crate::failure::{Context as _, Failure};
use crate::files::{self, Lasts};
use crate::paths::ProjectPaths;

/// Whose something is.
#[derive(Clone, Copy, Debug)]
enum Owner<'a> {
    Service(&'a str),
    Container(&'a str),
}

/// Points the links of a container that is about to be started. The container whose network it shares comes back.
pub(crate) fn prepare(project: &ProjectPaths, folder: &Path, identity: &Identity) -> Result<Option<PathBuf>> {
    let service = &identity.definition;
    for (name, owner) in owners(service) {
        let (target, pid) = running(project, identity, owner)?;
        link(folder, name, Path::new(&format!("/proc/{pid}/ns/{name}")))?;
        match name {
            "ipc" => link(folder, "shm", &shared_memory(project, &target.name)?)?,
            "net" => take_host_name(folder, &target)?,
            _ => {}
        }
    }
    if service.ipc == Some(Ipc::Shareable) {
        link(folder, "shm", &shared_memory(project, &identity.name)?)?;
    }
    match network_owner(service) {
        Some(owner) => {
            running(project, identity, owner).map(|(target, _)| Some(project.container(&target.name)))
        }
        None => Ok(None),
    }
}

/// The files of the container whose network it is: names and name servers belong to the network.
pub(crate) fn copy_etc(from: &Path, to: &Path) -> Result<()> {
    for name in ["hosts", "hostname", "resolv.conf"] {
        let (from, to) = (from.join("etc").join(name), to.join("etc").join(name));
        // In place: it may be mounted already.
        let copied = fs::read(&from).and_then(|text| fs::write(&to, text));
        copied.with_context(|| format!("failed to copy `{}`", from.display())).environment()?;
    }
    Ok(())
}

/// Removes what [`prepare`] made outside of the container's folder.
pub(crate) fn forget(project: &ProjectPaths, name: &str) -> Result<()> {
    Ok(dpack_store::remove_tree(&project.shared_memory(name))?)
}

fn network_owner(service: &Service) -> Option<Owner<'_>> {
    match &service.network {
        NetworkMode::Service(name) => Some(Owner::Service(name)),
        NetworkMode::Container(name) => Some(Owner::Container(name)),
        NetworkMode::Networks(_) | NetworkMode::Host | NetworkMode::None => None,
    }
}

fn owners(service: &Service) -> Vec<(&'static str, Owner<'_>)> {
    let mut owners: Vec<(&'static str, Owner<'_>)> = Vec::new();
    owners.extend(network_owner(service).map(|owner| ("net", owner)));
    for (name, namespace) in [("pid", &service.pid), ("uts", &service.uts)] {
        match namespace {
            Some(Namespace::Service(other)) => owners.push((name, Owner::Service(other))),
            Some(Namespace::Container(other)) => owners.push((name, Owner::Container(other))),
            Some(Namespace::Host) | None => {}
        }
    }
    match &service.ipc {
        Some(Ipc::Service(other)) => owners.push(("ipc", Owner::Service(other))),
        Some(Ipc::Container(other)) => owners.push(("ipc", Owner::Container(other))),
        _ => {}
    }
    owners
}

/// The container that owns something, and its PID 1.
fn running(project: &ProjectPaths, asker: &Identity, owner: Owner<'_>) -> Result<(Identity, i32)> {
    let is_meant = |identity: &Identity| match owner {
        Owner::Service(name) => identity.service == name && !identity.one_off && identity.number == 1,
        Owner::Container(name) => identity.name == name,
    };
    let found = Container::list(project)?.into_iter().find(|container| is_meant(&container.identity));
    let what = match owner {
        Owner::Service(name) => format!("service `{name}`"),
        Owner::Container(name) => format!("container `{name}`"),
    };
    let failed = |state: &str| {
        Failure::environment(format!("container {} shares with {what}, which {state}", asker.name))
    };
    match found {
        Some(Container { identity, state: State::Running { pid, .. }, .. }) => Ok((identity, pid)),
        Some(Container { state, .. }) => Err(failed(&format!("is {}", state.word())).into()),
        None => {
            let is_service = matches!(owner, Owner::Service(_));
            Err(failed(if is_service { "has no container" } else { "is none of this project" }).into())
        }
    }
}

fn link(folder: &Path, name: &str, target: &Path) -> Result<()> {
    let path = folder.join(JOINED).join(name);
    let made = fs::create_dir_all(folder.join(JOINED)).and_then(|()| {
        files::remove(&path).map_err(std::io::Error::other)?;
        symlink(target, &path)
    });
    made.with_context(|| format!("failed to create `{}`", path.display())).environment()
}

/// The folder in memory that containers share as `/dev/shm`.
fn shared_memory(project: &ProjectPaths, name: &str) -> Result<PathBuf> {
    let folder = project.shared_memory(name);
    let made = fs::create_dir_all(&folder)
        .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o1777)));
    made.with_context(|| format!("failed to create `{}`", folder.display())).environment()?;
    labels::shared_memory(project, name, &folder)?;
    Ok(folder)
}

/// Who shares a network has the host name that belongs to it.
fn take_host_name(folder: &Path, target: &Identity) -> Result<()> {
    let path = folder.join("config.json");
    let mut spec: Spec = files::read_json(&path)?.context("a container has no config.json")?;
    if spec.hostname.is_some() {
        spec.hostname = Some(target.hostname.clone());
    }
    for entry in spec.process.env.iter_mut().filter(|entry| entry.starts_with("HOSTNAME=")) {
        *entry = format!("HOSTNAME={}", target.hostname);
    }
    files::write_json_that(Lasts::Always, &path, &spec)
}
