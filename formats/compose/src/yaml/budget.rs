//! What a file may cost once aliases are expanded.

use super::Failure;
use crate::diagnostic::Position;
use crate::node::{Node, Value};

/// Most nodes in a file, aliases expanded.
const MAX_NODES: usize = 100_000;
/// Most bytes of scalars in a file, aliases expanded.
const MAX_SCALAR_BYTES: usize = 16 << 20;

/// Nodes and bytes of scalars.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
}

/// What is used after spending `cost`, if that is allowed.
pub(super) fn check(used: Cost, cost: Cost, at: Position) -> Result<Cost, Failure> {
    let sum =
        Cost { nodes: used.nodes.saturating_add(cost.nodes), bytes: used.bytes.saturating_add(cost.bytes) };
    if sum.nodes > MAX_NODES {
        return Err((at, format!("more than {MAX_NODES} values, aliases expanded")));
    }
    if sum.bytes > MAX_SCALAR_BYTES {
        return Err((at, format!("more than {} MiB of text, aliases expanded", MAX_SCALAR_BYTES >> 20)));
    }
    Ok(sum)
}

/// How deep a value is nested.
pub(super) fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.values().map(|entry| depth(&entry.node)).max().unwrap_or(0),
        _ => 0,
    }
}
