//! Configs and secrets.

use crate::canonical::mounts::clean;
use crate::diagnostic::{Path, Report};
use crate::node::Node;
use crate::project::{FileMount, FileObject, FileSource};
use crate::typed::values;

/// A config or secret of the project.
pub(super) fn object(node: &Node, path: &Path<'_>, report: &mut Report) -> FileObject {
    let mut sources = Vec::new();
    if let Some(file) = values::text(node, "file") {
        sources.push(FileSource::File(file.to_owned()));
    }
    if let Some(variable) = values::text(node, "environment") {
        sources.push(FileSource::Environment { variable: variable.to_owned(), value: None });
    }
    if let Some(content) = node.get("content").and_then(Node::as_text) {
        sources.push(FileSource::Content(content.to_owned()));
    }
    if sources.len() > 1 {
        report.error(node.at, path, "only one of `file`, `environment` and `content` can be given");
    } else if sources.is_empty() && !values::flag(node, "external") {
        report.error(node.at, path, "no `file`, `environment` or `content` is given");
    }
    FileObject {
        name: values::text(node, "name").unwrap_or_default().to_owned(),
        source: sources.pop().unwrap_or_default(),
        labels: values::pairs(node, "labels"),
    }
}

/// `configs` or `secrets` of a service; targets that are names are below `folder`.
pub(super) fn mounts(
    service: &Node,
    key: &str,
    folder: &str,
    path: &Path<'_>,
    report: &mut Report,
) -> Vec<FileMount> {
    let path = path.key(key);
    let mut mounts: Vec<FileMount> = Vec::new();
    for (index, item) in service.get(key).and_then(Node::as_list).unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let Some(source) = values::text(item, "source") else {
            report.error(item.at, &path, "no `source` is given");
            continue;
        };
        let target = match values::text(item, "target") {
            Some(target) if target.starts_with('/') => target.to_owned(),
            Some(target) => format!("{folder}/{target}"),
            None => format!("{folder}/{source}"),
        };
        let target = clean(&target);
        for name in ["uid", "gid"] {
            if let Some(text) = values::text(item, name)
                && text.parse::<u32>().is_err()
            {
                let at = item.get(name).map_or(item.at, |value| value.at);
                report.error(at, &path.key(name), format!("expected a number, found `{text}`"));
            }
        }
        if mounts.iter().any(|mount| mount.target == target) {
            report.error(item.at, &path, format!("something is mounted on `{target}` already"));
        }
        mounts.push(FileMount {
            source: source.to_owned(),
            target,
            uid: values::text(item, "uid").map(str::to_owned),
            gid: values::text(item, "gid").map(str::to_owned),
            mode: values::text(item, "mode").and_then(|text| u32::from_str_radix(text, 8).ok()),
        });
    }
    mounts
}
