//! What is mounted into containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_default;

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
    /// A volume of the project, by key of [`super::Project::volumes`]; anonymous when absent.
    Volume {
        /// Volume key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// Do not copy the image's content into an empty volume.
        #[serde(default)]
        nocopy: bool,
        /// Folder of the volume that is mounted instead of the whole; relative, without `..`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// Labels of an anonymous volume.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// Where the device has SELinux; [`Relabel::Shared`] when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selinux: Option<Relabel>,
    },
    /// A path of the device.
    Bind {
        /// Absolute path on the device, or one relative to the folder of the executable (starts with `.`) or home (`~`).
        source: String,
        /// Create the folder when it is missing (the short form's behaviour).
        #[serde(default)]
        create_host_path: bool,
        /// How mounts made later on one side show up on the other.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        propagation: Option<Propagation>,
        /// Mounts below the source are not mounted along.
        #[serde(default, skip_serializing_if = "is_default")]
        not_recursive: bool,
        /// What becomes of its files' labels where the device has SELinux; they stay when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        selinux: Option<Relabel>,
    },
    /// Memory.
    Tmpfs {
        /// It stands for a volume: programs in it can be executed, and it begins with what the image has there.
        #[serde(default, skip_serializing_if = "is_default")]
        volume: bool,
        /// Limit in bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
        /// Permission bits; 0o1777 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
    /// Content of another image, read-only.
    Image {
        /// Image reference as the user wrote it.
        source: String,
        /// Folder of the image that is mounted instead of the whole; relative, without `..`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
}

impl MountSource {
    /// A volume of the project, with nothing else said.
    pub fn volume(key: impl Into<String>) -> MountSource {
        MountSource::Volume {
            source: Some(key.into()),
            nocopy: false,
            subpath: None,
            labels: BTreeMap::new(),
            selinux: None,
        }
    }

    /// A volume without a name.
    pub fn anonymous() -> MountSource {
        MountSource::Volume {
            source: None,
            nocopy: false,
            subpath: None,
            labels: BTreeMap::new(),
            selinux: None,
        }
    }

    /// A path of the device, made when missing.
    pub fn bind(source: impl Into<String>) -> MountSource {
        MountSource::Bind {
            source: source.into(),
            create_host_path: true,
            propagation: None,
            not_recursive: false,
            selinux: None,
        }
    }
}

/// `z` and `Z`: files of the device get SELinux labels with which containers may use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relabel {
    /// All containers.
    #[serde(rename = "z")]
    Shared,
    /// This container alone.
    #[serde(rename = "Z")]
    Private,
}

/// Mount propagation, `mount_namespaces(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Neither way.
    Private,
    /// Neither way, also below.
    Rprivate,
    /// Both ways.
    Shared,
    /// Both ways, also below.
    Rshared,
    /// Into the container.
    Slave,
    /// Into the container, also below.
    Rslave,
}

/// One entry of `volumes_from`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesFrom {
    /// The service, or the container when `container`.
    pub name: String,
    /// `name` is a container that may be another project's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub container: bool,
    /// Nothing is written through these mounts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}
