//! Where the data of a container's mounts lies on the device: volumes, paths, configs and secrets, and what it takes from
//! other containers.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dpack_bundle::image::ImageConfig;
use dpack_bundle::label::Labels;
use dpack_bundle::mounts::{self, ResolvedMount};
use dpack_compose::project::{
    FileMount, FileObject, FileSource, Mount, MountSource, Project, Service, VolumePlace,
};
use dpack_payload::digest::Digest;
use dpack_sandbox::role::launcher;
use dpack_store::Driver;

use super::create::Making;
use super::labels;
use crate::container;
use crate::failure::{Context as _, Failure};
use crate::paths::ProjectPaths;

/// Every mount of a container, with what may be made made, and labelled as the container needs it.
pub(crate) fn resolve(
    making: &Making<'_>,
    image: &ImageConfig,
    labels: Option<&Labels>,
) -> Result<Vec<ResolvedMount>> {
    let mut planned = of_service(making.anonymous_of, making.service, image)?;
    borrow(making, making.service, &mut planned, &mut BTreeSet::from([making.service_name.to_owned()]))?;
    let found = planned.into_iter().map(|planned| find(making, &planned.container, planned.mount));
    let mut resolved = found.collect::<Result<Vec<_>>>()?;
    for ResolvedMount { mount, source, layers } in &resolved {
        if let Some(labels) = labels {
            labels::files_of(making, labels, &mount.source, source, layers)?;
        }
    }
    let files = [
        ("config", &making.service.configs, &making.model.configs),
        ("secret", &making.service.secrets, &making.model.secrets),
    ];
    for (kind, wanted, known) in files {
        for (number, file) in wanted.iter().enumerate() {
            let object =
                known.get(&file.source).with_context(|| format!("{kind} `{}` is gone", file.source))?;
            let place = making.project.container(making.name).join("files").join(format!("{kind}-{number}"));
            let source = write_file(kind, file, object, &place, labels)?;
            let bind = MountSource::Bind {
                source: String::new(),
                create_host_path: false,
                propagation: None,
                not_recursive: false,
                selinux: None,
            };
            resolved.retain(|other| other.mount.target != file.target);
            let mount = Mount { target: file.target.clone(), read_only: true, source: bind };
            resolved.push(ResolvedMount { mount, source, layers: Vec::new() });
        }
    }
    Ok(resolved)
}

/// A mount, and the container whose it is.
struct Planned {
    container: String,
    mount: Mount,
    /// It is there because the image says `VOLUME`.
    implied: bool,
}

fn of_service(container: &str, service: &Service, image: &ImageConfig) -> Result<Vec<Planned>> {
    let planned = mounts::plan(service, image).input()?.into_iter().enumerate();
    let planned = planned.map(|(number, mount)| Planned {
        container: container.to_owned(),
        mount,
        // The service's own come first.
        implied: number >= service.volumes.len(),
    });
    Ok(planned.collect())
}

/// `volumes_from`: what others mount is mounted here too, in the same places, unless the service mounts something there.
fn borrow(
    making: &Making<'_>,
    service: &Service,
    planned: &mut Vec<Planned>,
    seen: &mut BTreeSet<String>,
) -> Result<()> {
    for from in &service.volumes_from {
        let (name, other) = owner(making.model, &from.name, from.container).ok_or_else(|| {
            Failure::input(format!(
                "service `{}` takes volumes from `{}`, which is not of this project",
                making.service_name, from.name
            ))
        })?;
        if !seen.insert(name.clone()) {
            continue;
        }
        let image = (making.executable)()?.image(&name, &other.image)?;
        let image = ImageConfig::parse(&image.config).with_context(|| format!("image `{}`", image.reference));
        let container = container::name(making.model, &name, 1);
        let mut theirs = of_service(&container, other, &image.input()?)?;
        borrow(making, other, &mut theirs, seen)?;
        for mut borrowed in theirs {
            borrowed.mount.read_only |= from.read_only;
            borrowed.implied = false;
            planned.retain(|own| !own.implied || own.mount.target != borrowed.mount.target);
            if !planned.iter().any(|own| own.mount.target == borrowed.mount.target) {
                planned.push(borrowed);
            }
        }
    }
    Ok(())
}

fn owner<'a>(project: &'a Project, name: &str, container: bool) -> Option<(String, &'a Service)> {
    let is_meant = |service: &String| {
        if container { container::name(project, service, 1) == name } else { service == name }
    };
    let mut services = project.services.iter();
    services.find(|(service, _)| is_meant(service)).map(|(name, service)| (name.clone(), service))
}

/// Finds the place of a mount on the device, and makes what may be made.
fn find(making: &Making<'_>, container: &str, mut mount: Mount) -> Result<ResolvedMount> {
    let mut layers = Vec::new();
    let elsewhere = match &mount.source {
        MountSource::Volume { source: Some(key), .. } => {
            making.model.volumes.get(key).and_then(|volume| Some((key, volume.place.as_ref()?)))
        }
        _ => None,
    };
    match elsewhere {
        Some((_, VolumePlace::Tmpfs { size, mode })) => {
            mount.source = MountSource::Tmpfs { volume: true, size: *size, mode: *mode };
        }
        Some((key, VolumePlace::Bind(path))) => {
            let source = PathBuf::from(path);
            check_volume(key, &source)?;
            return Ok(ResolvedMount { mount, source, layers });
        }
        None => {}
    }
    let source = match &mount.source {
        MountSource::Volume { source, .. } => {
            let name = match source {
                Some(key) => key.clone(),
                // `@` is in no volume's key, so that it cannot be one of the project's.
                None => format!(
                    "{}{}",
                    anonymous_prefix(container),
                    &Digest::of(mount.target.as_bytes()).hex()[..12]
                ),
            };
            let folder = making.project.volumes().join(name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("failed to create `{}`", folder.display()))
                .environment()?;
            folder
        }
        MountSource::Bind { source, create_host_path, .. } => {
            let source = PathBuf::from(source);
            provide_bind(making.service_name, &source, *create_host_path)?;
            source
        }
        MountSource::Tmpfs { .. } => PathBuf::new(),
        MountSource::Image { source, .. } => {
            layers = making.stacks.get(source).cloned().unwrap_or_default();
            if layers.is_empty() {
                let what =
                    format!("service `{}` mounts image `{source}`, in which nothing is", making.service_name);
                return Err(Failure::input(what).into());
            }
            if making.driver == Driver::Copy && layers.len() > 1 {
                layers = vec![merged(making, &mount.target, &layers)?];
            }
            PathBuf::new()
        }
    };
    Ok(ResolvedMount { mount, source, layers })
}

/// Layers of an image that is mounted, put together in the container's folder; they are never written to.
fn merged(making: &Making<'_>, target: &str, layers: &[PathBuf]) -> Result<PathBuf> {
    let name = &Digest::of(target.as_bytes()).hex()[..12];
    let place = making.project.container(making.name).join("images").join(name);
    fs::create_dir_all(&place)
        .with_context(|| format!("failed to create `{}`", place.display()))
        .environment()?;
    dpack_store::copy_layers(layers, &place, true)
        .context("failed to copy the image's layers")
        .environment()?;
    Ok(place)
}

/// A config or secret as a file. One of the device is mounted as it is, as in Docker Compose, so that its changes are
/// seen; unless it is to have an owner, a mode or a label of its own.
fn write_file(
    kind: &str,
    file: &FileMount,
    object: &FileObject,
    place: &Path,
    labels: Option<&Labels>,
) -> Result<PathBuf> {
    let own = file.uid.is_some() || file.gid.is_some() || file.mode.is_some() || labels.is_some();
    let read;
    let content: &[u8] = match &object.source {
        FileSource::File(path) => {
            check_file(kind, &file.source, object)?;
            if !own {
                return Ok(PathBuf::from(path));
            }
            read = fs::read(path).with_context(|| format!("failed to read `{path}`")).environment()?;
            &read
        }
        FileSource::Content(text) => text.as_bytes(),
        FileSource::Environment { value, .. } => {
            check_file(kind, &file.source, object)?;
            value.as_deref().unwrap_or_default().as_bytes()
        }
    };
    let id = |id: &Option<String>| -> Result<u32, Failure> {
        let Some(text) = id else { return Ok(0) };
        text.parse().map_err(|_| {
            Failure::input(format!("{kind} `{}`: `{text}` is no number of a user or group", file.source))
        })
    };
    let (uid, gid) = (id(&file.uid)?, id(&file.gid)?);
    let written = fs::create_dir_all(place.parent().unwrap_or(place)).and_then(|()| {
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
        out.write_all(content)?;
        // Before the mode, which a change of owner takes bits from. Refused where only one ID exists.
        let _ = std::os::unix::fs::fchown(&out, Some(uid), Some(gid));
        out.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(file.mode.unwrap_or(0o444) & 0o7777))
    });
    written.with_context(|| format!("failed to write `{}`", place.display())).environment()?;
    if let Some(labels) = labels {
        labels::give(place, &labels.file.to_string())?;
    }
    Ok(place.to_owned())
}

/// Configs and secrets that cannot be had stop us before anything is made.
pub(crate) fn check_files(project: &Project, service: &Service) -> Result<(), Failure> {
    for (kind, wanted, known) in
        [("config", &service.configs, &project.configs), ("secret", &service.secrets, &project.secrets)]
    {
        for file in wanted {
            known.get(&file.source).map_or(Ok(()), |object| check_file(kind, &file.source, object))?;
        }
    }
    Ok(())
}

fn check_file(kind: &str, name: &str, object: &FileObject) -> Result<(), Failure> {
    match &object.source {
        FileSource::File(path) if !Path::new(path).is_file() => {
            Err(Failure::environment(format!("{kind} `{name}`: there is no file `{path}`"))
                .hint("it does not travel in the executable: put it there"))
        }
        FileSource::Environment { variable, value: None } => {
            Err(Failure::environment(format!("{kind} `{name}`: the variable `{variable}` is not set"))
                .hint(format!("export {variable}=…")))
        }
        _ => Ok(()),
    }
}

/// What the names of a container's anonymous volumes begin with.
fn anonymous_prefix(container: &str) -> String {
    format!("@{container}@")
}

/// The anonymous volumes of a container, for when nobody will make it again.
pub(crate) fn anonymous_volumes(project: &ProjectPaths, container: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.volumes()).into_iter().flatten().flatten();
    let ours =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&anonymous_prefix(container)));
    ours.map(|entry| entry.path()).collect()
}

/// Refuses a volume whose folder on the device is missing: as in Docker, nobody makes it.
pub(crate) fn check_volume(key: &str, folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::environment(format!("volume `{key}` lies in `{}`, which is no folder", folder.display()))
        .hint(format!("mkdir -p {}", folder.display())))
}

/// Makes a bind source that is missing, or refuses it where that may not be or cannot be done.
pub(crate) fn provide_bind(service: &str, source: &Path, create: bool) -> Result<(), Failure> {
    if source.exists() {
        return Ok(());
    }
    let reason = match create.then(|| launcher::make_folder(source)) {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => format!(" and cannot be made: {error}"),
        None => String::new(),
    };
    let hint = match source.extension() {
        Some(extension) if extension == "sock" => {
            "a program of the device has to listen there; there is none in this file".to_owned()
        }
        _ => format!("mkdir -p {}", source.display()),
    };
    let source = source.display();
    Err(Failure::environment(format!("service `{service}` mounts `{source}`, which does not exist{reason}"))
        .hint(hint))
}
