//! Which keys a Compose file may have, and of which type their values are.
//!
//! Checked once, before interpolation: filling in variables changes neither keys nor the kind of a value. Later stages
//! rely on it. The tables in [`keys`] list every key of the Compose specification, so that a key that is not supported
//! is told apart from one that does not exist.

pub(crate) mod keys;

use crate::diagnostic::{Path, Report};
use crate::model::Layer;
use crate::node::{Map, Node, Tag, Value};
use crate::suggest;

/// What a value may look like; a value fits if it fits one of the alternatives.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    scalars: u8,
    pub(crate) list: Option<&'static Shape>,
    pub(crate) fields: Option<Fields>,
    /// Brings it into the form that later stages see; what is inside comes after it.
    pub(crate) convert: Option<Convert>,
}

/// Brings a value whose variables are filled in into its one form.
pub(crate) type Convert = fn(&mut Node, &Path<'_>, &mut Report);

/// What a mapping may hold.
#[derive(Clone, Copy)]
pub(crate) enum Fields {
    /// Keys of the specification.
    Keys(&'static [Key]),
    /// Names chosen by the user for services, networks and volumes.
    Names(&'static Shape),
    /// Anything, as in `environment`.
    Any(&'static Shape),
    /// Whatever it is, it is not looked at.
    Free,
}

/// A key of the specification.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) state: State,
}

/// What becomes of a key.
#[derive(Clone, Copy)]
pub(crate) enum State {
    /// It is done what it says.
    Runs,
    /// It is done what it says, but for this.
    Limit(&'static str),
    /// It is dealt with when the executable is built.
    Build(&'static str),
    /// It is refused, for this reason.
    Refused(&'static str),
}

const TEXT: u8 = 1;
const NUMBER: u8 = 2;
const BOOL: u8 = 4;
const NULL: u8 = 8;

static ANYTHING_IN_A_LIST: Shape = Shape {
    scalars: TEXT | NUMBER | BOOL | NULL,
    list: Some(&ANYTHING_IN_A_LIST),
    fields: Some(Fields::Free),
    convert: None,
};

impl Shape {
    /// A value that is not looked at.
    const ANYTHING: Shape = Shape {
        scalars: TEXT | NUMBER | BOOL | NULL,
        list: Some(&ANYTHING_IN_A_LIST),
        fields: Some(Fields::Free),
        convert: None,
    };

    const fn scalars(scalars: u8) -> Shape {
        Shape { scalars, list: None, fields: None, convert: None }
    }

    const fn convert(self, convert: Convert) -> Shape {
        Shape { convert: Some(convert), ..self }
    }

    const fn list(self, items: &'static Shape) -> Shape {
        Shape { list: Some(items), ..self }
    }

    const fn fields(self, fields: Fields) -> Shape {
        Shape { fields: Some(fields), ..self }
    }

    /// As in "expected a string or a list".
    fn expected(&self) -> String {
        let all = [
            (self.scalars & TEXT != 0, "a string"),
            (self.scalars & NUMBER != 0, "a number"),
            (self.scalars & BOOL != 0, "a boolean"),
            (self.list.is_some(), "a list"),
            (self.fields.is_some(), "a mapping"),
        ];
        let names: Vec<&str> = all.into_iter().filter(|(fits, _)| *fits).map(|(_, name)| name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => "nothing".to_owned(),
        }
    }
}

/// A key and what becomes of it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As `services.*.ports.*.target`.
    pub key: String,
    /// One word or two: `runs`, `runs with a limit`, `resolved at build`, `refused`.
    pub verdict: &'static str,
    /// The limit, how it is resolved, why it is refused; empty when it runs.
    pub note: &'static str,
}

/// Every key of a Compose file, in order. Keys below one that is refused are not listed.
pub fn table() -> Vec<Row> {
    let mut rows = Vec::new();
    list(&keys::FILE, "", &mut rows);
    rows
}

fn list(shape: &Shape, path: &str, rows: &mut Vec<Row>) {
    if let Some(items) = shape.list.filter(|items| items.fields.is_some() && shape.fields.is_none()) {
        list(items, &format!("{path}.*"), rows);
    }
    match shape.fields {
        Some(Fields::Names(shape)) => list(shape, &format!("{path}.*"), rows),
        Some(Fields::Keys(keys)) => {
            for key in keys {
                let path = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
                let (verdict, note) = match key.state {
                    State::Runs => ("runs", ""),
                    State::Limit(note) => ("runs with a limit", note),
                    State::Build(note) => ("resolved at build", note),
                    State::Refused(note) => ("refused", note),
                };
                rows.push(Row { key: path.clone(), verdict, note });
                if verdict != "refused" {
                    list(key.shape, &path, rows);
                }
            }
        }
        Some(Fields::Any(_) | Fields::Free) | None => {}
    }
}

/// Checks all layers.
pub(crate) fn check(layers: &[Layer], report: &mut Report) {
    for layer in layers {
        value(&layer.root, &keys::FILE, &Path::Root, report);
    }
}

fn value(node: &Node, shape: &Shape, path: &Path<'_>, report: &mut Report) {
    if node.tag == Some(Tag::Reset) {
        return;
    }
    match (&node.value, shape) {
        (Value::List(items), Shape { list: Some(shape), .. }) => {
            for (index, item) in items.iter().enumerate() {
                value(item, shape, &path.index(index), report);
            }
        }
        (Value::Map(map), Shape { fields: Some(fields), .. }) => mapping(map, fields, path, report),
        (Value::Text(_), Shape { scalars, .. }) if scalars & TEXT != 0 => {}
        (Value::Number(_), Shape { scalars, .. }) if scalars & NUMBER != 0 => {}
        (Value::Bool(_), Shape { scalars, .. }) if scalars & BOOL != 0 => {}
        (Value::Null, Shape { scalars, .. }) if scalars & NULL != 0 => {}
        _ => {
            let message = format!("expected {}, found {}", shape.expected(), node.kind());
            let reported = report.error(node.at, path, message);
            if shape.scalars & TEXT != 0
                && let Some(text) = node.scalar_text()
            {
                reported.hint(format!("put it in quotes: \"{text}\""));
            }
        }
    }
}

fn mapping(map: &Map, fields: &Fields, path: &Path<'_>, report: &mut Report) {
    for (name, entry) in map {
        let path = path.key(name);
        match fields {
            Fields::Any(shape) => value(&entry.node, shape, &path, report),
            Fields::Names(shape) => {
                if is_name(name) {
                    value(&entry.node, shape, &path, report);
                } else {
                    let message = "names consist of letters, digits, `.`, `_` and `-`";
                    report.error(entry.key_at, &path, message);
                }
            }
            Fields::Keys(_) if name.starts_with("x-") => {}
            Fields::Free => {}
            Fields::Keys(keys) => match keys.iter().find(|key| key.name == name) {
                Some(key) => value(&entry.node, key.shape, &path, report),
                None => {
                    let known = keys.iter().map(|key| key.name).filter(|_| !report.is_full());
                    let hint = suggest::nearest(name, known);
                    let reported = report.error(entry.key_at, &path, "unknown key");
                    if let Some(near) = hint {
                        reported.hint(format!("did you mean `{near}`?"));
                    }
                }
            },
        }
    }
}

/// Reports every key of a merged tree that is not run, unless its value says nothing.
pub(crate) fn refuse(root: &Node, report: &mut Report) {
    refused(root, &keys::FILE, &Path::Root, report);
}

fn refused(node: &Node, shape: &Shape, path: &Path<'_>, report: &mut Report) {
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(shape) = shape.list {
                    refused(item, shape, &path.index(index), report);
                }
            }
        }
        Value::Map(map) => {
            for (name, entry) in map {
                let path = path.key(name);
                match shape.fields {
                    Some(Fields::Names(shape) | Fields::Any(shape)) => {
                        refused(&entry.node, shape, &path, report);
                    }
                    Some(Fields::Keys(keys)) => {
                        let Some(key) = keys.iter().find(|key| key.name == name) else { continue };
                        match key.state {
                            _ if says_nothing(&entry.node) => {}
                            State::Refused(reason) => report.refuse(entry.key_at, &path, reason),
                            State::Runs | State::Limit(_) | State::Build(_) => {
                                refused(&entry.node, key.shape, &path, report);
                            }
                        }
                    }
                    Some(Fields::Free) | None => {}
                }
            }
        }
        _ => {}
    }
}

fn says_nothing(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Names become folders on the device (`volumes/<name>`): `.` and `..` would be other folders.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
