//! The project's name, which is in the name of every container, network and volume.

use crate::diagnostic::{Path, Position, Report};
use crate::environment::Source;
use crate::interpolate::variables::Variables;
use crate::model::Model;

const VARIABLE: &str = "COMPOSE_PROJECT_NAME";
pub(crate) const RULE: &str = "use lower-case letters, digits, `-` and `_`, and start with a letter or digit";

/// The name, from the first that has one: `COMPOSE_PROJECT_NAME` on the device, the name given at build time,
/// `COMPOSE_PROJECT_NAME` in an embedded `.env`, the last `name:` of the files, the project folder.
pub(crate) fn resolve(model: &Model, variables: &mut Variables, report: &mut Report) -> String {
    let variable = variables.peek(VARIABLE).filter(|variable| !variable.value.is_empty());
    let embedded = variable.is_some_and(|variable| matches!(variable.source, Source::Embedded(_)));
    let variable = variable.map(|variable| variable.value.clone());
    let given = if embedded { model.name.clone().or(variable) } else { variable.or(model.name.clone()) };
    if let Some(name) = given {
        // Not a place in a file.
        let at = Position { file: u16::MAX, ..Position::default() };
        check(&name, at, &Path::Root, report);
        return name;
    }
    let path = Path::Root.key("name");
    let written = model.layers.iter().rev().find_map(|layer| layer.root.get("name"));
    if let Some(node) = written {
        let name = variables.fill(node, &path, report).unwrap_or_default();
        check(&name, node.at, &path, report);
        return name;
    }
    let name = from_folder(&model.folder);
    if name.is_empty() {
        let at = Position { file: u16::MAX, ..Position::default() };
        let message = format!("the folder's name `{}` makes no project name", model.folder);
        report.error(at, &Path::Root, message).hint("give one with `-p NAME` or `name:`");
    }
    name
}

fn check(name: &str, at: Position, path: &Path<'_>, report: &mut Report) {
    if !is_valid(name) {
        report.error(at, path, format!("`{name}` is not a project name")).hint(RULE);
    }
}

/// Whether this can be a project's name.
pub fn is_valid(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

/// What Compose makes of a folder's name.
fn from_folder(folder: &str) -> String {
    // The two letters beyond ASCII whose lower case is of it; `str::to_lowercase` has tables for all the others.
    let lower = |letter: char| match letter {
        '\u{130}' => 'i',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    let kept = folder
        .chars()
        .map(lower)
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    kept.collect::<String>().trim_start_matches(['-', '_']).to_owned()
}
