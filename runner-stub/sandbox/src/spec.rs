//! The part of an OCI runtime-spec document (config.json, 1.x) that is carried out here.
//!
//! What would weaken a container if it were ignored is refused by name: a property is done or refused, never skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Resources;
use crate::log::LogLimits;
use crate::oci::Hooks;
use crate::{Error, selinux};

/// A folder with a config.json.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Absolute.
    pub(crate) dir: PathBuf,
    pub(crate) spec: Spec,
    pub(crate) storage: Option<Storage>,
}

/// The overlay, from annotations `dev.dpack.layers`, `.upper`, `.work`.
#[derive(Debug)]
pub(crate) struct Storage {
    /// Lowest first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) upper: PathBuf,
    pub(crate) work: PathBuf,
    /// Nothing of the upper directory has to survive a power cut (`dev.dpack.volatile`): spares a sync at the end.
    pub(crate) volatile: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    #[serde(default)]
    pub(crate) oci_version: String,
    pub(crate) process: Process,
    pub(crate) root: Root,
    #[serde(default)]
    pub(crate) hostname: Option<String>,
    #[serde(default)]
    pub(crate) domainname: Option<String>,
    #[serde(default)]
    pub(crate) mounts: Vec<Mount>,
    #[serde(default)]
    pub(crate) linux: Linux,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) hooks: Hooks,
}

/// What a later version of the specification adds may confine: it is refused, here and in [`Linux`].
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Process {
    #[serde(default)]
    pub(crate) terminal: bool,
    #[serde(default)]
    pub(crate) user: User,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    #[serde(default)]
    pub(crate) capabilities: Option<Capabilities>,
    #[serde(default)]
    pub(crate) rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub(crate) no_new_privileges: bool,
    #[serde(default)]
    pub(crate) oom_score_adj: Option<i32>,
    #[serde(default)]
    pub(crate) apparmor_profile: Option<String>,
    #[serde(default)]
    pub(crate) selinux_label: Option<String>,
    #[serde(default)]
    scheduler: Option<serde_json::Value>,
    #[serde(default)]
    io_priority: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) console_size: Option<ConsoleSize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ConsoleSize {
    pub(crate) height: u16,
    pub(crate) width: u16,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
    #[serde(default)]
    pub(crate) umask: Option<u32>,
    #[serde(default)]
    pub(crate) additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(crate) struct Capabilities {
    #[serde(default)]
    pub(crate) bounding: Vec<String>,
    #[serde(default)]
    pub(crate) effective: Vec<String>,
    #[serde(default)]
    pub(crate) permitted: Vec<String>,
    #[serde(default)]
    pub(crate) inheritable: Vec<String>,
    #[serde(default)]
    pub(crate) ambient: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Root {
    path: PathBuf,
    #[serde(default)]
    pub(crate) readonly: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Mount {
    pub(crate) destination: String,
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) source: Option<String>,
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default, rename = "uidMappings")]
    pub(crate) uid_mappings: Option<serde_json::Value>,
    #[serde(default, rename = "gidMappings")]
    pub(crate) gid_mappings: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Linux {
    #[serde(default)]
    pub(crate) namespaces: Vec<Namespace>,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) masked_paths: Vec<String>,
    #[serde(default)]
    pub(crate) readonly_paths: Vec<String>,
    #[serde(default)]
    pub(crate) sysctl: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) rootfs_propagation: Option<String>,
    #[serde(default)]
    pub(crate) resources: Option<Resources>,
    #[serde(default)]
    pub(crate) seccomp: Option<Seccomp>,
    /// For what the container's mounts hold, where the mount decides on that.
    #[serde(default)]
    pub(crate) mount_label: Option<String>,
    #[serde(default)]
    intel_rdt: Option<serde_json::Value>,
    #[serde(default)]
    personality: Option<serde_json::Value>,
    #[serde(default)]
    time_offsets: Option<serde_json::Value>,
    #[serde(default)]
    pub(crate) uid_mappings: Vec<IdMapping>,
    #[serde(default)]
    pub(crate) gid_mappings: Vec<IdMapping>,
    /// Where the control group is made, for the OCI runtime command line; else the place of the project decides.
    #[serde(default)]
    pub(crate) cgroups_path: Option<String>,
}

/// One line of a map of IDs.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(crate) container_id: u32,
    #[serde(rename = "hostID")]
    pub(crate) host_id: u32,
    pub(crate) size: u32,
}

/// config-linux.md, "Seccomp".
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Seccomp {
    pub(crate) default_action: String,
    #[serde(default)]
    pub(crate) default_errno_ret: Option<u32>,
    /// None: this machine's own.
    #[serde(default)]
    pub(crate) architectures: Vec<String>,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
    #[serde(default)]
    pub(crate) syscalls: Vec<Syscall>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Syscall {
    pub(crate) names: Vec<String>,
    pub(crate) action: String,
    #[serde(default)]
    pub(crate) errno_ret: Option<u32>,
    #[serde(default)]
    pub(crate) args: Vec<Argument>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Argument {
    pub(crate) index: u32,
    pub(crate) value: u64,
    #[serde(default)]
    pub(crate) value_two: u64,
    pub(crate) op: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: NamespaceKind,
    #[serde(default)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NamespaceKind {
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    /// Entered before (see role.rs): accepted, nothing is done for it.
    User,
    Time,
}

/// config-linux.md, "Devices".
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    pub(crate) path: String,
    /// `c`, `u`, `b` or `p`.
    #[serde(default, rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) major: Option<i64>,
    #[serde(default)]
    pub(crate) minor: Option<i64>,
    #[serde(default)]
    pub(crate) file_mode: Option<u32>,
}

impl Bundle {
    /// Reads `dir/config.json` of a container of ours, which has no hooks. SELinux labels that nobody asked for
    /// (`dev.dpack.labels`) are those of a device that had it on when the container was made.
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        let mut bundle = Self::load_with_hooks(dir)?;
        if bundle.spec.annotations.contains_key("dev.dpack.labels") && !selinux::is_enabled() {
            (bundle.spec.process.selinux_label, bundle.spec.linux.mount_label) = (None, None);
        }
        if bundle.spec.hooks.is_empty() { Ok(bundle) } else { Err(Error::Unsupported { property: "hooks" }) }
    }

    /// Reads `dir/config.json`, whoever has made it.
    pub(crate) fn load_with_hooks(dir: &Path) -> Result<Self, Error> {
        let read = |path: &Path, source| Error::Read { path: path.to_owned(), source };
        let dir = std::fs::canonicalize(dir).map_err(|source| read(dir, source))?;
        let path = dir.join("config.json");
        let text = std::fs::read(&path).map_err(|source| read(&path, source))?;
        let mut spec = Spec::parse(&text, &path)?;
        for mount in &mut spec.mounts {
            mount.resolve(&dir);
        }
        let storage = spec.storage()?;
        Ok(Bundle { dir, spec, storage })
    }

    /// Made after everything of the image: the upper directory, or one of its name beside a root file system that was copied.
    pub(crate) fn upper(&self) -> PathBuf {
        self.storage.as_ref().map_or_else(|| self.dir.join("upper"), |storage| storage.upper.clone())
    }

    /// Where the root file system is mounted.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join(&self.spec.root.path)
    }

    /// Standard input stays open (`dev.dpack.stdin`).
    pub(crate) fn has_input(&self) -> bool {
        self.spec.annotations.get("dev.dpack.stdin").is_some_and(|value| value == "true")
    }

    /// What of the output is kept (`dev.dpack.log…`).
    pub(crate) fn log_limits(&self) -> LogLimits {
        let number = |name: &str| self.spec.annotations.get(name).and_then(|value| value.parse().ok());
        LogLimits {
            none: self.spec.annotations.get("dev.dpack.log").is_some_and(|value| value == "none"),
            size: number("dev.dpack.log.max-size"),
            files: number("dev.dpack.log.max-file").unwrap_or(1),
        }
    }

    /// PID 1 is our process and the command its child (`dev.dpack.init`).
    pub(crate) fn has_init(&self) -> bool {
        self.spec.annotations.get("dev.dpack.init").is_some_and(|value| value == "true")
    }
}

impl Mount {
    /// The source of a bind mount may be relative to the bundle (config.md, "Mounts").
    fn resolve(&mut self, bundle: &Path) {
        let bind = self.kind.as_deref() == Some("bind")
            || self.options.iter().any(|option| option == "bind" || option == "rbind");
        if let Some(source) = self.source.as_mut().filter(|source| bind && !source.starts_with('/'))
            && let Some(absolute) = bundle.join(&*source).to_str()
        {
            *source = absolute.to_owned();
        }
    }
}

/// Labels stand between quotes in the options of a mount, and alone in a file of the kernel's.
fn label(property: &'static str, label: &Option<String>) -> Result<(), Error> {
    let unfit = |c: char| c == '"' || c == '\\' || c.is_control();
    if label.as_deref().is_some_and(|label| label.contains(unfit)) {
        let reason = "quotes, backslashes and control characters are in no label".to_owned();
        return Err(Error::Invalid { property: property.to_owned(), reason });
    }
    Ok(())
}

impl Process {
    /// Finds what cannot be done, before anything is.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refused = [
            ("process.scheduler", self.scheduler.is_some()),
            ("process.ioPriority", self.io_priority.is_some()),
        ];
        if let Some((property, _)) = refused.into_iter().find(|(_, present)| *present) {
            return Err(Error::Unsupported { property });
        }
        label("process.selinuxLabel", &self.selinux_label)?;
        label("process.apparmorProfile", &self.apparmor_profile)?;
        let invalid = |property: &str, reason: &str| {
            Err(Error::Invalid { property: property.to_owned(), reason: reason.to_owned() })
        };
        if self.args.is_empty() {
            return invalid("process.args", "a command is needed");
        }
        if !self.cwd.starts_with('/') {
            return invalid("process.cwd", "an absolute path is needed");
        }
        Ok(())
    }
}

impl Spec {
    /// What a bundle has to say. `path` is for errors.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, Error> {
        let parsed = serde_json::from_slice(text);
        let spec: Spec = parsed.map_err(|source| Error::Parse { path: path.to_owned(), source })?;
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), Error> {
        let refused = [
            ("linux.intelRdt", self.linux.intel_rdt.is_some()),
            ("linux.personality", self.linux.personality.is_some()),
            ("linux.timeOffsets", self.linux.time_offsets.is_some()),
            ("linux.namespaces.time", self.namespace(NamespaceKind::Time).is_some()),
            ("mounts.uidMappings", self.mounts.iter().any(|mount| mount.uid_mappings.is_some())),
            ("mounts.gidMappings", self.mounts.iter().any(|mount| mount.gid_mappings.is_some())),
        ];
        if let Some((property, _)) = refused.into_iter().find(|(_, present)| *present) {
            return Err(Error::Unsupported { property });
        }
        self.process.check()?;
        label("linux.mountLabel", &self.linux.mount_label)?;
        self.hooks.check()?;
        let invalid = |property: &str, reason: &str| {
            Err(Error::Invalid { property: property.to_owned(), reason: reason.to_owned() })
        };
        if !self.oci_version.is_empty() && !self.oci_version.starts_with("1.") {
            return invalid("ociVersion", "a version 1 is needed");
        }
        for (index, namespace) in self.linux.namespaces.iter().enumerate() {
            if self.linux.namespaces[..index].iter().any(|other| other.kind == namespace.kind) {
                return invalid("linux.namespaces", "a kind is there twice");
            }
            if namespace.path.as_ref().is_some_and(|path| !path.is_absolute()) {
                return invalid("linux.namespaces", "an absolute path is needed");
            }
        }
        if self.namespace(NamespaceKind::Mount).is_none_or(|namespace| namespace.path.is_some()) {
            return invalid("linux.namespaces", "a new mount namespace is needed");
        }
        Ok(())
    }

    /// What everything has for a label that the container's mounts hold.
    pub(crate) fn mount_label(&self) -> Option<&str> {
        self.linux.mount_label.as_deref().filter(|label| !label.is_empty())
    }

    /// The namespace of a kind, when the container has its own.
    pub(crate) fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    fn storage(&self) -> Result<Option<Storage>, Error> {
        let Some(layers) = self.annotations.get("dev.dpack.layers") else { return Ok(None) };
        let invalid = |name: &str, reason: &str| Error::Invalid {
            property: format!("annotations.{name}"),
            reason: reason.to_owned(),
        };
        let layers: Vec<PathBuf> = serde_json::from_slice(layers.as_bytes())
            .map_err(|_| invalid("dev.dpack.layers", "a JSON array of paths is needed"))?;
        if layers.is_empty() || layers.iter().any(|layer| !layer.is_absolute()) {
            return Err(invalid("dev.dpack.layers", "absolute paths are needed"));
        }
        let path = |name: &str| {
            let path = self.annotations.get(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute()).ok_or_else(|| invalid(name, "an absolute path is needed"))
        };
        let volatile = self.annotations.get("dev.dpack.volatile").is_some_and(|value| value == "true");
        Ok(Some(Storage { layers, upper: path("dev.dpack.upper")?, work: path("dev.dpack.work")?, volatile }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<Spec, Error> {
        let text = format!(
            r#"{{"ociVersion":"1.2.0","process":{{"args":["true"],"cwd":"/"}},"root":{{"path":"rootfs"}},
                "linux":{{"namespaces":[{{"type":"mount"}}]{extra}}}}}"#
        );
        let spec: Spec = serde_json::from_str(&text).unwrap();
        spec.check().map(|()| spec)
    }

    #[test]
    fn a_property_that_would_confine_is_refused_and_not_skipped() {
        assert!(parse("").is_ok());
        let error = parse(r#","personality":{"domain":"LINUX32"}"#).unwrap_err();
        assert_eq!(error.to_string(), "config.json: `linux.personality` is not supported");
    }

    #[test]
    fn a_label_cannot_add_options_to_a_mount() {
        assert!(parse(r#","mountLabel":"system_u:object_r:container_file_t:s0:c1,c2""#).is_ok());
        let error = parse(r#","mountLabel":"system_u:object_r:a\",upperdir=\"/""#).unwrap_err();
        assert!(error.to_string().starts_with("config.json: `linux.mountLabel`: quotes"), "{error}");
    }
}
