//! The typed Compose project: what is left when files are merged and variables are filled in.
//!
//! Everything here has been checked: names are valid, references lead somewhere, durations and ports are numbers.
//! The runner never sees YAML. The types serialise to JSON, because the project travels from the command line to the
//! supervisor and is kept in the data folder; field names follow the Compose specification.

#[cfg(feature = "yaml")]
mod build;
mod file;
mod isolation;
mod lifecycle;
mod mount;
mod network;
mod resources;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

#[cfg(feature = "yaml")]
pub use self::build::Build;
pub use self::file::{FileMount, FileObject, FileSource};
pub use self::isolation::{CgroupNamespace, Device, Ipc, LABEL_PARTS, Namespace, SecurityOption};
pub use self::lifecycle::{Condition, Dependency, Healthcheck, Hook, Logging, Order, Restart, UpdateConfig};
pub use self::mount::{Mount, MountSource, Propagation, Relabel, VolumesFrom};
pub use self::network::{Attachment, DriverOptions, IpamPool, Network, NetworkMode, Port, Protocol};
pub use self::resources::{BlockIo, BlockLimit, Resources, Ulimit};

/// A Compose application with every variable filled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Project name: lower-case letters, digits, `-` and `_`, starting with a letter or digit.
    pub name: String,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Services none of whose profiles is active, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disabled: BTreeMap<String, Service>,
    /// Networks by key; `default` is present when a service uses it.
    #[serde(default)]
    pub networks: BTreeMap<String, Network>,
    /// Named volumes by key.
    #[serde(default)]
    pub volumes: BTreeMap<String, Volume>,
    /// Files that are no secret, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, FileObject>,
    /// Files that are secret, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, FileObject>,
}

/// One service of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Image reference as the user wrote it; empty when `build` is all that is said of it.
    pub image: String,
    /// How the image is made; the builder's only.
    #[cfg(feature = "yaml")]
    #[serde(skip)]
    pub build: Option<Build>,
    /// Overrides the image's command; `Some([])` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Overrides the image's entrypoint (and with it the image's command); `Some([])` clears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Environment on top of the image's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Variables of the image's environment that the container must not have: `KEY` without a value, not set anywhere.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unset_environment: BTreeSet<String>,
    /// Absolute working directory inside the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// `user[:group]`, names or numbers, looked up in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Published ports, ranges expanded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Mounts, in the order written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// How the service is connected.
    pub network: NetworkMode,
    /// Services that must have started before this one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<String, Dependency>,
    /// What happens when the container exits.
    pub restart: Restart,
    /// Name of the container, unique in the project; `<project>-<service>-<number>` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Host name; the container's short ID when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Labels on the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal name or number that asks the container to stop; the image's, then SIGTERM, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Milliseconds between the stop signal and SIGKILL; 10 seconds when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period_ms: Option<u64>,
    /// Run a small init as PID 1 that reaps children and forwards signals.
    pub init: bool,
    /// Mount the root file system read-only.
    pub read_only: bool,
    /// Containers to run; one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Profiles of which one must be active; always active when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Annotations on the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whether `up` in the foreground shows its output; yes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach: Option<bool>,
    /// What replaces the image's health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// How long after an exit the next start comes (`deploy.restart_policy.delay`), in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_delay_ms: Option<u64>,
    /// How replicas are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateConfig>,
    /// Run to completion before the container starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<Hook>,
    /// Run inside the container after its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Hook>,
    /// Run inside the container before it is stopped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Hook>,
    /// Where output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Standard input stays open without anybody attached.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin_open: bool,
    /// The container has a terminal.
    #[serde(skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Configs mounted as files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileMount>,
    /// Secrets mounted as files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileMount>,
    /// Services and containers whose mounts this one has too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<VolumesFrom>,
    /// Size of `/dev/shm` in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// NIS domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Name servers asked for what the project does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Options of `resolv.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// Search domains of `resolv.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Lines of `/etc/hosts`: addresses, or `host-gateway`, by host name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Further names for other services, seen by this one only: service by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// Hardware address on the first network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Further groups of the user, names or numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// Capabilities on top of the usual ones: `CAP_…` or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities taken away: `CAP_…` or `ALL`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Everything the user namespace allows.
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Security options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<SecurityOption>,
    /// Device nodes of the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Rules of the device cgroup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// Kernel settings of the container's namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of processes, by name without `RLIMIT_`, in lower case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Limits of the control group.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Who sees which control groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupNamespace>,
    /// Shared memory and message queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Ipc>,
    /// Processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<Namespace>,
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<Namespace>,
}

impl Service {
    /// Images that it needs besides its own: those of mounts and of `pre_start`.
    pub fn other_images(&self) -> impl Iterator<Item = &str> {
        let mounted = self.volumes.iter().filter_map(|mount| match &mount.source {
            MountSource::Image { source, .. } => Some(source.as_str()),
            _ => None,
        });
        mounted.chain(self.pre_start.iter().filter_map(|hook| hook.image.as_deref()))
    }
}

/// A named volume of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Name shown to the user; `<project>_<key>` by default.
    pub name: String,
    /// It is not the project's: neither made nor removed by it.
    #[serde(skip_serializing_if = "is_default")]
    pub external: bool,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where its data lies; the project's data folder when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<VolumePlace>,
}

/// Where the `local` driver's options put a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumePlace {
    /// A folder of the device: absolute, relative to the folder of the executable (starts with `.`) or home (`~`).
    Bind(String),
    /// Memory, as long as its container runs.
    Tmpfs {
        /// Limit in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Permission bits; 0o1777 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

/// Keeps what says nothing out of stored projects, so that a new field changes no configuration hash.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
