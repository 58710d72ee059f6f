//! Several layers to one tree, by Compose's merge rules.
//!
//! Mappings are merged key by key, lists are appended, everything else is replaced; the exceptions are in [`RULES`].
//! Lists whose entries have an identity (a port, a mount) keep one entry of each, the last, in the place of the first.
//! `!reset` removes a value, `!override` replaces it. Nothing at all (`key:`) leaves what is there.

use std::collections::HashMap;

use crate::diagnostic::{Path, Report};
use crate::node::{Map, Node, Tag, Value};

/// How a value is merged when not by its kind.
#[derive(Clone, Copy)]
enum Rule {
    /// The later one wins as a whole, also when it is nothing.
    Replace,
    /// Append, then keep one entry for each identity.
    Unique(fn(&Node) -> Option<String>),
    /// The later one wins as a whole unless both are for the same driver.
    Driver,
    /// Entries for the same subnet are merged.
    Subnets,
}

/// Exceptions by path.
const RULES: &[(&[&str], Rule)] = &[
    (&["networks", "*", "ipam", "config"], Rule::Subnets),
    (&["services", "*", "build", "args", "*"], Rule::Replace),
    (&["services", "*", "build", "tags"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "cap_add"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "cap_drop"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "command"], Rule::Replace),
    (&["services", "*", "configs"], Rule::Unique(config)),
    (&["services", "*", "devices"], Rule::Unique(target)),
    (&["services", "*", "dns"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "dns_opt"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "dns_search"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "entrypoint"], Rule::Replace),
    (&["services", "*", "env_file"], Rule::Unique(file)),
    (&["services", "*", "environment", "*"], Rule::Replace),
    (&["services", "*", "expose"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "healthcheck", "test"], Rule::Replace),
    (&["services", "*", "labels", "*"], Rule::Replace),
    (&["services", "*", "links"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "logging"], Rule::Driver),
    (&["services", "*", "networks", "*", "aliases"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "networks", "*", "link_local_ips"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "ports"], Rule::Unique(port)),
    (&["services", "*", "profiles"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "secrets"], Rule::Unique(secret)),
    (&["services", "*", "tmpfs"], Rule::Unique(Node::scalar_text)),
    (&["services", "*", "ulimits", "*"], Rule::Replace),
    (&["services", "*", "volumes"], Rule::Unique(target)),
];

/// Merges canonical layers, later ones over earlier ones. What was reset stays a marker until [`finish`].
pub(crate) fn merge(layers: Vec<Node>, report: &mut Report) -> Node {
    let mut layers = layers.into_iter();
    let Some(mut result) = layers.next() else {
        return Node::new(Value::Map(Map::new()), Default::default());
    };
    for layer in layers {
        node(&mut result, layer, &Path::Root, report);
    }
    result
}

/// Merges one value over another one, both at this place.
pub(crate) fn onto(base: &mut Node, over: Node, path: &Path<'_>, report: &mut Report) {
    node(base, over, path, report);
}

/// Removes what was reset, and duplicates from lists.
pub(crate) fn finish(root: &mut Node) {
    clean(root, &Path::Root);
    unique(root, &Path::Root);
}

fn node(base: &mut Node, over: Node, path: &Path<'_>, report: &mut Report) {
    match over.tag {
        // A reset stays a marker until everything is merged, so that it may be anywhere in a value.
        Some(Tag::Reset | Tag::Override) => {
            *base = over;
            return;
        }
        None => {}
    }
    if base.tag == Some(Tag::Reset) || matches!(rule(path), Some(Rule::Replace)) {
        *base = over;
        return;
    }
    if matches!(rule(path), Some(Rule::Driver)) {
        let driver = |node: &Node| node.get("driver").and_then(Node::scalar_text);
        if let (Some(one), Some(other)) = (driver(base), driver(&over))
            && one != other
        {
            *base = over;
            return;
        }
    }
    match (&mut base.value, over.value) {
        (Value::List(base), Value::List(over)) if matches!(rule(path), Some(Rule::Subnets)) => {
            for pool in over {
                let subnet = pool.get("subnet").and_then(Node::scalar_text);
                match base.iter_mut().find(|own| own.get("subnet").and_then(Node::scalar_text) == subnet) {
                    Some(own) => node(own, pool, &path.index(0), report),
                    None => base.push(pool),
                }
            }
        }
        (_, Value::Null) => {}
        (Value::Map(base), Value::Map(over)) => mapping(base, over, path, report),
        (Value::List(base), Value::List(over)) => base.extend(over),
        (Value::Map(_) | Value::List(_), value) => {
            let over = Node { value, at: over.at, tag: None };
            let message = format!("{} cannot be merged with {} of an earlier file", over.kind(), base.kind());
            report.error(over.at, path, message);
        }
        (base_value, value) => {
            *base_value = value;
            base.at = over.at;
        }
    }
}

fn mapping(base: &mut Map, over: Map, path: &Path<'_>, report: &mut Report) {
    for (key, entry) in over {
        match base.get_mut(&key) {
            Some(old) => {
                node(&mut old.node, entry.node, &path.key(&key), report);
                old.key_at = entry.key_at;
            }
            None => {
                base.insert(key, entry);
            }
        }
    }
}

fn clean(node: &mut Node, path: &Path<'_>) {
    node.tag = None;
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|_, entry| entry.node.tag != Some(Tag::Reset));
            for (key, entry) in map {
                clean(&mut entry.node, &path.key(key));
            }
        }
        Value::List(items) => {
            items.retain(|item| item.tag != Some(Tag::Reset));
            for (index, item) in items.iter_mut().enumerate() {
                clean(item, &path.index(index));
            }
        }
        _ => {}
    }
}

/// Keeps one entry of each identity in the lists below a place.
pub(crate) fn unique(node: &mut Node, path: &Path<'_>) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, entry) in map {
                unique(&mut entry.node, &path.key(key));
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                unique(item, &path.index(index));
            }
            if let Some(Rule::Unique(identity)) = rule(path) {
                *items = last_of_each(std::mem::take(items), identity);
            }
        }
        _ => {}
    }
}

fn last_of_each(items: Vec<Node>, identity: fn(&Node) -> Option<String>) -> Vec<Node> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut result: Vec<Node> = Vec::with_capacity(items.len());
    for item in items {
        let place = identity(&item).map(|key| *places.entry(key).or_insert(result.len()));
        match place.and_then(|place| result.get_mut(place)) {
            Some(earlier) => *earlier = item,
            None => result.push(item),
        }
    }
    result
}

fn rule(path: &Path<'_>) -> Option<Rule> {
    RULES.iter().find(|(pattern, _)| path.matches(pattern)).map(|(_, rule)| *rule)
}

fn port(node: &Node) -> Option<String> {
    let part = |key| node.get(key).and_then(Node::scalar_text).unwrap_or_default();
    Some(format!("{}|{}|{}|{}", part("host_ip"), part("published"), part("target"), part("protocol")))
}

fn target(node: &Node) -> Option<String> {
    node.get("target").and_then(Node::scalar_text)
}

fn file(node: &Node) -> Option<String> {
    node.get("path").and_then(Node::scalar_text)
}

fn config(node: &Node) -> Option<String> {
    mounted(node, "")
}

fn secret(node: &Node) -> Option<String> {
    mounted(node, "/run/secrets")
}

/// Where a config or secret is found in the container.
fn mounted(node: &Node, folder: &str) -> Option<String> {
    let part = |key: &str| node.get(key).and_then(Node::scalar_text);
    match part("target") {
        Some(target) if target.starts_with('/') => Some(target),
        Some(target) => Some(format!("{folder}/{target}")),
        None => part("source").map(|source| format!("{folder}/{source}")),
    }
}
