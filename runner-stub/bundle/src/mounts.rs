//! What is mounted in a container, in order: Docker's defaults, then everything else from shallow to deep, so that no mount
//! hides one made before.
//!
//! A mount of the service replaces a default one with the same target, and one on `/dev` all of those below it (moby:
//! `daemon/oci_linux.go`, `withMounts`). Options are those of fstab(5) and the runtime-spec, and [`COPY_UP`].

use std::path::PathBuf;

use dpack_compose::project::{
    CgroupNamespace, Ipc, Mount as ServiceMount, MountSource, NetworkMode, Service,
};

use crate::image::ImageConfig;
use crate::input::{BundleError, BundleInput, JOINED, text};
use crate::process::clean;
use crate::spec::Mount;

/// Private option of a bind mount: when its source is an empty folder, the image's content below the target is copied into
/// it first, as Docker does with volumes. The sandbox takes it away before it mounts.
pub const COPY_UP: &str = "x-dpack.copyup";

/// Private option of a bind mount, with `=` and a path: what is mounted lies below the source, and no link leads out of
/// that. Volumes belong to containers, which may put links into them.
pub const SUBPATH: &str = "x-dpack.subpath";

/// Private option of an overlay, with `=` and a JSON list of folders, the lowest first: an image's layers as one tree.
pub const LAYERS: &str = "x-dpack.layers";

/// A planned mount and where its data lies on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedMount {
    /// As [`plan`] listed it.
    pub mount: ServiceMount,
    /// Absolute path of the volume's folder or of the bind mount's source; unused for a tmpfs and an image.
    pub source: PathBuf,
    /// Folders of an image's layers, the lowest first.
    pub layers: Vec<PathBuf>,
}

/// Why the mounts of a service make no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MountError {
    /// The target is relative, the root itself, or has a NUL byte.
    #[error("the mount target `{0}` is invalid: it must be an absolute path other than /")]
    Target(String),
    /// Two mounts have the same target.
    #[error("two volumes are mounted on `{0}`")]
    Twice(String),
}

/// Lists what has to be mounted for a service: its own mounts, and an anonymous volume for each `VOLUME` of the image that
/// none of them covers. Targets are normalised. The caller finds the place of each on the device.
pub fn plan(service: &Service, image: &ImageConfig) -> Result<Vec<ServiceMount>, MountError> {
    let mut plan: Vec<ServiceMount> = Vec::new();
    for mount in &service.volumes {
        let target = clean(&mount.target);
        if !mount.target.starts_with('/') || target == "/" || target.contains('\0') {
            return Err(MountError::Target(mount.target.escape_debug().to_string()));
        }
        if plan.iter().any(|other| other.target == target) {
            return Err(MountError::Twice(target));
        }
        plan.push(ServiceMount { target, ..mount.clone() });
    }
    for volume in &image.volumes {
        let target = clean(volume);
        // What the image says is not trusted with the kernel's own file systems.
        let reserved = ["", "proc", "sys", "dev"].iter().any(|&top| target.split('/').nth(1) == Some(top));
        if reserved || target.contains('\0') || plan.iter().any(|mount| mount.target == target) {
            continue;
        }
        plan.push(ServiceMount { target, read_only: false, source: MountSource::anonymous() });
    }
    Ok(plan)
}

/// All mounts of a bundle.
pub(crate) fn mounts(input: &BundleInput<'_>) -> Result<Vec<Mount>, BundleError> {
    let planned = |target: &str| input.mounts.iter().any(|mount| mount.mount.target == target);
    let read_only = input.service.read_only;
    let mut mounts = defaults(input);
    if input.service.privileged && input.service.network != NetworkMode::Host {
        for mount in mounts.iter_mut().filter(|mount| mount.destination.starts_with("/sys")) {
            mount.options.retain(|option| option != "ro");
        }
    }
    mounts.retain(|mount| {
        let target = &mount.destination;
        let hidden = planned("/dev") && target.starts_with("/dev/");
        !planned(target) && !hidden
    });
    if read_only {
        let writable = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
        for mount in mounts.iter_mut().filter(|mount| !writable.contains(&mount.destination.as_str())) {
            if !mount.options.iter().any(|option| option == "ro") {
                mount.options.push("ro".to_owned());
            }
        }
    }
    let mut others = Vec::new();
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if !planned(&target) {
            let source = text(&input.container_dir.join("etc").join(name))?;
            others.push(bind(target, source, read_only));
        }
    }
    for ResolvedMount { mount, source, layers } in input.mounts {
        let target = mount.target.clone();
        others.push(match &mount.source {
            MountSource::Tmpfs { volume: true, size, mode } => {
                let mut made = tmpfs(target, mount.read_only, *size, *mode);
                made.options.retain(|option| option != "noexec");
                made.options.push("tmpcopyup".to_owned());
                made
            }
            MountSource::Tmpfs { size, mode, .. } => tmpfs(target, mount.read_only, *size, *mode),
            MountSource::Bind { propagation, not_recursive, .. } => {
                let mut made = bind(target, text(source)?, mount.read_only);
                if *not_recursive {
                    made.options[0] = "bind".to_owned();
                    made.options.retain(|option| option != "rro");
                }
                if let Some(propagation) = propagation {
                    made.options[1] = format!("{propagation:?}").to_ascii_lowercase();
                }
                made
            }
            MountSource::Image { subpath, .. } => image(target, layers, subpath.as_deref())?,
            MountSource::Volume { nocopy, subpath, .. } => {
                let mut mount = bind(target, text(source)?, mount.read_only);
                if let Some(subpath) = subpath {
                    mount.options.push(format!("{SUBPATH}={subpath}"));
                } else if !nocopy {
                    mount.options.push(COPY_UP.to_owned());
                }
                mount
            }
        });
    }
    share_memory(input, &mut mounts)?;
    others.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts.append(&mut others);
    Ok(mounts)
}

/// `/dev/shm` belongs to the IPC namespace: none, the device's, or one that several containers have.
fn share_memory(input: &BundleInput<'_>, mounts: &mut Vec<Mount>) -> Result<(), BundleError> {
    let source = match &input.service.ipc {
        None | Some(Ipc::Private) => return Ok(()),
        Some(Ipc::None) => {
            mounts.retain(|mount| mount.destination != "/dev/shm");
            return Ok(());
        }
        Some(Ipc::Host) => "/dev/shm".to_owned(),
        Some(Ipc::Shareable | Ipc::Service(_) | Ipc::Container(_)) => {
            text(&input.container_dir.join(JOINED).join("shm"))?
        }
    };
    for mount in mounts.iter_mut().filter(|mount| mount.destination == "/dev/shm") {
        *mount = bind("/dev/shm".to_owned(), source.clone(), false);
        mount.options.extend(["nosuid", "noexec", "nodev"].map(str::to_owned));
    }
    if input.service.ipc == Some(Ipc::Host) {
        // Only who owns the IPC namespace may mount it.
        for mount in mounts.iter_mut().filter(|mount| mount.destination == "/dev/mqueue") {
            *mount = bind("/dev/mqueue".to_owned(), "/dev/mqueue".to_owned(), false);
        }
    }
    Ok(())
}

/// Docker's size of `/dev/shm` in bytes.
const SHM_SIZE: u64 = 64 << 20;

/// moby: `oci/defaults.go`.
fn defaults(input: &BundleInput<'_>) -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(kind.to_owned()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    };
    let shm_size = format!("size={}", input.service.shm_size.filter(|size| *size > 0).unwrap_or(SHM_SIZE));
    let mut pts =
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    if !input.host.single_id {
        // The group tty, which does not exist where only one ID does.
        pts.options.push("gid=5".to_owned());
    }
    let cgroup = if input.service.cgroup == Some(CgroupNamespace::Host) {
        // A file system of the namespace that the device is in can be mounted only there.
        let options = ["rbind", "rprivate", "rnosuid", "rnoexec", "rnodev", "rro"];
        Mount { source: Some("/sys/fs/cgroup".to_owned()), ..mount("/sys/fs/cgroup", "bind", &options) }
    } else {
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"])
    };
    let sys = if input.service.network == NetworkMode::Host {
        // sysfs can be mounted only by who owns the network namespace, and the device's is not ours.
        // Recursive: tracefs, bpf, cgroups and others are mounted below it.
        let options = ["rbind", "rprivate", "rnosuid", "rnoexec", "rnodev", "rro"];
        Mount { source: Some("/sys".to_owned()), ..mount("/sys", "bind", &options) }
    } else {
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        pts,
        sys,
        cgroup,
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        Mount {
            source: Some("shm".to_owned()),
            ..mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm_size])
        },
    ]
}

fn bind(destination: String, source: String, read_only: bool) -> Mount {
    // Read-only with all that is mounted below it, as in Docker since 25.0.
    let access: &[&str] = if read_only { &["ro", "rro"] } else { &["rw"] };
    let options = [&["rbind", "rprivate"], access].concat().into_iter().map(str::to_owned).collect();
    Mount { destination, kind: Some("bind".to_owned()), source: Some(source), options }
}

/// One layer is mounted as it is: an overlay has at least two (overlayfs without an upper directory).
fn image(destination: String, layers: &[PathBuf], subpath: Option<&str>) -> Result<Mount, BundleError> {
    let mut mount = match layers {
        [layer] => bind(destination, text(layer)?, true),
        layers => {
            let layers = layers.iter().map(|layer| text(layer)).collect::<Result<Vec<_>, _>>()?;
            let layers = format!("{LAYERS}={}", serde_json::Value::from(layers));
            let source = Some("overlay".to_owned());
            Mount { destination, kind: source.clone(), source, options: vec!["ro".to_owned(), layers] }
        }
    };
    mount.options.extend(subpath.map(|subpath| format!("{SUBPATH}={subpath}")));
    Ok(mount)
}

/// Docker's options for a tmpfs; the kernel's own defaults for size and mode are half of the memory and 1777.
fn tmpfs(destination: String, read_only: bool, size: Option<u64>, mode: Option<u32>) -> Mount {
    let mut options = ["noexec", "nosuid", "nodev", "rprivate"].map(str::to_owned).to_vec();
    if read_only {
        options.push("ro".to_owned());
    }
    options.extend(size.map(|size| format!("size={size}")));
    options.push(format!("mode={:o}", mode.unwrap_or(0o1777) & 0o7777));
    Mount { destination, kind: Some("tmpfs".to_owned()), source: Some("tmpfs".to_owned()), options }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(target: &str) -> ServiceMount {
        let source = MountSource::volume("data");
        ServiceMount { target: target.into(), read_only: false, source }
    }

    #[test]
    fn image_volumes_become_anonymous_unless_covered_or_reserved() {
        let service =
            Service { volumes: vec![volume("/data/"), volume("/a/./b/../c")], ..Service::default() };
        let volumes = ["/data", "/other//x", "/", "", "/proc", "/dev/shm", "/sys/../sys", "/procedure"];
        let image = ImageConfig { volumes: volumes.map(str::to_owned).to_vec(), ..ImageConfig::default() };
        let plan = plan(&service, &image).unwrap();
        let targets: Vec<&str> = plan.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/data", "/a/c", "/other/x", "/procedure"]);
        assert_eq!(plan[2].source, MountSource::anonymous());
    }

    #[test]
    fn impossible_targets_are_refused() {
        let plan_of = |targets: &[&str]| {
            let volumes = targets.iter().map(|target| volume(target)).collect();
            plan(&Service { volumes, ..Service::default() }, &ImageConfig::default())
        };
        for target in ["", "data", "/", "/x/..", "/a\0b"] {
            assert!(matches!(plan_of(&[target]), Err(MountError::Target(_))), "{target:?}");
        }
        assert_eq!(plan_of(&["/a", "/a/"]), Err(MountError::Twice("/a".into())));
    }

    #[test]
    fn tmpfs_options_are_dockers() {
        assert_eq!(
            tmpfs("/t".into(), false, Some(65536), Some(0o1770)).options.join(","),
            "noexec,nosuid,nodev,rprivate,size=65536,mode=1770"
        );
        assert_eq!(
            tmpfs("/t".into(), true, None, None).options.join(","),
            "noexec,nosuid,nodev,rprivate,ro,mode=1777"
        );
    }
}
