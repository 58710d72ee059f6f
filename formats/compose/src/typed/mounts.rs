//! Mounts: `volumes`, then `tmpfs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::canonical::mounts::clean;
use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{Mount, MountSource};
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
    for options in ["bind", "volume", "tmpfs"] {
        if options != kind && item.get(options).is_some() {
            return Err(format!("`{options}` does not go with the type `{kind}`"));
        }
    }
    let options = item.get(kind);
    let option = |key: &str| options.is_some_and(|options| values::flag(options, key));
    let source = match kind {
        "volume" => MountSource::Volume {
            source: source.map(str::to_owned),
            nocopy: option("nocopy"),
            subpath: None,
            labels: BTreeMap::new(),
        },
        "bind" => {
            let source = source.ok_or("a bind mount needs a `source`")?;
            if source.starts_with('~') && source != "~" && !source.starts_with("~/") {
                return Err(format!("the home of another user in `{source}` is not supported"));
            }
            if let Some(label) = options.and_then(|options| values::text(options, "selinux"))
                && !matches!(label, "z" | "Z")
            {
                return Err(format!("expected the SELinux option `z` or `Z`, found `{label}`"));
            }
            MountSource::Bind {
                source: source.to_owned(),
                create_host_path: option("create_host_path"),
                propagation: None,
                not_recursive: false,
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
            MountSource::Tmpfs { size: number("size").filter(|size| *size > 0), mode: mode.transpose()? }
        }
        "image" | "cluster" | "npipe" => {
            return Err(format!("mounts of type `{kind}` are not supported yet"));
        }
        _ => return Err(format!("expected the type `bind`, `volume` or `tmpfs`, found `{kind}`")),
    };
    let target = values::text(item, "target").ok_or("the mount's `target` is missing")?;
    Ok(Mount { target: target.to_owned(), read_only: values::flag(item, "read_only"), source })
}

fn tmpfs(item: &Node) -> Result<Mount, String> {
    let short = mount::parse_tmpfs(item.as_text().unwrap_or_default())?;
    let source = MountSource::Tmpfs { size: short.size.filter(|size| *size > 0), mode: short.mode };
    Ok(Mount { target: clean(&short.target), read_only: short.read_only, source })
}

fn target(target: &str) -> Result<(), String> {
    match target {
        "/" => Err("nothing can be mounted on `/`".to_owned()),
        _ if target.starts_with('/') => Ok(()),
        _ => Err(format!("the target `{target}` is not an absolute path")),
    }
}
