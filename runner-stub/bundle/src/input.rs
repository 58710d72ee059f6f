//! What a bundle is made of, and the one function that makes it.

use std::path::{Path, PathBuf};

use dpack_compose::project::{CgroupNamespace, Ipc as SharedIpc, Namespace as Shared, NetworkMode, Service};

use crate::annotation;
use crate::image::ImageConfig;
use crate::label::{self, Labels};
use crate::log;
use crate::mounts::{self, ResolvedMount};
use crate::process::{self, ProcessError};
use crate::seccomp::Machine;
use crate::security::{self, SecurityError};
use crate::spec::{Linux, Namespace, NamespaceKind, Root, Spec};
use crate::users::UserDatabase;

/// Version of the runtime-spec that bundles follow.
const OCI_VERSION: &str = "1.2.0";

/// Everything that decides what a container's `config.json` says.
#[derive(Clone, Debug)]
pub struct BundleInput<'a> {
    /// The service; `run` changes its command first.
    pub service: &'a Service,
    /// The image's config.
    pub image: &'a ImageConfig,
    /// Container ID, 64 hex digits; the first 12 are the default host name.
    pub id: &'a str,
    /// The container's folder: `rootfs`, `upper`, `work`, `etc` lie in it.
    pub container_dir: &'a Path,
    /// The layers' folders, lowest first. None when `rootfs` holds everything already.
    pub layers: &'a [PathBuf],
    /// What [`mounts::plan`] listed, each with its place on the device.
    pub mounts: &'a [ResolvedMount],
    /// The user database of the image's root file system.
    pub users: UserDatabase<'a>,
    /// What the device contributes.
    pub host: Host<'a>,
    /// Limits ([`crate::resources`]).
    pub resources: Option<&'a crate::spec::Resources>,
    /// With a pseudo-terminal.
    pub tty: bool,
    /// Nothing that it writes to its root file system is kept.
    pub volatile: bool,
}

/// What the device contributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host<'a> {
    /// The device's host name, which containers on the device's network have.
    pub hostname: &'a str,
    /// Only one user and group ID exists.
    pub single_id: bool,
    /// For profiles that depend on it.
    pub machine: Machine,
    /// What SELinux has for this container, where it is on.
    pub labels: Option<&'a Labels>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// What is to be executed, or as whom, is not clear.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// `pid: host`.
    #[error("`pid: host` is not supported: the container could reach every process of its user")]
    DevicePids,
    /// The service cannot be confined as it asks for.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A path of the device is not UTF-8.
    #[error("the path `{}` is not valid UTF-8", .0.display())]
    Path(PathBuf),
}

/// Makes the document that [`crate::spec()`] describes.
pub fn spec(input: &BundleInput<'_>) -> Result<Spec, BundleError> {
    let hostname = hostname(input);
    let security = security::of(input.service, input.host.machine, input.host.labels)?;
    let process = process::process(input, &hostname, &security)?;
    let mut spec = Spec {
        oci_version: OCI_VERSION.to_owned(),
        root: Root { path: "rootfs".to_owned(), readonly: input.service.read_only },
        mounts: mounts::mounts(input)?,
        process,
        hostname: input.service.uts.is_none().then_some(hostname),
        domainname: input.service.domainname.clone(),
        annotations: input.service.annotations.clone(),
        linux: Linux {
            namespaces: namespaces(input)?,
            resources: input.resources.cloned(),
            masked_paths: security.masked_paths,
            readonly_paths: security.readonly_paths,
            sysctl: security.sysctl,
            seccomp: security.seccomp,
            mount_label: security.labels.map(|labels| labels.file.to_string()),
            uid_mappings: Vec::new(),
            gid_mappings: Vec::new(),
        },
    };
    spec.mounts.extend(security.devices);
    let layers = input.layers.iter().map(|layer| text(layer)).collect::<Result<Vec<_>, _>>()?;
    let labelled = spec.process.selinux_label.is_some() && !label::is_asked_for(input.service);
    let mut annotate = |key: &str, value: String| spec.annotations.insert(key.to_owned(), value);
    if !layers.is_empty() {
        annotate(annotation::LAYERS, serde_json::Value::from(layers).to_string());
        annotate(annotation::UPPER, text(&input.container_dir.join("upper"))?);
        annotate(annotation::WORK, text(&input.container_dir.join("work"))?);
        if input.volatile {
            annotate(annotation::VOLATILE, "true".to_owned());
        }
    }
    if labelled {
        annotate(annotation::LABELS, "default".to_owned());
    }
    if input.service.init {
        annotate(annotation::INIT, "true".to_owned());
    }
    if input.service.stdin_open {
        annotate(annotation::STDIN, "true".to_owned());
    }
    for (key, value) in log::annotations(input.service.logging.unwrap_or_default()) {
        annotate(key, value);
    }
    Ok(spec)
}

/// The service's host name, else the device's on the device's network, else the short ID.
fn hostname(input: &BundleInput<'_>) -> String {
    match (&input.service.hostname, &input.service.network) {
        (Some(name), _) => name.clone(),
        (None, NetworkMode::Host) => input.host.hostname.to_owned(),
        (None, _) => input.id.chars().take(12).collect(),
    }
}

/// Folder of a container in which links lead to the namespaces of others, made when it is started.
pub const JOINED: &str = "ns";

/// What is new, what is joined. What is the device's is left out.
fn namespaces(input: &BundleInput<'_>) -> Result<Vec<Namespace>, BundleError> {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let service = input.service;
    let joined = |name: &str| text(&input.container_dir.join(JOINED).join(name)).map(PathBuf::from);
    let mut namespaces = Vec::new();
    for kind in [Mount, Network, Uts, Pid, Ipc, Cgroup] {
        let path = match kind {
            Network => match service.network {
                NetworkMode::Host => continue,
                NetworkMode::Service(_) | NetworkMode::Container(_) => Some(joined("net")?),
                NetworkMode::Networks(_) | NetworkMode::None => None,
            },
            Uts => match service.uts {
                Some(Shared::Host) => continue,
                Some(Shared::Service(_) | Shared::Container(_)) => Some(joined("uts")?),
                None => None,
            },
            Pid => match service.pid {
                Some(Shared::Host) => return Err(BundleError::DevicePids),
                Some(Shared::Service(_) | Shared::Container(_)) => Some(joined("pid")?),
                None => None,
            },
            Ipc => match service.ipc {
                Some(SharedIpc::Host) => continue,
                Some(SharedIpc::Service(_) | SharedIpc::Container(_)) => Some(joined("ipc")?),
                _ => None,
            },
            Cgroup if service.cgroup == Some(CgroupNamespace::Host) => continue,
            _ => None,
        };
        let path = path.map(|path| text(&path)).transpose()?;
        namespaces.push(Namespace { kind, path });
    }
    Ok(namespaces)
}

/// Paths in a bundle are JSON, so text.
pub(crate) fn text(path: &Path) -> Result<String, BundleError> {
    path.to_str().map(str::to_owned).ok_or_else(|| BundleError::Path(path.to_owned()))
}
