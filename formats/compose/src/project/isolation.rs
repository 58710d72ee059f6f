//! What a container shares with the device or with other containers.

use serde::{Deserialize, Serialize};

/// Whose namespace a container is in (`pid`, `uts`, `userns_mode`); its own when absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// The device's.
    Host,
    /// That of another service of the project.
    Service(String),
    /// That of another container, by name.
    Container(String),
}

/// `ipc`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipc {
    /// Its own, without `/dev/shm`.
    None,
    /// Its own.
    Private,
    /// Its own, which others may join.
    Shareable,
    /// The device's.
    Host,
    /// That of another service of the project.
    Service(String),
    /// That of another container, by name.
    Container(String),
}

/// `cgroup`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupNamespace {
    /// The device's.
    Host,
    /// Its own.
    Private,
}

/// One entry of `security_opt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecurityOption {
    /// `no-new-privileges[:true|false]`
    NoNewPrivileges(bool),
    /// `seccomp=unconfined`, `builtin`, or the path of a profile.
    Seccomp(String),
    /// `apparmor=PROFILE`
    AppArmor(String),
    /// `label=…` of SELinux: `disable`, or one of [`LABEL_PARTS`] with `:` and a value.
    Label(String),
    /// `systempaths=unconfined`: nothing of `/proc` and `/sys` is masked.
    UnmaskedPaths,
}

/// What `label=` can change of a container's SELinux labels; `filetype` is the type of its files.
pub const LABEL_PARTS: [&str; 5] = ["user", "role", "type", "level", "filetype"];

/// One entry of `devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the device.
    pub source: String,
    /// Path inside the container.
    pub target: String,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}
