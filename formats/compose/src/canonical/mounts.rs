//! `volumes` of a service to the long form: `{type, source, target, read_only, bind | volume | tmpfs}`.

use serde_json::Number;

use crate::diagnostic::{Path, Report};
use crate::node::{Map, Node, Value, insert};
use crate::short::mount;

pub(crate) fn long(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let Value::List(items) = &mut node.value else { return };
    for (index, item) in items.iter_mut().enumerate() {
        let path = path.index(index);
        match &mut item.value {
            Value::Map(fields) => complete(fields),
            _ => match mount::parse(item.as_text().unwrap_or_default()) {
                Ok(short) => *item = entry(short, item),
                Err(message) => {
                    report.error(item.at, &path, message);
                }
            },
        }
    }
}

fn entry(short: mount::ShortMount, item: &Node) -> Node {
    let text = |text: &str| Node::text(text, item.at);
    let yes = || Node::new(Value::Bool(true), item.at);
    let mut options = Map::new();
    let kind = if short.is_bind() { "bind" } else { "volume" };
    if short.is_bind() {
        insert(&mut options, "create_host_path", yes());
        if let Some(label) = &short.selinux {
            insert(&mut options, "selinux", text(label));
        }
        if let Some(propagation) = &short.propagation {
            insert(&mut options, "propagation", text(propagation));
        }
    } else if short.nocopy {
        insert(&mut options, "nocopy", yes());
    }
    let mut fields = Map::new();
    if let Some(label) = short.selinux.filter(|_| kind == "volume") {
        // As Docker Compose prints it.
        let mut bind = Map::new();
        insert(&mut bind, "selinux", text(&label));
        insert(&mut fields, "bind", Node::map(bind, item.at));
    }
    insert(&mut fields, "type", text(kind));
    insert(&mut fields, "target", text(&clean(&short.target)));
    insert(&mut fields, kind, Node::map(options, item.at));
    if let Some(source) = &short.source {
        insert(&mut fields, "source", text(source));
    }
    if short.read_only {
        insert(&mut fields, "read_only", yes());
    }
    Node::map(fields, item.at)
}

fn complete(fields: &mut Map) {
    let is_bind = fields.get("type").and_then(|entry| entry.node.as_text()) == Some("bind");
    for (key, entry) in fields.iter_mut() {
        match (key.as_str(), &mut entry.node.value) {
            ("target", Value::Text(target)) => *target = clean(target),
            // In the long form a bind's source needs no `./`.
            ("source", Value::Text(source)) if is_bind && !source.is_empty() && !mount::is_path(source) => {
                source.insert_str(0, "./");
            }
            _ => {}
        }
    }
}

/// The mode of a tmpfs is a number. YAML has read `01777` as one already.
pub(crate) fn mode(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    match &node.value {
        Value::Text(text) => match mount::mode(text) {
            Ok(mode) => node.value = Value::Number(Number::from(mode)),
            Err(message) => {
                report.error(node.at, path, message);
            }
        },
        Value::Number(number) if !number.is_u64() => {
            report.error(node.at, path, "expected a whole number");
        }
        _ => {}
    }
}

/// A path in a container without `//`, `/./`, `/../` and a slash at the end.
pub(crate) fn clean(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
