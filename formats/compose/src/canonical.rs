//! Short forms to long ones, on the tree of one layer, after interpolation.
//!
//! Merging and everything after it sees one form of each key only. Values that must be text, numbers or booleans become
//! that here, because a filled-in variable is always text. Shapes have been checked by [`crate::schema`].

pub(crate) mod mounts;
mod ports;

use crate::diagnostic::{Path, Position, Report};
use crate::node::{Entry, Map, Node, Tag, Value, insert};
use crate::short;

/// Brings a layer into the long form, in place.
pub(crate) fn layer(root: &mut Node, report: &mut Report) {
    let Value::Map(sections) = &mut root.value else { return };
    for (section, key) in [("services", service as Visit), ("networks", network), ("volumes", volume)] {
        let path = Path::Root.key(section);
        if let Some(Value::Map(entries)) = sections.get_mut(section).map(|entry| &mut entry.node.value) {
            for (name, entry) in entries {
                if let Value::Map(fields) = &mut entry.node.value {
                    key(fields, &path.key(name), report);
                }
            }
        }
    }
}

/// Brings one service, network or volume into the long form.
type Visit = fn(&mut Map, &Path<'_>, &mut Report);

fn service(fields: &mut Map, path: &Path<'_>, report: &mut Report) {
    for (key, Entry { node, .. }) in fields.iter_mut() {
        if node.tag == Some(Tag::Reset) {
            continue;
        }
        let path = path.key(key);
        match key.as_str() {
            "command" | "entrypoint" => command(node, &path, report),
            "environment" => pairs(node, Value::Null, &path, report),
            "labels" => pairs(node, Value::Text(String::new()), &path, report),
            "depends_on" => depends_on(node, &path, report),
            "networks" => names_to_map(node, &path, report, |at| Node::new(Value::Null, at)),
            "ports" => ports::long(node, &path, report),
            "volumes" => mounts::long(node, &path, report),
            "tmpfs" => {
                if matches!(node.value, Value::Text(_)) {
                    let item = Node { tag: None, ..node.clone() };
                    node.value = Value::List(vec![item]);
                }
            }
            "expose" => texts(node),
            "init" | "read_only" => flag(node, &path, report),
            _ => {}
        }
    }
}

fn network(fields: &mut Map, path: &Path<'_>, report: &mut Report) {
    for (key, Entry { node, .. }) in fields.iter_mut() {
        match key.as_str() {
            "labels" => pairs(node, Value::Text(String::new()), &path.key(key), report),
            "internal" => flag(node, &path.key(key), report),
            _ => {}
        }
    }
}

fn volume(fields: &mut Map, path: &Path<'_>, report: &mut Report) {
    if let Some(entry) = fields.get_mut("labels") {
        pairs(&mut entry.node, Value::Text(String::new()), &path.key("labels"), report);
    }
}

/// A string becomes words.
fn command(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let Value::Text(line) = &node.value else { return };
    let Some(words) = short::command::split(line) else {
        report.error(node.at, path, "a quote or bracket is not closed, or a `(` stands without quotes");
        return;
    };
    if let Some(lost) = words.lost {
        let message = format!("no shell runs this, `{lost}` is ignored");
        report.warn(node.at, path, message).hint("write it as a list: [\"sh\", \"-c\", \"…\"]");
    }
    node.value = Value::List(words.words.into_iter().map(|word| Node::text(word, node.at)).collect());
}

/// `[KEY=VALUE, KEY]` becomes a mapping, and scalars become text; a missing value becomes `absent`.
fn pairs(node: &mut Node, absent: Value, path: &Path<'_>, report: &mut Report) {
    if let Value::List(items) = &node.value {
        let mut map = Map::new();
        for (index, item) in items.iter().enumerate() {
            let Some(text) = item.as_text() else { continue };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Value::Text(value.to_owned())),
                None => (text, absent.clone()),
            };
            if key.is_empty() {
                report.error(item.at, &path.index(index), "a value without a name, expected `NAME=VALUE`");
            }
            insert(&mut map, key, Node::new(value, item.at));
        }
        node.value = Value::Map(map);
    }
    if let Value::Map(map) = &mut node.value {
        for entry in map.values_mut().filter(|entry| entry.node.tag.is_none()) {
            entry.node.value = entry.node.scalar_text().map_or_else(|| absent.clone(), Value::Text);
        }
    }
}

/// A list of names becomes a mapping to what `value` makes.
fn names_to_map(node: &mut Node, path: &Path<'_>, report: &mut Report, value: fn(Position) -> Node) {
    let Value::List(items) = &node.value else { return };
    let mut map = Map::new();
    for (index, item) in items.iter().enumerate() {
        let Some(name) = item.as_text() else { continue };
        if map.contains_key(name) {
            report.error(item.at, &path.index(index), format!("`{name}` is already in the list"));
        }
        insert(&mut map, name, value(item.at));
    }
    node.value = Value::Map(map);
}

fn depends_on(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    names_to_map(node, path, report, |at| {
        let mut fields = Map::new();
        insert(&mut fields, "condition", Node::text("service_started", at));
        Node::map(fields, at)
    });
    let Value::Map(map) = &mut node.value else { return };
    for (name, entry) in map {
        let at = entry.key_at;
        let Value::Map(fields) = &mut entry.node.value else { continue };
        if let Some(restart) = fields.get_mut("restart") {
            flag(&mut restart.node, &path.key(name).key("restart"), report);
        }
        fields
            .entry("required".to_owned())
            .or_insert_with(|| Entry { key_at: at, node: Node::new(Value::Bool(true), at) });
    }
}

/// Scalars of a list become text.
fn texts(node: &mut Node) {
    if let Value::List(items) = &mut node.value {
        for item in items {
            text(item);
        }
    }
}

/// A number or boolean becomes text.
fn text(node: &mut Node) {
    if let Some(text) = node.scalar_text() {
        node.value = Value::Text(text);
    }
}

/// Text becomes a boolean.
fn flag(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let Value::Text(text) = &node.value else { return };
    let value = match text.to_ascii_lowercase().as_str() {
        "true" => true,
        "false" => false,
        "y" | "yes" | "on" => {
            report.warn(node.at, path, format!("`{text}` is no YAML boolean")).hint("write `true`");
            true
        }
        "n" | "no" | "off" => {
            report.warn(node.at, path, format!("`{text}` is no YAML boolean")).hint("write `false`");
            false
        }
        _ => {
            report.error(node.at, path, format!("expected true or false, found `{text}`"));
            return;
        }
    };
    node.value = Value::Bool(value);
}
