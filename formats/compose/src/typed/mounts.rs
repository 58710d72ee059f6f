//! Mounts: `volumes`, then `tmpfs`.

use std::collections::BTreeSet;

use crate::canonical::mounts::clean;
use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{Mount, MountSource, Propagation, Relabel, VolumePlace, VolumesFrom};
use crate::short::mount;
use crate::typed::values;

/// Reads one entry.
type Read = fn(&Node) -> Result<Mount, String>;

pub(super) fn read(service: &Node, path: &Path<'_>, report: &mut Report) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let mut targets = BTreeSet::new();
    let readers: [(&str, Read); 2] = [("volumes", volume), ("tmpfs", tmpfs)];
    for (key, read) in readers {
        let path = path.key(key);
        let items = service.get(key).and_then(Node::as_list).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let checked = read(item).and_then(|mount| {
                target(&mount.target)?;
                if targets.insert(mount.target.clone()) {
                    Ok(mount)
                } else {
                    Err(format!("something is mounted on `{}` already", mount.target))
                }
            });
            match checked {
                Ok(mount) => mounts.push(mount),
                Err(message) => {
                    report.error(item.at, &path.index(index), message);
                }
            }
        }
    }
    mounts
}

fn volume(item: &Node) -> Result<Mount, String> {
    let kind = values::text(item, "type").ok_or("the mount's `type` is missing")?;
    let source = values::text(item, "source");
    // `data:/data:z` is a volume with this option of binds.
    let relabels = kind == "volume"
        && item
            .get("bind")
            .and_then(Node::as_map)
            .is_some_and(|bind| bind.keys().all(|key| key == "selinux"));
    for options in ["bind", "volume", "tmpfs", "image"] {
        if options != kind && item.get(options).is_some() && !(relabels && options == "bind") {
            return Err(format!("`{options}` does not go with the type `{kind}`"));
        }
    }
    let options = item.get(kind);
    let option = |key: &str| options.is_some_and(|options| values::flag(options, key));
    let source = match kind {
        "volume" => MountSource::Volume {
            source: source.map(str::to_owned),
            nocopy: option("nocopy"),
            subpath: options.map(subpath).transpose()?.flatten(),
            labels: options.map(|options| values::pairs(options, "labels")).unwrap_or_default(),
            selinux: item.get("bind").map(relabel).transpose()?.flatten(),
        },
        "bind" => {
            let source = source.ok_or("a bind mount needs a `source`")?;
            if source.starts_with('~') && source != "~" && !source.starts_with("~/") {
                return Err(format!("the home of another user in `{source}` is not supported"));
            }
            MountSource::Bind {
                source: source.to_owned(),
                create_host_path: option("create_host_path"),
                propagation: options.map(propagation).transpose()?.flatten(),
                not_recursive: options.map(not_recursive).transpose()?.unwrap_or_default(),
                selinux: options.map(relabel).transpose()?.flatten(),
            }
        }
        "tmpfs" => {
            if source.is_some() {
                return Err("a tmpfs has no `source`".to_owned());
            }
            let number = |key: &str| options.and_then(|options| values::number(options, key));
            let mode = number("mode").map(|mode| {
                let mode = u32::try_from(mode).ok().filter(|mode| *mode <= 0o7777);
                mode.ok_or("tmpfs `mode` is not a file mode")
            });
            // Size 0 means no limit.
            let size = number("size").filter(|size| *size > 0);
            MountSource::Tmpfs { volume: false, size, mode: mode.transpose()? }
        }
        "image" => MountSource::Image {
            source: source.ok_or("a mount of an image needs a `source`")?.to_owned(),
            subpath: options.map(subpath).transpose()?.flatten(),
        },
        "cluster" | "npipe" => {
            return Err(format!("mounts of type `{kind}` do not exist here"));
        }
        _ => return Err(format!("expected the type `bind`, `volume`, `tmpfs` or `image`, found `{kind}`")),
    };
    let target = values::text(item, "target").ok_or("the mount's `target` is missing")?;
    Ok(Mount { target: target.to_owned(), read_only: values::flag(item, "read_only"), source })
}

/// `driver_opts` of a volume: what mount(8) would be told.
pub(super) fn volume_place(volume: &Node, path: &Path<'_>, report: &mut Report) -> Option<VolumePlace> {
    let node = volume.get("driver_opts")?;
    let path = path.key("driver_opts");
    let option = |key: &str| values::text(node, key).unwrap_or_default();
    if let Some((key, entry)) =
        super::entries(Some(node)).find(|(key, _)| !matches!(key.as_str(), "type" | "device" | "o"))
    {
        report.refuse(entry.key_at, &path.key(key), "the `local` driver has no such option");
    }
    let (kind, device) = (option("type"), option("device"));
    let flags: Vec<&str> = option("o").split(',').map(str::trim).filter(|flag| !flag.is_empty()).collect();
    let at = |key: &str| node.get(key).map_or(node.at, |value| value.at);
    let unknown = |flag: &str, report: &mut Report| {
        report.refuse(at("o"), &path.key("o"), format!("the mount option `{flag}` has no place here"));
    };
    match kind {
        "" if device.is_empty() && flags.is_empty() => None,
        "" | "none" | "bind" if flags.iter().any(|flag| matches!(*flag, "bind" | "rbind")) => {
            flags
                .iter()
                .filter(|flag| !matches!(**flag, "bind" | "rbind" | "rw"))
                .for_each(|flag| unknown(flag, report));
            if !mount::is_path(device) {
                report.error(at("device"), &path.key("device"), "a bind needs the path of a folder");
            }
            Some(VolumePlace::Bind(device.to_owned()))
        }
        "tmpfs" => {
            let (mut size, mut mode) = (None, None);
            for flag in flags {
                match flag.split_once('=') {
                    Some(("size", text)) => match crate::short::size::parse(text) {
                        Ok(bytes) => size = Some(bytes).filter(|bytes| *bytes > 0),
                        Err(message) => {
                            report.error(at("o"), &path.key("o"), message);
                        }
                    },
                    Some(("mode", text)) => match mount::mode(text) {
                        Ok(bits) => mode = Some(bits),
                        Err(message) => {
                            report.error(at("o"), &path.key("o"), message);
                        }
                    },
                    _ if matches!(flag, "rw" | "nosuid" | "nodev" | "noexec") => {}
                    _ => unknown(flag, report),
                }
            }
            Some(VolumePlace::Tmpfs { size, mode })
        }
        other => {
            let message = format!(
                "mounting `{other}` on the device needs root; there are `none` with `o: bind`, and `tmpfs`"
            );
            report.refuse(at("type"), &path.key("type"), message);
            None
        }
    }
}

/// A folder below a volume or an image.
fn subpath(options: &Node) -> Result<Option<String>, String> {
    let Some(text) = values::text(options, "subpath") else { return Ok(None) };
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(format!("the subpath `{text}` leads outside"));
    }
    Ok(Some(text.to_owned()))
}

fn propagation(options: &Node) -> Result<Option<Propagation>, String> {
    Ok(Some(match values::text(options, "propagation") {
        None => return Ok(None),
        Some("private") => Propagation::Private,
        Some("rprivate") => Propagation::Rprivate,
        Some("shared") => Propagation::Shared,
        Some("rshared") => Propagation::Rshared,
        Some("slave") => Propagation::Slave,
        Some("rslave") => Propagation::Rslave,
        Some(other) => return Err(format!("there is no propagation `{other}`")),
    }))
}

fn relabel(options: &Node) -> Result<Option<Relabel>, String> {
    match values::text(options, "selinux") {
        None => Ok(None),
        Some("z") => Ok(Some(Relabel::Shared)),
        Some("Z") => Ok(Some(Relabel::Private)),
        Some(other) => Err(format!("expected the SELinux option `z` or `Z`, found `{other}`")),
    }
}

fn not_recursive(options: &Node) -> Result<bool, String> {
    match values::text(options, "recursive") {
        // Whether mounts below are read-only as well is what `writable` and `readonly` say; the kernel makes them so.
        None | Some("enabled" | "writable" | "readonly") => Ok(false),
        Some("disabled") => Ok(true),
        Some(other) => {
            Err(format!("expected `enabled`, `disabled`, `writable` or `readonly`, found `{other}`"))
        }
    }
}

/// `NAME[:ro|rw]` and `container:NAME[:ro|rw]`.
pub(super) fn volumes_from(service: &Node, path: &Path<'_>, report: &mut Report) -> Vec<VolumesFrom> {
    let path = path.key("volumes_from");
    let mut found = Vec::new();
    for (index, item) in
        service.get("volumes_from").and_then(Node::as_list).unwrap_or_default().iter().enumerate()
    {
        let text = item.as_text().unwrap_or_default();
        let (container, rest) = match text.strip_prefix("container:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (name, mode) = rest.split_once(':').unwrap_or((rest, "rw"));
        if name.is_empty() || !matches!(mode, "ro" | "rw") {
            let message = format!("expected `SERVICE[:ro]` or `container:NAME[:ro]`, found `{text}`");
            report.error(item.at, &path.index(index), message);
            continue;
        }
        found.push(VolumesFrom { name: name.to_owned(), container, read_only: mode == "ro" });
    }
    found
}

fn tmpfs(item: &Node) -> Result<Mount, String> {
    let short = mount::parse_tmpfs(item.as_text().unwrap_or_default())?;
    let source =
        MountSource::Tmpfs { volume: false, size: short.size.filter(|size| *size > 0), mode: short.mode };
    Ok(Mount { target: clean(&short.target), read_only: short.read_only, source })
}

fn target(target: &str) -> Result<(), String> {
    match target {
        "/" => Err("nothing can be mounted on `/`".to_owned()),
        _ if target.starts_with('/') => Ok(()),
        _ => Err(format!("the target `{target}` is not an absolute path")),
    }
}
