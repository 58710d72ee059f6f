//! The tree every stage works on: YAML without its syntax, with positions.
//!
//! Mappings are sorted: their order has no meaning in Compose, and the same input must give the same bytes. Tags other
//! than `!reset` and `!override` are gone after parsing, as in Docker Compose. Depth is bounded by the two ways in (YAML
//! and JSON), so recursion over a tree is safe.

use std::collections::BTreeMap;

use serde_json::Number;

use crate::diagnostic::Position;

/// Deepest nesting of mappings and lists.
pub(crate) const MAX_DEPTH: usize = 64;

/// One value of a Compose file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Position,
    pub(crate) tag: Option<Tag>,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping; keys are text.
pub(crate) type Map = BTreeMap<String, Entry>;

/// The value of a key and where the key stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key_at: Position,
    pub(crate) node: Node,
}

/// Compose's own tags, which say how a value is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Remove what earlier files said.
    Reset,
    /// Replace what earlier files said, do not merge.
    Override,
}

impl Tag {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tag::Reset => "!reset",
            Tag::Override => "!override",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Tag> {
        [Tag::Reset, Tag::Override].into_iter().find(|tag| tag.name() == name)
    }
}

impl Node {
    pub(crate) fn new(value: Value, at: Position) -> Node {
        Node { value, at, tag: None }
    }

    pub(crate) fn text(text: impl Into<String>, at: Position) -> Node {
        Node::new(Value::Text(text.into()), at)
    }

    pub(crate) fn map(map: Map, at: Position) -> Node {
        Node::new(Value::Map(map), at)
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The value of a key, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// A scalar as Compose prints it; nothing for null, lists and mappings.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) => Some(number_text(number)),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The kind of value, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Adds a key to a mapping that is being put together.
pub(crate) fn insert(map: &mut Map, key: &str, node: Node) {
    map.insert(key.to_owned(), Entry { key_at: node.at, node });
}

/// A number as Go's `fmt.Sprint` prints it, which is what ends up in a container's environment under Docker Compose:
/// the shortest digits, in `e` form for exponents below -4 and from 6 on.
pub(crate) fn number_text(number: &Number) -> String {
    if !number.is_f64() {
        return number.to_string();
    }
    let value = number.as_f64().unwrap_or_default();
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// The tree with positions in another file of the report.
#[cfg(feature = "yaml")]
pub(crate) fn renumbered(mut node: Node, file: usize) -> Node {
    let file = u16::try_from(file).unwrap_or(u16::MAX - 1);
    renumber(&mut node, file);
    node
}

#[cfg(feature = "yaml")]
fn renumber(node: &mut Node, file: u16) {
    node.at.file = file;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| renumber(item, file)),
        Value::Map(map) => {
            for entry in map.values_mut() {
                entry.key_at.file = file;
                renumber(&mut entry.node, file);
            }
        }
        _ => {}
    }
}
