//! Files of the project folder that travel in the executable: relative bind mounts, files of configs, and secrets
//! that were asked for by name.
//!
//! They become an image of one layer that no service uses, with the list of what was asked for in its configuration; so they
//! are cut, compressed and verified like everything else. What the layer holds depends on nothing but names, content and
//! whether a file can be executed: no times, no owners.
//!
//! What lies outside the project folder (`../x`, `/x`, `~/x`) is the device's, and so is what is not there at build time.

mod exclude;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dpack_compose::project::{FileSource, MountSource};
use dpack_compose::{Diagnostic, Project, Resolved};
use dpack_payload::application::PROJECT_PATHS;
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use self::exclude::Exclude;
use crate::error::Kind;
use crate::pull::{Format, LocalSource};

/// What is left out.
const EXCLUDE: &str = ".dpackignore";
/// Most that travels when nothing else is said.
pub const DEFAULT_LIMIT: u64 = 64 << 20;

/// What to take.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Most bytes to take.
    pub limit: u64,
    /// Secrets to take, by name.
    pub secrets: BTreeSet<String>,
}

/// What was taken.
#[derive(Clone, Debug, Default)]
pub struct ProjectFiles {
    /// What the model asks for, seen from the project folder.
    pub paths: BTreeSet<String>,
    /// Files with their sizes, sorted.
    pub files: Vec<Taken>,
    folders: BTreeSet<String>,
    links: BTreeMap<String, PathBuf>,
    root: PathBuf,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Taken {
    /// Seen from the project folder.
    pub path: String,
    /// Bytes.
    pub size: u64,
    #[serde(skip)]
    executable: bool,
}

/// Why files cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system.
    #[error("failed to {action} `{path}`")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Too much.
    #[error(
        "the files of the project that would travel have more than {limit} bytes; the largest: {largest}"
    )]
    TooMuch {
        /// The limit.
        limit: u64,
        /// Some names.
        largest: String,
    },
    /// A name that is no text.
    #[error("the name of `{0}` is not UTF-8")]
    Name(PathBuf),
    /// `--embed-secret` names something else.
    #[error("--embed-secret: {0}")]
    Secret(String),
    /// `.dpackignore` is wrong.
    #[error("{EXCLUDE}:{line}: {problem}")]
    Exclude {
        /// Line from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } => Kind::Environment,
            Error::Secret(_) => Kind::Usage,
            Error::TooMuch { .. } | Error::Name(_) | Error::Exclude { .. } => Kind::Input,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::TooMuch { .. } => Some(format!(
                "name what can stay behind in {EXCLUDE}, or allow more with --max-project-files SIZE"
            )),
            _ => None,
        }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { action, path: path.to_owned(), source }
    }
}

/// Finds what travels, and what the device must have itself.
pub fn collect(
    resolved: &Resolved,
    folder: &Path,
    options: &Options,
) -> Result<(ProjectFiles, Vec<Diagnostic>), Error> {
    let mut warnings = Vec::new();
    let mut taken = ProjectFiles { root: folder.to_owned(), ..ProjectFiles::default() };
    let exclude = match fs::read_to_string(folder.join(EXCLUDE)) {
        Ok(text) => Exclude::parse(&text).map_err(|(line, problem)| Error::Exclude { line, problem })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Exclude::default(),
        Err(error) => return Err(Error::io("read", &folder.join(EXCLUDE))(error)),
    };
    for Asked { path, keys, must } in asked(&resolved.project, &options.secrets)? {
        if fs::symlink_metadata(folder.join(&path)).is_err() {
            if must {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let message = format!("`{path}` is not there, the device must have it beside the executable");
                warnings.push(resolved.diagnostic(&keys, message));
            }
            continue;
        }
        taken.take(&path, &exclude)?;
        taken.paths.insert(path);
    }
    taken.files.sort();
    taken.files.dedup();
    let total: u64 = taken.files.iter().map(|file| file.size).sum();
    if total > options.limit {
        let mut files: Vec<&Taken> = taken.files.iter().collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.size));
        let largest: Vec<String> =
            files.iter().take(5).map(|file| format!("{} ({} bytes)", file.path, file.size)).collect();
        return Err(Error::TooMuch { limit: options.limit, largest: largest.join(", ") });
    }
    Ok((taken, warnings))
}

/// A path of the project folder that the model asks for.
struct Asked {
    path: String,
    /// Where it is asked for.
    keys: Vec<String>,
    /// Nothing makes it when it is missing.
    must: bool,
}

fn asked(project: &Project, secrets: &BTreeSet<String>) -> Result<Vec<Asked>, Error> {
    let mut asked = Vec::new();
    let mut add = |path: &str, keys: &[&str], must: bool| {
        if let Some(path) = inside(path) {
            asked.push(Asked { path, keys: keys.iter().map(|key| (*key).to_owned()).collect(), must });
        }
    };
    for (name, service) in project.services.iter().chain(&project.disabled) {
        for mount in &service.volumes {
            if let MountSource::Bind { source, create_host_path, .. } = &mount.source {
                add(source, &["services", name, "volumes"], !create_host_path);
            }
        }
    }
    for (name, config) in &project.configs {
        if let FileSource::File(path) = &config.source {
            add(path, &["configs", name, "file"], true);
        }
    }
    for name in secrets {
        match project.secrets.get(name).map(|secret| &secret.source) {
            Some(FileSource::File(path)) => add(path, &["secrets", name, "file"], true),
            Some(_) => return Err(Error::Secret(format!("the secret `{name}` is not from a file"))),
            None => return Err(Error::Secret(format!("no service uses a secret `{name}`"))),
        }
    }
    Ok(asked)
}

/// A path below the project folder without `./`; nothing for one that leads elsewhere. `.` is empty.
fn inside(path: &str) -> Option<String> {
    if path.starts_with(['/', '~']) {
        return None;
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

impl ProjectFiles {
    /// True when nothing travels.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn take(&mut self, path: &str, exclude: &Exclude) -> Result<(), Error> {
        if exclude.matches(path) {
            return Ok(());
        }
        let full = self.root.join(path);
        let metadata = fs::symlink_metadata(&full).map_err(Error::io("read", &full))?;
        if metadata.is_dir() {
            let entries = fs::read_dir(&full).map_err(Error::io("read", &full))?;
            for entry in entries {
                let name = entry.map_err(Error::io("read", &full))?.file_name();
                let name = name.to_str().ok_or_else(|| Error::Name(full.join(&name)))?;
                let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                self.take(&below, exclude)?;
            }
            if !path.is_empty() {
                self.folders.insert(path.to_owned());
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(&full).map_err(Error::io("read", &full))?;
            self.links.insert(path.to_owned(), target);
        } else if metadata.is_file() {
            self.files.push(Taken {
                path: path.to_owned(),
                size: metadata.len(),
                executable: is_executable(&metadata),
            });
        }
        // Sockets, pipes and devices mean something on this machine only.
        Ok(())
    }

    /// Writes an OCI image layout with the files, the same for each platform.
    pub fn image(&self, platforms: &[Platform], scratch: &Path) -> Result<(TempDir, LocalSource), Error> {
        let folder = tempfile::tempdir_in(scratch).map_err(Error::io("create a folder in", scratch))?;
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Error::io("create", &blobs))?;
        let tar = folder.path().join("layer.tar");
        self.tar(&tar)?;
        let bytes = fs::read(&tar).map_err(Error::io("read", &tar))?;
        let layer = Digest::of(&bytes);
        let size = bytes.len();
        drop(bytes);
        let place = blobs.join(layer.hex());
        fs::rename(&tar, &place).map_err(Error::io("create", &place))?;
        let put = |value: &serde_json::Value| -> Result<(Digest, usize), Error> {
            let bytes = value.to_string().into_bytes();
            let digest = Digest::of(&bytes);
            let path = blobs.join(digest.hex());
            fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
            Ok((digest, bytes.len()))
        };
        let mut manifests = Vec::new();
        for platform in platforms {
            let mut config = json!({
                "os": platform.os(), "architecture": platform.architecture(),
                "config": {"Labels": {PROJECT_PATHS: serde_json::Value::from_iter(self.paths.iter().cloned()).to_string()}},
                "rootfs": {"type": "layers", "diff_ids": [layer.to_string()]},
            });
            let mut entry = json!({"os": platform.os(), "architecture": platform.architecture()});
            if let Some(variant) = platform.variant() {
                config["variant"] = variant.into();
                entry["variant"] = variant.into();
            }
            let (config, config_size) = put(&config)?;
            let (manifest, manifest_size) = put(&json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": config.to_string(), "size": config_size,
                },
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer.to_string(), "size": size,
                }],
            }))?;
            manifests.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest.to_string(), "size": manifest_size, "platform": entry,
            }));
        }
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        for (name, value) in [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))] {
            let path = folder.path().join(name);
            fs::write(&path, value.to_string()).map_err(Error::io("write", &path))?;
        }
        let path = folder.path().to_owned();
        Ok((folder, LocalSource { format: Format::OciLayout, path, reference: None }))
    }

    fn tar(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Io { action: "write", path: path.to_owned(), source };
        let mut tar = tar::Builder::new(File::create(path).map_err(failed)?);
        let header = |kind: tar::EntryType, size: u64, mode: u32| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header
        };
        let mut folders = self.folders.clone();
        for name in self.files.iter().map(|file| &file.path).chain(self.links.keys()).chain(&self.folders) {
            folders.extend(Path::new(name).ancestors().skip(1).filter_map(Path::to_str).map(str::to_owned));
        }
        for name in folders.iter().filter(|name| !name.is_empty()) {
            let mut header = header(tar::EntryType::Directory, 0, 0o755);
            tar.append_data(&mut header, format!("{name}/"), io::empty()).map_err(failed)?;
        }
        for (name, target) in &self.links {
            let mut header = header(tar::EntryType::Symlink, 0, 0o777);
            tar.append_link(&mut header, name, target).map_err(failed)?;
        }
        for file in &self.files {
            let full = self.root.join(&file.path);
            let content = File::open(&full).map_err(Error::io("read", &full))?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            let mut header = header(tar::EntryType::Regular, file.size, mode);
            // One that grows meanwhile must not shift what comes after it; one that shrinks is an error.
            let exact = Exact { content, left: file.size };
            tar.append_data(&mut header, &file.path, exact).map_err(Error::io("read", &full))?;
        }
        tar.into_inner().map_err(failed)?;
        Ok(())
    }
}

/// A file of a known size.
struct Exact {
    content: File,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.content.read(&mut buffer[..room])?;
        if count == 0 && room > 0 {
            return Err(io::Error::other("it changed while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(unix)]
fn is_executable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests;
