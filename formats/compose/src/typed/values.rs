//! Single values. The schema has checked their kind and `canonical` their form, so what does not fit is not there.

use std::collections::BTreeMap;

use crate::node::{Node, Value};
use crate::short::size;

/// Text that is not empty.
pub(super) fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key).and_then(Node::as_text).filter(|text| !text.is_empty())
}

pub(super) fn flag(node: &Node, key: &str) -> bool {
    matches!(node.get(key), Some(Node { value: Value::Bool(true), .. }))
}

/// A whole number that is not negative, also as text.
pub(super) fn number(node: &Node, key: &str) -> Option<u64> {
    match &node.get(key)?.value {
        Value::Number(number) => number.as_u64(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A list of strings.
pub(super) fn texts(node: &Node) -> Option<Vec<String>> {
    Some(node.as_list()?.iter().filter_map(Node::scalar_text).collect())
}

/// A mapping to strings; absent values are left out.
pub(super) fn pairs(node: &Node, key: &str) -> BTreeMap<String, String> {
    super::entries(node.get(key))
        .filter_map(|(key, entry)| Some((key.clone(), entry.node.scalar_text()?)))
        .collect()
}

/// A whole number, also as text.
pub(super) fn whole(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Number(number) => number.as_i64(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A whole number of a key, also as text.
pub(super) fn signed(node: &Node, key: &str) -> Option<i64> {
    whole(node.get(key)?)
}

/// A number of a key, also as text.
pub(super) fn decimal(node: &Node, key: &str) -> Option<f64> {
    match &node.get(key)?.value {
        Value::Number(number) => number.as_f64(),
        Value::Text(text) => size::float(text),
        _ => None,
    }
}

/// A list of strings of a key, or none.
pub(super) fn list(node: &Node, key: &str) -> Vec<String> {
    node.get(key).and_then(texts).unwrap_or_default()
}
