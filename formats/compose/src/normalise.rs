//! Defaults that Compose writes down: the default network, full names, values of `environment: [KEY]`.

use std::collections::BTreeSet;

use crate::diagnostic::Position;
use crate::interpolate::variables::Variables;
use crate::node::{Entry, Map, Node, Value, insert};
use crate::substitute::Lookup;

/// Completes the merged tree in place.
pub(crate) fn project(root: &mut Node, name: &str, variables: &mut Variables) {
    let at = root.at;
    let Value::Map(sections) = &mut root.value else { return };
    sections.remove("version");
    insert(sections, "name", Node::text(name, at));
    let mut default_used = false;
    if let Some(Value::Map(services)) = sections.get_mut("services").map(|entry| &mut entry.node.value) {
        for entry in services.values_mut() {
            if let Value::Map(fields) = &mut entry.node.value {
                service(fields, variables);
                default_used |=
                    fields.get("networks").is_some_and(|networks| networks.node.get("default").is_some());
            }
        }
    }
    if default_used {
        let networks = sections
            .entry("networks".to_owned())
            .or_insert_with(|| crate::node::Entry { key_at: at, node: Node::map(Map::new(), at) });
        if let Value::Map(networks) = &mut networks.node.value
            && !networks.contains_key("default")
        {
            insert(networks, "default", Node::new(Value::Null, at));
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        if let Some(Value::Map(entries)) = sections.get_mut(section).map(|entry| &mut entry.node.value) {
            for (key, entry) in entries {
                let external = is_external(&mut entry.node);
                let name = if external { key.clone() } else { format!("{name}_{key}") };
                full_name(&mut entry.node, &name);
            }
        }
    }
}

/// Leaves out networks and volumes that no service uses, as Compose does.
pub(crate) fn drop_unused(root: &mut Node, used: &BTreeSet<(&'static str, String)>) {
    let Value::Map(sections) = &mut root.value else { return };
    for section in ["networks", "volumes", "configs", "secrets"] {
        if let Some(Value::Map(entries)) = sections.get_mut(section).map(|entry| &mut entry.node.value) {
            entries.retain(|key, _| used.contains(&(section, key.clone())));
            if entries.is_empty() {
                sections.remove(section);
            }
        }
    }
}

fn service(fields: &mut Map, variables: &mut Variables) {
    // An empty string or collection says nothing; an empty command does.
    fields.retain(|key, entry| match &entry.node.value {
        Value::Text(text) => !text.is_empty() || key == "image",
        Value::List(items) => !items.is_empty() || matches!(key.as_str(), "command" | "entrypoint"),
        Value::Map(map) => !map.is_empty(),
        Value::Null => key.starts_with("x-"),
        _ => true,
    });
    if let Some(Value::Map(environment)) = fields.get_mut("environment").map(|entry| &mut entry.node.value) {
        for (key, entry) in environment {
            if entry.node.is_null()
                && let Some(value) = variables.get(key)
            {
                entry.node.value = Value::Text(value);
            }
        }
    }
    if let Some(entry) = fields.get_mut("pull_policy")
        && entry.node.as_text() == Some("if_not_present")
    {
        entry.node.value = Value::Text("missing".to_owned());
    }
    for item in list(fields, "secrets") {
        let source = item.get("source").and_then(Node::as_text).unwrap_or_default().to_owned();
        let at = item.at;
        if let Value::Map(mount) = &mut item.value
            && !mount.contains_key("target")
        {
            insert(mount, "target", Node::text(format!("/run/secrets/{source}"), at));
        }
    }
    list(fields, "extra_hosts").sort_by_key(|item| {
        let text = item.as_text().unwrap_or_default();
        text.split('=').next().unwrap_or_default().to_owned()
    });
    build(fields, variables);
    dependencies(fields);
    if !fields.contains_key("network_mode") && !fields.contains_key("networks") {
        let at = fields.values().next().map_or_else(Default::default, |entry| entry.key_at);
        let mut networks = Map::new();
        insert(&mut networks, "default", Node::new(Value::Null, at));
        insert(fields, "networks", Node::map(networks, at));
    }
}

/// Values of `KEY` alone, and the usual file.
fn build(fields: &mut Map, variables: &mut Variables) {
    let Some(Entry { node, .. }) = fields.get_mut("build") else { return };
    let at = node.at;
    let Value::Map(build) = &mut node.value else { return };
    if !build.contains_key("context") {
        insert(build, "context", Node::text(".", at));
    }
    if !build.contains_key("dockerfile") && !build.contains_key("dockerfile_inline") {
        insert(build, "dockerfile", Node::text("Dockerfile", at));
    }
    if let Some(Value::Map(arguments)) = build.get_mut("args").map(|entry| &mut entry.node.value) {
        for (key, entry) in arguments.iter_mut() {
            if entry.node.is_null()
                && let Some(value) = variables.get(key)
            {
                entry.node.value = Value::Text(value);
            }
        }
        arguments.retain(|_, entry| !entry.node.is_null());
    }
}

/// Who is linked to, or shares something, is started first.
fn dependencies(fields: &mut Map) {
    let mut found: Vec<(String, bool, Position)> = Vec::new();
    for item in list(fields, "links") {
        let link = item.as_text().unwrap_or_default();
        found.push((link.split(':').next().unwrap_or_default().to_owned(), true, item.at));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(entry) = fields.get(key)
            && let Some(other) = entry.node.as_text().and_then(|text| text.strip_prefix("service:"))
        {
            found.push((other.to_owned(), true, entry.node.at));
        }
    }
    for item in list(fields, "volumes_from") {
        let text = item.as_text().unwrap_or_default();
        if !text.starts_with("container:") {
            found.push((text.split(':').next().unwrap_or_default().to_owned(), false, item.at));
        }
    }
    for (other, restart, at) in found {
        if !matches!(fields.get("depends_on"), Some(Entry { node: Node { value: Value::Map(_), .. }, .. })) {
            insert(fields, "depends_on", Node::map(Map::new(), at));
        }
        let Some(Value::Map(on)) = fields.get_mut("depends_on").map(|entry| &mut entry.node.value) else {
            continue;
        };
        if !on.contains_key(&other) {
            let mut dependency = Map::new();
            insert(&mut dependency, "condition", Node::text("service_started", at));
            if restart {
                insert(&mut dependency, "restart", Node::new(Value::Bool(true), at));
            }
            insert(&mut dependency, "required", Node::new(Value::Bool(true), at));
            insert(on, &other, Node::map(dependency, at));
        }
    }
}

fn list<'a>(fields: &'a mut Map, key: &str) -> &'a mut [Node] {
    match fields.get_mut(key).map(|entry| &mut entry.node.value) {
        Some(Value::List(items)) => items,
        _ => &mut [],
    }
}

/// Whether a thing is not the project's; `external: {name: X}` becomes `external: true` and `name: X`.
fn is_external(node: &mut Node) -> bool {
    let Value::Map(fields) = &mut node.value else { return false };
    let Some(entry) = fields.get_mut("external") else { return false };
    if let Value::Map(inner) = &mut entry.node.value {
        let name = inner.remove("name");
        entry.node.value = Value::Bool(true);
        if let Some(name) = name {
            fields.insert("name".to_owned(), name);
        }
        return true;
    }
    let external = matches!(entry.node.value, Value::Bool(true));
    if !external {
        fields.remove("external");
    }
    external
}

fn full_name(node: &mut Node, name: &str) {
    if node.is_null() {
        node.value = Value::Map(Map::new());
    }
    let at = node.at;
    if let Value::Map(fields) = &mut node.value
        && fields.get("name").and_then(|entry| entry.node.as_text()).is_none_or(str::is_empty)
    {
        insert(fields, "name", Node::text(name, at));
    }
}
