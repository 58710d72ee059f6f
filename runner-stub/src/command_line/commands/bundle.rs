//! `bundle`: a service as an OCI runtime bundle, for another runtime to run.
//!
//! The container's folder is made as for `run`, in the same role; its root file system is then copied instead of started.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_bundle::portable::{Portable, portable};
use dpack_bundle::spec::{IdMapping, Spec};
use dpack_sandbox::export::{self, Part};
use dpack_sandbox::idmap::{self, Range};

use super::super::args::Bundle;
use super::super::client::Namespace;
use super::super::output;
use super::super::settings::Settings;
use super::run::{self, Commission, note_layers};
use crate::container::one_off_name;
use crate::failure::{Context as _, Failure};
use crate::supervisor::sandbox_failure;
use crate::{files, plan};

/// `bundle`
pub(crate) fn run(settings: &Settings, arguments: &Bundle) -> Result<u8> {
    settings.executable.check_platform()?;
    let folder = new_folder(&arguments.output)?;
    let asked_for = std::slice::from_ref(&arguments.service);
    let desired = settings.desired(asked_for)?;
    note_layers(settings, &desired)?;
    plan::check_services(&desired.project, asked_for)?;
    let service = desired.project.services.get(&arguments.service).context("a service is gone")?;
    let namespace = Namespace::find(settings)?;
    let commission = Commission {
        paths: settings.paths.clone(),
        project_name: settings.name.clone(),
        service: arguments.service.clone(),
        image: settings.executable.image(&arguments.service, &service.image)?.clone(),
        name: one_off_name(&settings.name, &arguments.service)?,
        id_map: namespace.kind(),
        build: settings.executable.build(),
        project_files: settings.executable.project_files().map(|files| files.layer),
        tty: service.tty,
        aliases: false,
        remove: true,
        allow_degraded: false,
        bundle: Some(folder),
        project: desired.project,
        driver: settings.driver,
    };
    run::become_role(settings, &namespace, &commission, None)
}

/// Absolute; nothing that is there is ever written over.
fn new_folder(path: &Path) -> Result<PathBuf> {
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            let text = format!("failed to read `{}`", path.display());
            return Err(anyhow::Error::from(error).context(text)).environment();
        }
    };
    if occupied {
        let text = format!("the folder `{}` is not empty", path.display());
        return Err(Failure::usage(text).hint("name one that does not exist yet: -o DIR").into());
    }
    fs::create_dir_all(path)
        .with_context(|| format!("failed to create `{}`", path.display()))
        .environment()?;
    fs::canonicalize(path).with_context(|| format!("failed to find `{}`", path.display())).environment()
}

/// In the role: writes the bundle of the container in `container` to `folder`. What a failure leaves is not a bundle, because
/// `config.json` comes last.
pub(crate) fn write(container: &Path, folder: &Path, service: &str) -> Result<()> {
    let text = fs::read(container.join("config.json")).context("failed to read a container's config.json")?;
    let spec: Spec = serde_json::from_slice(&text).context("a container's config.json makes no sense")?;
    let Portable { spec, volumes } = portable(spec, container, map("uid")?, map("gid")?)
        .map_err(|error| Failure::usage(format!("service `{service}`: {error}")))?;
    let make = |path: &Path| {
        fs::create_dir_all(path)
            .with_context(|| format!("failed to create `{}`", path.display()))
            .environment()
    };
    make(&folder.join("rootfs"))?;
    for volume in &volumes {
        make(&folder.join(&volume.folder))?;
    }
    for part in ["etc", "files"] {
        copy_files(&container.join(part), &folder.join(part))?;
    }
    let parts: Vec<Part<'_>> = volumes
        .iter()
        .filter_map(|volume| {
            Some(Part { image_path: volume.image_path.as_deref()?, folder: folder.join(&volume.folder) })
        })
        .collect();
    export::export(container, &folder.join("rootfs"), &parts).map_err(sandbox_failure)?;
    files::write_json(&folder.join("config.json"), &spec)?;
    output::note(&format!(
        "wrote {}; run it with: crun run --bundle {} NAME",
        folder.display(),
        folder.display()
    ));
    Ok(())
}

/// Our own files, which no container has written to.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    let copied = || -> std::io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in entries {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copied().with_context(|| format!("failed to copy `{}`", from.display())).environment()
}

/// The IDs that this user namespace has, as the device knows them.
fn map(kind: &str) -> Result<Vec<IdMapping>> {
    let path = format!("/proc/self/{kind}_map");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read `{path}`"))?;
    let ranges = idmap::ranges(&text).with_context(|| format!("`{path}` makes no sense"))?;
    let mapping =
        |range: Range| IdMapping { container_id: range.inside, host_id: range.outside, size: range.count };
    Ok(ranges.into_iter().map(mapping).collect())
}
