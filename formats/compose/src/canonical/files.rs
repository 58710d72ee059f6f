//! Short forms of `env_file`, `configs` and `secrets`.

use crate::diagnostic::{Path, Report};
use crate::node::{Map, Node, Value, insert};
use crate::short::mount;

/// A path becomes `{path, required}`.
pub(crate) fn env_file(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    let at = node.at;
    if let Value::Text(path) = &node.value {
        let mut fields = Map::new();
        insert(&mut fields, "path", Node::text(path.clone(), at));
        node.value = Value::Map(fields);
    }
    if let Value::Map(fields) = &mut node.value
        && !fields.contains_key("required")
    {
        insert(fields, "required", Node::new(Value::Bool(true), at));
    }
}

/// A name becomes `{source}`.
pub(crate) fn mount(node: &mut Node, _: &Path<'_>, _: &mut Report) {
    let at = node.at;
    if let Value::Text(source) = &node.value {
        let mut fields = Map::new();
        insert(&mut fields, "source", Node::text(source.clone(), at));
        node.value = Value::Map(fields);
    }
}

/// A file mode becomes octal digits, which is how Compose prints it. YAML has read `0440` as a number already.
pub(crate) fn mode(node: &mut Node, path: &Path<'_>, report: &mut Report) {
    let mode = match &node.value {
        Value::Text(text) => mount::mode(text),
        Value::Number(number) => {
            let mode = number.as_u64().and_then(|mode| u32::try_from(mode).ok());
            mode.filter(|mode| *mode <= 0o7777).ok_or_else(|| format!("`{number}` is not a file mode"))
        }
        _ => return,
    };
    match mode {
        Ok(mode) => node.value = Value::Text(format!("0{mode:o}")),
        Err(message) => {
            report.error(node.at, path, message);
        }
    }
}
