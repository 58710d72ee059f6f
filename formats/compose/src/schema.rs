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
    list: Option<&'static Shape>,
    fields: Option<Fields>,
}

/// What a mapping may hold.
#[derive(Clone, Copy)]
pub(crate) enum Fields {
    /// Keys of the specification.
    Keys(&'static [Key]),
    /// Names chosen by the user for services, networks and volumes.
    Names(&'static Shape),
    /// Anything, as in `environment`.
    Any(&'static Shape),
}

/// A key of the specification.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) state: State,
}

/// What becomes of a key.
pub(crate) enum State {
    /// It is done what it says.
    Supported(&'static Shape),
    /// It means something, but not here, and not yet.
    NotYet,
    /// It is refused, for this reason.
    Refused(&'static str),
}

const TEXT: u8 = 1;
const NUMBER: u8 = 2;
const BOOL: u8 = 4;
const NULL: u8 = 8;

impl Shape {
    const fn scalars(scalars: u8) -> Shape {
        Shape { scalars, list: None, fields: None }
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
            Fields::Keys(keys) => match keys.iter().find(|key| key.name == name) {
                Some(Key { state: State::Supported(shape), .. }) => {
                    value(&entry.node, shape, &path, report);
                }
                Some(Key { state: State::NotYet, .. }) => {
                    report.error(entry.key_at, &path, "not supported yet");
                }
                Some(Key { state: State::Refused(reason), .. }) => {
                    report.error(entry.key_at, &path, *reason);
                }
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

/// Names become folders on the device (`volumes/<name>`): `.` and `..` would be other folders.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
