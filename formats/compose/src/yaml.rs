//! YAML text to [`Node`] trees, one per document.
//!
//! Parser events are folded on an explicit stack, so nesting costs no call stack. What a small file can blow up to is
//! bounded before it is built: size of the text, depth, and the number of nodes and bytes after aliases are expanded.
//! Scalars are resolved in [`crate::scalar`], merge keys (`<<`) in [`merge_keys`].

mod budget;
mod merge_keys;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use self::budget::{Cost, check, depth};
use crate::diagnostic::{Diagnostic, Path, Position, Report};
use crate::node::{Entry, MAX_DEPTH, Map, Node, Tag, Value};
use crate::scalar;

/// Largest Compose file.
pub(crate) const MAX_BYTES: usize = 4 << 20;
/// Why a file is no tree.
type Failure = (Position, String);

/// Reads all documents of a file; nothing if it is no YAML. `file` is the file's index in the report.
pub(crate) fn parse(text: &str, file: u16, report: &mut Report) -> Option<Vec<Node>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        let at = Position { file, ..Position::default() };
        report.error(at, &Path::Root, format!("larger than {} MiB", MAX_BYTES >> 20));
        return None;
    }
    let mut builder = Builder { file, ..Builder::default() };
    match builder.read(text) {
        Ok(()) => Some(builder.documents),
        Err((at, message)) => {
            report.error(at, &Path::Root, message);
            None
        }
    }
}

/// Text of a file, or where it stops being text.
pub(crate) fn check_utf8(bytes: Vec<u8>, file: &str) -> Result<String, Diagnostic> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let before = String::from_utf8_lossy(valid);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let mut diagnostic = Diagnostic::about_file(file, "not valid UTF-8");
        diagnostic.line = u32::try_from(line).unwrap_or(u32::MAX);
        diagnostic.column = u32::try_from(column).unwrap_or(u32::MAX);
        diagnostic
    })
}

/// A collection that is still open.
struct Open {
    content: Content,
    at: Position,
    tag: Option<Tag>,
    anchor: usize,
    /// Budget used before it, to know what an alias to it costs.
    before: Cost,
}

enum Content {
    List(Vec<Node>),
    Map {
        map: Map,
        /// Merge keys, in the order written.
        merges: Vec<Node>,
        key: Option<Key>,
    },
}

/// A key that waits for its value.
struct Key {
    name: String,
    at: Position,
    is_merge: bool,
}

#[derive(Default)]
struct Builder {
    file: u16,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Node, Cost)>,
    used: Cost,
    remembered: Cost,
    documents: Vec<Node>,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Failure> {
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                (self.position(error.marker().line(), error.marker().col()), error.info().to_owned())
            })?;
            self.event(event, span)?;
        }
        Ok(())
    }

    fn position(&self, line: usize, column: usize) -> Position {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Position { file: self.file, line: small(line), column: small(column).saturating_add(1) }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Failure> {
        let at = self.position(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag_text = tag.as_deref().map(tag_name);
                let own_tag = tag_text.as_deref().and_then(Tag::from_name);
                let plain = style == ScalarStyle::Plain;
                if self.expects_key() {
                    return self.key(&text, plain, tag_text.as_deref(), anchor, at);
                }
                let value =
                    scalar::resolve(&text, plain, tag_text.as_deref()).map_err(|error| (at, error))?;
                let before = self.used;
                self.spend(Cost { nodes: 1, bytes: text.len() }, at)?;
                self.finish(Node { value, at, tag: own_tag }, anchor, before)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Content::List(Vec::new()), anchor, tag.as_deref().map(tag_name), at)
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { map: Map::new(), merges: Vec::new(), key: None };
                self.open(content, anchor, tag.as_deref().map(tag_name), at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Open { content: Content::Map { key: None, .. }, .. }))
    }

    fn key(
        &mut self,
        text: &str,
        plain: bool,
        tag: Option<&str>,
        anchor: usize,
        at: Position,
    ) -> Result<(), Failure> {
        let before = self.used;
        self.spend(Cost { nodes: 1, bytes: text.len() }, at)?;
        let is_merge = plain && tag.is_none() && text == "<<" || tag == Some("!!merge");
        let value = scalar::resolve(text, plain, tag).map_err(|error| (at, error))?;
        let node = Node::new(value, at);
        let name = match &node.value {
            Value::Text(text) => text.clone(),
            _ => return Err((at, format!("keys are strings, found {} `{text}`", node.kind()))),
        };
        self.remember(&node, anchor, before)?;
        self.set_key(Key { name, at, is_merge })
    }

    fn set_key(&mut self, new: Key) -> Result<(), Failure> {
        // The embedded form writes tags as such keys.
        if Tag::from_name(&new.name).is_some() {
            return Err((new.at, format!("`{}` is a tag, it stands before a value", new.name)));
        }
        if let Some(Open { content: Content::Map { map, key, .. }, .. }) = self.stack.last_mut() {
            if let Some(first) = map.get(&new.name) {
                let message = format!("key `{}` is already defined in line {}", new.name, first.key_at.line);
                return Err((new.at, message));
            }
            *key = Some(new);
        }
        Ok(())
    }

    fn open(
        &mut self,
        content: Content,
        anchor: usize,
        tag: Option<String>,
        at: Position,
    ) -> Result<(), Failure> {
        if self.expects_key() {
            return Err((at, "keys are strings, found a list or a mapping".to_owned()));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let before = self.used;
        self.spend(Cost { nodes: 1, bytes: 0 }, at)?;
        let tag = tag.as_deref().and_then(Tag::from_name);
        self.stack.push(Open { content, at, tag, anchor, before });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { mut map, merges, .. } => {
                merge_keys::apply(&mut map, merges)?;
                Value::Map(map)
            }
        };
        self.finish(Node { value, at: open.at, tag: open.tag }, open.anchor, open.before)
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Failure> {
        let Some((node, cost)) = self.anchors.get(&anchor) else {
            return Err((at, "the alias stands inside the value it refers to".to_owned()));
        };
        let cost = *cost;
        if depth(node) + self.stack.len() > MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        if self.expects_key() {
            return match node.as_text() {
                Some(text) => {
                    let key = Key { name: text.to_owned(), at, is_merge: false };
                    self.spend(cost, at)?;
                    self.set_key(key)
                }
                None => Err((at, format!("keys are strings, found {}", node.kind()))),
            };
        }
        // The budget is checked before the copy is made.
        check(self.used, cost, at)?;
        let node = node.clone();
        self.spend(cost, at)?;
        self.finish(node, 0, self.used)
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, before: Cost) -> Result<(), Failure> {
        self.remember(&node, anchor, before)?;
        match self.stack.last_mut() {
            None => self.documents.push(node),
            Some(Open { content: Content::List(items), .. }) => items.push(node),
            Some(Open { content: Content::Map { map, merges, key }, .. }) => {
                if let Some(key) = key.take() {
                    if key.is_merge {
                        merges.push(node);
                    } else {
                        map.insert(key.name, Entry { key_at: key.at, node: placed(node, key.at) });
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps a copy for aliases; copies have a budget of their own, because anchors can be nested.
    fn remember(&mut self, node: &Node, anchor: usize, before: Cost) -> Result<(), Failure> {
        if anchor > 0 {
            let cost = Cost { nodes: self.used.nodes - before.nodes, bytes: self.used.bytes - before.bytes };
            self.remembered = check(self.remembered, cost, node.at)?;
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        Ok(())
    }

    fn spend(&mut self, cost: Cost, at: Position) -> Result<(), Failure> {
        self.used = check(self.used, cost, at)?;
        Ok(())
    }
}

/// An absent value has no place of its own; its key's place is the one to show.
fn placed(mut node: Node, key_at: Position) -> Node {
    if node.is_null() {
        node.at = key_at;
    }
    node
}

/// A tag as it is usually written.
fn tag_name(tag: &saphyr_parser::Tag) -> String {
    if tag.is_yaml_core_schema() {
        format!("!!{}", tag.suffix)
    } else {
        format!("{}{}", tag.handle, tag.suffix)
    }
}
