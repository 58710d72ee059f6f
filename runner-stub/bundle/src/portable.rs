//! A bundle for another OCI runtime: one folder that holds everything, without notes for our sandbox.
//!
//! ```text
//! DIR/config.json   rootfs/   etc/hosts …   files/…   volumes/0/ …
//! ```
//!
//! Paths in it are relative to `DIR` (config.md, "Mounts" and "Root"). What lies on the device stays a path of the device: bind
//! mounts, and files of the project that travelled.

use std::path::Path;

use crate::annotation;
use crate::mounts::{COPY_UP, SUBPATH};
use crate::spec::{IdMapping, Namespace, NamespaceKind, Spec};

/// The document, and what has to be put beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portable {
    /// `config.json`.
    pub spec: Spec,
    /// Folders to be made.
    pub volumes: Vec<Volume>,
}

/// A folder that stands for a volume: new, as after the first `up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Relative to the bundle.
    pub folder: String,
    /// Starts with what the image has here.
    pub image_path: Option<String>,
}

/// A service that is not whole by itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it shares its {kind} namespace with another container, so it cannot be a bundle of its own")]
pub struct SharedNamespace {
    kind: &'static str,
}

/// Makes the document for another runtime from that of the container in `container_dir`. The maps say which IDs of the device
/// the owners in `rootfs` have.
pub fn portable(
    mut spec: Spec,
    container_dir: &Path,
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
) -> Result<Portable, SharedNamespace> {
    if let Some(shared) = spec.linux.namespaces.iter().find(|namespace| namespace.path.is_some()) {
        return Err(SharedNamespace { kind: shared.kind.name() });
    }
    spec.linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    (spec.linux.uid_mappings, spec.linux.gid_mappings) = (uids, gids);
    // What lies in the bundle has the labels of where it is put.
    (spec.process.selinux_label, spec.linux.mount_label) = (None, None);
    // Said already; and runc refuses every supplementary group of an ordinary user.
    let own = spec.process.user.gid;
    spec.process.user.additional_gids.retain(|gid| *gid != own);
    spec.annotations.retain(|key, _| !key.starts_with(annotation::PREFIX));
    let mut volumes: Vec<Volume> = Vec::new();
    for mount in &mut spec.mounts {
        let copied = mount.options.iter().any(|option| option == COPY_UP);
        let is_volume = copied || mount.options.iter().any(|option| option.starts_with(SUBPATH));
        mount.options.retain(|option| option != COPY_UP && !option.starts_with(SUBPATH));
        let Some(source) = mount.source.as_mut().filter(|_| mount.kind.as_deref() == Some("bind")) else {
            continue;
        };
        if is_volume {
            let folder = format!("volumes/{}", volumes.len());
            source.clone_from(&folder);
            volumes.push(Volume { folder, image_path: copied.then(|| mount.destination.clone()) });
        } else if let Some(own) =
            Path::new(source.as_str()).strip_prefix(container_dir).ok().and_then(Path::to_str)
        {
            *source = own.to_owned();
        }
    }
    Ok(Portable { spec, volumes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Mount;

    fn bind(target: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            destination: target.to_owned(),
            kind: Some("bind".to_owned()),
            source: Some(source.to_owned()),
            options: options.iter().map(|&option| option.to_owned()).collect(),
        }
    }

    #[test]
    fn nothing_of_ours_is_left_and_paths_are_the_bundles_own() {
        let mut spec = Spec {
            mounts: vec![
                bind("/etc/hosts", "/c/etc/hosts", &["rbind", "rw"]),
                bind("/data", "/p/volumes/data", &["rbind", "rw", COPY_UP]),
                bind("/part", "/p/volumes/data", &["rbind", "rw", "x-dpack.subpath=a/b"]),
                bind("/srv", "/srv", &["rbind", "ro"]),
            ],
            ..Spec::default()
        };
        spec.annotations.insert(annotation::LAYERS.to_owned(), "[]".to_owned());
        spec.annotations.insert("org.example".to_owned(), "kept".to_owned());
        let map = vec![IdMapping { container_id: 0, host_id: 1000, size: 1 }];
        let portable = portable(spec.clone(), Path::new("/c"), map.clone(), map).unwrap();
        let sources: Vec<_> =
            portable.spec.mounts.iter().filter_map(|mount| mount.source.as_deref()).collect();
        assert_eq!(sources, ["etc/hosts", "volumes/0", "volumes/1", "/srv"]);
        assert!(portable.spec.mounts.iter().all(|mount| mount.options.len() == 2));
        assert_eq!(portable.volumes[0].image_path.as_deref(), Some("/data"));
        assert_eq!(portable.volumes[1].image_path, None);
        assert_eq!(portable.spec.annotations.len(), 1);
        let text = serde_json::to_string(&portable.spec).unwrap();
        assert!(text.contains(r#""uidMappings":[{"containerID":0,"hostID":1000,"size":1}]"#), "{text}");

        let path = Some("/c/ns/net".to_owned());
        spec.linux.namespaces = vec![Namespace { kind: NamespaceKind::Network, path }];
        let error = super::portable(spec, Path::new("/c"), vec![], vec![]).unwrap_err();
        assert!(error.to_string().contains("its network namespace"), "{error}");
    }
}
