//! The typed Compose project: what is left when files are merged and variables are filled in.
//!
//! Everything here has been checked: names are valid, references lead somewhere, durations and ports are numbers.
//! The runner never sees YAML. The types serialise to JSON, because the project travels from the command line to the
//! supervisor and is kept in the data folder; field names follow the Compose specification.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A Compose application with every variable filled in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// Project name: lower-case letters, digits, `-` and `_`, starting with a letter or digit.
    pub name: String,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Networks by key; `default` is present when a service uses it.
    #[serde(default)]
    pub networks: BTreeMap<String, Network>,
    /// Named volumes by key.
    #[serde(default)]
    pub volumes: BTreeMap<String, Volume>,
}

/// One service of a project.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Image reference as the user wrote it.
    pub image: String,
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
}

/// A published port: one container port and where it is reachable on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port inside the container, 1 to 65535.
    pub target: u16,
    /// Port on the device; the kernel chooses one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// Address on the device; all addresses when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<std::net::IpAddr>,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Transport protocol of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// One entry of a service's `volumes` or `tmpfs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container.
    pub target: String,
    /// No writes through this mount.
    #[serde(default)]
    pub read_only: bool,
    /// Where the data comes from.
    #[serde(flatten)]
    pub source: MountSource,
}

/// Where the data of a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountSource {
    /// A volume of the project, by key of [`Project::volumes`]; anonymous when absent.
    Volume {
        /// Volume key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Do not copy the image's content into an empty volume.
        #[serde(default)]
        nocopy: bool,
    },
    /// A path of the device.
    Bind {
        /// Absolute path on the device, or one relative to the folder of the executable (starts with `.`) or home (`~`).
        source: String,
        /// Create the folder when it is missing (the short form's behaviour).
        #[serde(default)]
        create_host_path: bool,
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Permission bits; 0o1777 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

/// How a service is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Networks of the project by key, each with the service's settings on it.
    Networks(BTreeMap<String, Attachment>),
    /// The device's own network.
    Host,
    /// Loopback only.
    None,
}

impl Default for NetworkMode {
    fn default() -> Self {
        NetworkMode::Networks(BTreeMap::from([("default".to_owned(), Attachment::default())]))
    }
}

/// A service's settings on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Further names of the service on this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// One entry of `depends_on`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// What the dependency must have reached.
    pub condition: Condition,
}

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Its container runs.
    #[default]
    #[serde(rename = "service_started")]
    Started,
}

/// Restart policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whatever the exit status, also when the supervisor finds it stopped.
    Always,
    /// After a failure, at most this many times when given.
    OnFailure(Option<u32>),
    /// Like `Always`, but not after the user stopped it.
    UnlessStopped,
}

/// A network of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Name shown to the user; `<project>_<key>` by default.
    pub name: String,
    /// No way out.
    pub internal: bool,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A named volume of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Name shown to the user; `<project>_<key>` by default.
    pub name: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
