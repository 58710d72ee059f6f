//! What is in files takes their place, as in Compose: of `env_file` and `label_file` it becomes `environment` and `labels`, a
//! seccomp profile stands in `security_opt` itself.

use std::collections::BTreeMap;

use crate::assemble::{Assembly, Kind};
use crate::diagnostic::Path;
use crate::dotenv;
use crate::interpolate::Device;
use crate::node::{Map, Node, Value, insert};
use crate::paths::join;

/// Resolves the files of all services of a merged tree, in place.
pub(crate) fn resolve(root: &mut Node, assembly: &mut Assembly<'_>, device: Option<&Device<'_>>) {
    let Value::Map(sections) = &mut root.value else { return };
    let Some(Value::Map(services)) = sections.get_mut("services").map(|entry| &mut entry.node.value) else {
        return;
    };
    let path = Path::Root.key("services");
    for (name, entry) in services {
        if let Value::Map(fields) = &mut entry.node.value {
            service(fields, &path.key(name), assembly, device);
        }
    }
}

fn service(fields: &mut Map, path: &Path<'_>, assembly: &mut Assembly<'_>, device: Option<&Device<'_>>) {
    if let Some(entry) = fields.remove("env_file") {
        let own: BTreeMap<String, String> = match fields.get("environment").map(|entry| &entry.node.value) {
            Some(Value::Map(map)) => {
                map.iter().filter_map(|(key, entry)| Some((key.clone(), entry.node.scalar_text()?))).collect()
            }
            _ => BTreeMap::new(),
        };
        let path = path.key("env_file");
        let mut found = Map::new();
        for (index, item) in entry.node.as_list().unwrap_or_default().iter().enumerate() {
            let path = path.index(index);
            let file = item.get("path").and_then(Node::as_text).unwrap_or_default();
            let optional = matches!(item.get("required"), Some(Node { value: Value::Bool(false), .. }));
            let Some(text) = read(file, optional, item, &path, assembly, device) else { continue };
            let outside = |name: &str| {
                let project = assembly.variables.peek(name).map(|variable| variable.value.clone());
                project.or_else(|| own.get(name).cloned())
            };
            let values = match item.get("format").and_then(Node::as_text) {
                None | Some("") => dotenv::parse(&text, outside, |_| None),
                Some("raw") => dotenv::raw(&text, outside),
                Some(format) => {
                    let message = format!("expected the format `raw` or none, found `{format}`");
                    assembly.report.error(item.at, &path, message);
                    continue;
                }
            };
            match values {
                Ok(values) => {
                    for (key, value) in values {
                        insert(&mut found, &key, Node::text(value, item.at));
                    }
                }
                Err(error) => {
                    assembly.report.error(item.at, &path, format!("`{file}`, {error}"));
                }
            }
        }
        merge(fields, "environment", found, entry.node.at);
    }
    if let Some(entry) = fields.remove("label_file") {
        let path = path.key("label_file");
        let mut found = Map::new();
        for (index, item) in entry.node.as_list().unwrap_or_default().iter().enumerate() {
            let path = path.index(index);
            let file = item.as_text().unwrap_or_default();
            let Some(text) = read(file, false, item, &path, assembly, device) else { continue };
            match dotenv::parse(&text, |_| None, |_| None) {
                Ok(values) => {
                    for (key, value) in values {
                        insert(&mut found, &key, Node::text(value, item.at));
                    }
                }
                Err(error) => {
                    assembly.report.error(item.at, &path, format!("`{file}`, {error}"));
                }
            }
        }
        merge(fields, "labels", found, entry.node.at);
    }
    if let Some(Value::List(items)) = fields.get_mut("security_opt").map(|entry| &mut entry.node.value) {
        let path = path.key("security_opt");
        for (index, item) in items.iter_mut().enumerate() {
            seccomp_profile(item, &path.index(index), assembly, device);
        }
    }
}

/// `seccomp=FILE` becomes `seccomp={…}` (docker/compose: `pkg/compose/create.go`, `parseSecurityOpts`).
fn seccomp_profile(
    item: &mut Node,
    path: &Path<'_>,
    assembly: &mut Assembly<'_>,
    device: Option<&Device<'_>>,
) {
    let Some(("seccomp", value)) = item.as_text().and_then(|text| text.split_once(['=', ':'])) else {
        return;
    };
    if matches!(value, "" | "unconfined" | "builtin") || value.starts_with('{') {
        return;
    }
    let file = join("", value);
    let Some(text) = read(&file, false, item, path, assembly, device) else { return };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(profile) if profile.get("defaultAction").is_some_and(serde_json::Value::is_string) => {
            item.value = Value::Text(format!("seccomp={profile}"));
        }
        Ok(_) => {
            let message = format!("`{file}` is no seccomp profile: it has no `defaultAction`");
            let hint = "profiles in Docker's form are described at docs.docker.com/engine/security/seccomp";
            assembly.report.error(item.at, path, message).hint(hint);
        }
        Err(error) => drop(assembly.report.error(item.at, path, format!("`{file}` is no JSON: {error}"))),
    }
}

/// The text of a file that travels with the model, or is the device's.
fn read(
    file: &str,
    optional: bool,
    item: &Node,
    path: &Path<'_>,
    assembly: &mut Assembly<'_>,
    device: Option<&Device<'_>>,
) -> Option<String> {
    if file.is_empty() {
        assembly.report.error(item.at, path, "no `path` is given");
        return None;
    }
    let missing = |assembly: &mut Assembly<'_>, problem: &str| {
        assembly.report.error(item.at, path, format!("{problem} `{file}`"));
        None
    };
    if file.starts_with(['/', '~']) {
        // When an executable is built nobody knows what the device has.
        return match device?(file) {
            Ok(Some(text)) => Some(text),
            Ok(None) if optional => None,
            Ok(None) => missing(assembly, "there is no file"),
            Err(problem) => missing(assembly, &format!("{problem}:")),
        };
    }
    match assembly.model.texts.get(file) {
        Some(Some(text)) => Some(text.clone()),
        Some(None) if optional => None,
        Some(None) => missing(assembly, "there is no file"),
        None => {
            assembly.want(file, Kind::Text, item.at, path, optional);
            None
        }
    }
}

/// Adds values that a mapping does not have yet.
fn merge(fields: &mut Map, key: &str, found: Map, at: crate::diagnostic::Position) {
    if !matches!(fields.get(key).map(|entry| &entry.node.value), Some(Value::Map(_))) {
        insert(fields, key, Node::map(Map::new(), at));
    }
    if let Some(Value::Map(own)) = fields.get_mut(key).map(|entry| &mut entry.node.value) {
        for (name, entry) in found {
            own.entry(name).or_insert(entry);
        }
    }
}
