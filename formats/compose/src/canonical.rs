//! Short forms to long ones, on the tree of one layer, after interpolation.
//!
//! Merging and everything after it sees one form of each key only. Values that must be text, numbers or booleans become
//! that here, because a filled-in variable is always text. Which conversion belongs to which key is in
//! [`crate::schema::keys`], and shapes have been checked by [`crate::schema`].

pub(crate) mod files;
pub(crate) mod mounts;
pub(crate) mod ports;

use serde_json::Number;

use crate::diagnostic::{Path, Position, Report};
use crate::node::{Entry, Map, Node, Tag, Value, insert};
use crate::schema::keys::FILE;
use crate::schema::{Fields, Shape};
use crate::short;

/// Brings a layer into the long form, in place.
pub(crate) fn layer(root: &mut Node, report: &mut Report) {
    visit(root, &FILE, &Path::Root, report);
}

fn visit(node: &mut Node, shape: &Shape, path: &Path<'_>, report: &mut Report) {
    if node.tag == Some(Tag::Reset) {
        return;
    }
    if let Some(convert) = shape.convert {
        convert(node, path, report);
    }
    match &mut node.value {
        Value::List(items) => {
            if let Some(shape) = shape.list {
                for (index, item) in items.iter_mut().enumerate() {
                    visit(item, shape, &path.index(index), report);
                }
            }
        }
        Value::Map(map) => {
            for (name, entry) in map {
                let shape = match shape.fields {
                    Some(Fields::Names(shape) | Fields::Any(shape)) => shape,
                    Some(Fields::Keys(keys)) => match keys.iter().find(|key| key.name == name) {
                        Some(key) => key.shape,
                        None => continue,
                    },
                    Some(Fields::Free) | None => continue,
                };
                visit(&mut entry.node, shape, &path.key(name), report);
            }
        }
        _ => {}
    }
}

/// A string becomes words.
pub(crate) fn command(node: &mut Node, path: &Path<'_>, report: &mut Report) {
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

/// `healthcheck.test` in one string is run by a shell.
pub(crate) fn test(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    if let Value::Text(line) = &node.value {
        let words = [Node::text("CMD-SHELL", node.at), Node::text(line.clone(), node.at)];
        node.value = Value::List(words.into());
    }
}

/// `[KEY=VALUE, KEY]` becomes a mapping; what has no value takes it from outside.
pub(crate) fn variables(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    pairs_or(node, &Value::Null, path, report);
}

/// `[KEY=VALUE, KEY]` becomes a mapping; what has no value is empty.
pub(crate) fn pairs(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    pairs_or(node, &Value::Text(String::new()), path, report);
}

/// `[KEY=VALUE, KEY]` becomes a mapping, and scalars become text; a missing value becomes `absent`.
fn pairs_or(node: &mut Node, absent: &Value, path: &Path<'_>, report: &mut Report) {
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

/// A mapping becomes `[KEY=VALUE, KEY]`.
pub(crate) fn lines(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    let Value::Map(map) = &node.value else { return };
    let line = |(key, entry): (&String, &Entry)| match entry.node.scalar_text() {
        Some(value) => Node::text(format!("{key}={value}"), entry.key_at),
        None => Node::text(key.clone(), entry.key_at),
    };
    node.value = Value::List(map.iter().map(line).collect());
}

/// A mapping, `HOST:ADDRESS` and `HOST=ADDRESS` become a list of the last.
pub(crate) fn extra_hosts(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let mut lines = Vec::new();
    match &node.value {
        Value::Map(map) => {
            for (name, entry) in map {
                let addresses = match &entry.node.value {
                    Value::List(items) => items.as_slice(),
                    _ => std::slice::from_ref(&entry.node),
                };
                for address in addresses {
                    let text = address.scalar_text().unwrap_or_default();
                    lines.push(Node::text(format!("{name}={}", unbracketed(&text)), address.at));
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let text = item.as_text().unwrap_or_default();
                match text.split_once('=').or_else(|| text.split_once(':')) {
                    Some((name, address)) if !name.is_empty() => {
                        lines.push(Node::text(format!("{name}={}", unbracketed(address)), item.at));
                    }
                    _ => {
                        let message = format!("expected `HOST=ADDRESS`, found `{text}`");
                        report.error(item.at, &path.index(index), message);
                    }
                }
            }
        }
        _ => return,
    }
    node.value = Value::List(lines);
}

fn unbracketed(address: &str) -> &str {
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address)
}

/// `HOST[:CONTAINER[:PERMISSIONS]]` becomes a mapping.
pub(crate) fn device(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let at = node.at;
    if let Value::Text(text) = &node.value {
        let mut fields = Map::new();
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, permissions) = match parts.as_slice() {
            [source] => (*source, *source, "rwm"),
            [source, target] => (*source, *target, "rwm"),
            [source, target, permissions] => (*source, *target, *permissions),
            _ => {
                let message = format!("expected `HOST[:CONTAINER[:PERMISSIONS]]`, found `{text}`");
                report.error(at, path, message);
                return;
            }
        };
        for (key, value) in [("source", source), ("target", target), ("permissions", permissions)] {
            insert(&mut fields, key, Node::text(value, at));
        }
        node.value = Value::Map(fields);
    }
}

/// `build: DIR` becomes a mapping.
pub(crate) fn build(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    let at = node.at;
    if let Value::Text(context) = &node.value {
        let mut fields = Map::new();
        insert(&mut fields, "context", Node::text(context.clone(), at));
        node.value = Value::Map(fields);
    }
}

/// `external: {name: X}` is the old form of `external: true` and `name: X`; the name is moved by `normalise`.
pub(crate) fn external(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    if !matches!(node.value, Value::Map(_)) {
        flag(node, path, report);
    }
}

/// A list of names becomes a mapping.
pub(crate) fn names_to_map(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    names_to(node, path, report, |at| Node::new(Value::Null, at));
}

fn names_to(node: &mut Node, path: &Path<'_>, report: &mut Report, value: fn(Position) -> Node) {
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

pub(crate) fn depends_on(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    names_to(node, path, report, |at| {
        let mut fields = Map::new();
        insert(&mut fields, "condition", Node::text("service_started", at));
        Node::map(fields, at)
    });
    let Value::Map(map) = &mut node.value else { return };
    for entry in map.values_mut() {
        let at = entry.key_at;
        let Value::Map(fields) = &mut entry.node.value else { continue };
        fields
            .entry("required".to_owned())
            .or_insert_with(|| Entry { key_at: at, node: Node::new(Value::Bool(true), at) });
    }
}

/// One string becomes a list.
pub(crate) fn listed(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    if matches!(node.value, Value::Text(_)) {
        let item = Node { tag: None, ..node.clone() };
        node.value = Value::List(vec![item]);
    }
}

/// A number or boolean becomes text.
pub(crate) fn text(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    if let Some(text) = node.scalar_text() {
        node.value = Value::Text(text);
    }
}

/// Text becomes a whole number.
pub(crate) fn integer(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let number = match &node.value {
        Value::Text(text) => text.parse::<i64>().ok().map(Number::from),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 9e15);
            whole.map(|value| Number::from(value as i64))
        }
        _ => return,
    };
    match number {
        Some(number) => node.value = Value::Number(number),
        None => {
            let found = node.scalar_text().unwrap_or_default();
            report.error(node.at, path, format!("expected a whole number, found `{found}`"));
        }
    }
}

/// Text becomes a number.
pub(crate) fn decimal(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let Value::Text(text) = &node.value else { return };
    let whole = text.parse::<i64>().ok().map(Number::from);
    match whole.or_else(|| short::size::float(text).and_then(Number::from_f64)) {
        Some(number) => node.value = Value::Number(number),
        None => {
            report.error(node.at, path, format!("expected a number, found `{text}`"));
        }
    }
}

/// `all` or a whole number; all is -1.
pub(crate) fn count(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    if node.as_text() == Some("all") {
        node.value = Value::Number((-1).into());
    } else {
        integer(node, path, report);
    }
}

/// `all` becomes a list.
pub(crate) fn gpus(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let at = node.at;
    let Value::Text(text) = &node.value else { return };
    if text != "all" {
        report.error(at, path, format!("expected `all` or a list, found `{text}`"));
        return;
    }
    let mut fields = Map::new();
    insert(&mut fields, "count", Node::new(Value::Number((-1).into()), at));
    node.value = Value::List(vec![Node::map(fields, at)]);
}

/// A number, or a number and a pair of them, becomes whole numbers.
pub(crate) fn ulimit(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    if !matches!(node.value, Value::Map(_)) {
        integer(node, path, report);
    }
}

/// A size becomes bytes, as text, which is how Compose prints it.
pub(crate) fn size(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let bytes = match &node.value {
        // No limit, as printed.
        Value::Text(text) if text == "-1" => Ok(text.clone()),
        Value::Text(text) => short::size::parse(text).map(|bytes| bytes.to_string()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string()),
        Value::Number(_) => Err("expected a whole number".to_owned()),
        _ => return,
    };
    match bytes {
        Ok(bytes) => node.value = Value::Text(bytes),
        Err(message) => {
            report.error(node.at, path, message);
        }
    }
}

/// A duration becomes what Compose prints.
pub(crate) fn duration(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let Value::Text(text) = &node.value else { return };
    if text.is_empty() {
        return;
    }
    match short::time::parse(text) {
        Ok(nanoseconds) => node.value = Value::Text(short::time::format(nanoseconds)),
        Err(message) => {
            report.error(node.at, path, message);
        }
    }
}

/// Text becomes a boolean.
pub(crate) fn flag(node: &mut Node, path: &Path<'_>, report: &mut Report) {
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
