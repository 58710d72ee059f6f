//! Defaults that Compose writes down: the default network, full names, values of `environment: [KEY]`.

use std::collections::BTreeSet;

use crate::interpolate::variables::Variables;
use crate::node::{Map, Node, Value, insert};
use crate::short::time;
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
    for section in ["networks", "volumes"] {
        if let Some(Value::Map(entries)) = sections.get_mut(section).map(|entry| &mut entry.node.value) {
            for (key, entry) in entries {
                full_name(&mut entry.node, &format!("{name}_{key}"));
            }
        }
    }
}

/// Leaves out networks and volumes that no service uses, as Compose does.
pub(crate) fn drop_unused(root: &mut Node, used: &BTreeSet<(&'static str, String)>) {
    let Value::Map(sections) = &mut root.value else { return };
    for section in ["networks", "volumes"] {
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
    if let Some(entry) = fields.get_mut("stop_grace_period")
        && let Some(Ok(nanoseconds)) = entry.node.as_text().map(time::parse)
    {
        entry.node.value = Value::Text(time::format(nanoseconds));
    }
    if !fields.contains_key("network_mode") && !fields.contains_key("networks") {
        let at = fields.values().next().map_or_else(Default::default, |entry| entry.key_at);
        let mut networks = Map::new();
        insert(&mut networks, "default", Node::new(Value::Null, at));
        insert(fields, "networks", Node::map(networks, at));
    }
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
