//! YAML merge keys: `<<: *base` and `<<: [*a, *b]`.
//!
//! A mapping's own keys win over merged ones, and earlier merged mappings over later ones (YAML's merge key draft, and
//! what Go's yaml does). Values are not merged deeper.

use super::Failure;
use crate::node::{Map, Node, Value};

/// Adds the keys of `merges` that `map` does not have.
pub(super) fn apply(map: &mut Map, merges: Vec<Node>) -> Result<(), Failure> {
    for merge in merges {
        match merge.value {
            Value::Map(source) => add(map, source),
            Value::List(items) => {
                for item in items {
                    match item.value {
                        Value::Map(source) => add(map, source),
                        _ => return Err((item.at, unmergeable(&item))),
                    }
                }
            }
            _ => return Err((merge.at, unmergeable(&merge))),
        }
    }
    Ok(())
}

fn add(map: &mut Map, source: Map) {
    for (key, entry) in source {
        map.entry(key).or_insert(entry);
    }
}

fn unmergeable(node: &Node) -> String {
    format!("`<<` merges a mapping or a list of mappings, found {}", node.kind())
}
