//! `build:` of a service: what the builder hands to the tool that makes the image. It never reaches a device.

use std::collections::BTreeMap;

use super::Ulimit;

/// How the image of a service is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Folder (`./x` from the project's folder, absolute or below `~`) or address that files are taken from.
    pub context: String,
    /// Dockerfile, from the context.
    pub dockerfile: Option<String>,
    /// The Dockerfile itself.
    pub dockerfile_inline: Option<String>,
    /// Further contexts by name: folders, as `context`, or addresses such as `docker-image://alpine`.
    pub additional_contexts: BTreeMap<String, String>,
    /// Stage that is the image; the last one when absent.
    pub target: Option<String>,
    /// Values of `ARG`s.
    pub args: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Network of `RUN`.
    pub network: Option<String>,
    /// Lines of `/etc/hosts` of `RUN`: addresses by host name.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Secrets of `RUN --mount=type=secret`: keys of [`super::Project::secrets`], by ID.
    pub secrets: BTreeMap<String, String>,
    /// Agents of `RUN --mount=type=ssh`: `default` or `ID=PATH`.
    pub ssh: Vec<String>,
    /// Nothing of an earlier build is used.
    pub no_cache: bool,
    /// Stages for which nothing of an earlier build is used.
    pub no_cache_filter: Vec<String>,
    /// Base images are asked for again.
    pub pull: bool,
    /// Where earlier builds are found.
    pub cache_from: Vec<String>,
    /// Where this one is kept for later builds.
    pub cache_to: Vec<String>,
    /// What BuildKit is allowed besides the usual.
    pub entitlements: Vec<String>,
    /// Size of `/dev/shm` of `RUN` in bytes.
    pub shm_size: Option<u64>,
    /// Resource limits of `RUN`.
    pub ulimits: BTreeMap<String, Ulimit>,
}

impl Build {
    /// Whether a context is an address and not a folder: `https://…`, `git@…`, `docker-image://…`.
    pub fn is_remote(context: &str) -> bool {
        crate::paths::is_remote(context)
    }
}
