//! Fills variables into a tree and remembers which were asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::diagnostic::{Path, Report};
use crate::environment::{Environment, Variable};
use crate::node::{Node, Value};
use crate::substitute::{self, Lookup};

/// Most bytes that filling in may add up to: a small file and one large variable must not fill the memory.
const MAX_BYTES: usize = 16 << 20;

/// A variable that the files refer to, and what they say about it, as Docker Compose tells it: of several references, the
/// last one that does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Used {
    /// What it is; nothing when it is not set.
    pub variable: Option<Variable>,
    /// `${V:?}`, `${V?}`
    #[serde(skip)]
    pub required: bool,
    /// The `d` of `${V:-d}` and `${V-d}`, as it is written.
    #[serde(skip)]
    pub default: String,
    /// The `x` of `${V:+x}` and `${V+x}`, as it is written.
    #[serde(skip)]
    pub alternate: String,
}

/// The variables and which of them were used.
pub(crate) struct Variables {
    pub(crate) environment: Environment,
    pub(crate) used: BTreeMap<String, Used>,
    /// Those that were not set where a plain reference stood, since the last look.
    unset: Vec<String>,
    /// Those the user was told about; once is enough.
    told: BTreeSet<String>,
    bytes: usize,
}

impl Variables {
    pub(crate) fn new(environment: Environment) -> Variables {
        Variables { environment, used: BTreeMap::new(), unset: Vec::new(), told: BTreeSet::new(), bytes: 0 }
    }

    /// A variable that is not asked for by the files.
    pub(crate) fn peek(&self, name: &str) -> Option<&Variable> {
        self.environment.get(name)
    }

    /// Files may refer to the project's name, whatever it was taken from.
    pub(crate) fn set_project_name(&mut self, name: &str) {
        self.environment.set("COMPOSE_PROJECT_NAME", name);
    }

    /// Fills in one string; reports what is wrong with it.
    pub(crate) fn fill(&mut self, node: &Node, path: &Path<'_>, report: &mut Report) -> Option<String> {
        let text = node.as_text()?;
        let result = substitute::substitute(text, self);
        for name in std::mem::take(&mut self.unset) {
            let message = format!("variable `{name}` is not set, an empty string takes its place");
            if self.told.insert(name) {
                report.warn(node.at, path, message);
            }
        }
        match result {
            Ok(text) => {
                self.bytes += text.len();
                if self.bytes > MAX_BYTES {
                    report.error(node.at, path, format!("more than {} MiB of text", MAX_BYTES >> 20));
                    return None;
                }
                if text.contains('\0') {
                    report.error(node.at, path, "contains a NUL byte");
                    return None;
                }
                Some(text)
            }
            Err(error) => {
                let invalid = matches!(error, substitute::SubstituteError::Invalid(_));
                let reported = report.error(node.at, path, error.to_string());
                if invalid {
                    reported.hint("write `$$` for a dollar sign");
                }
                None
            }
        }
    }
}

impl Lookup for Variables {
    fn get(&mut self, name: &str) -> Option<String> {
        let variable = self.environment.get(name);
        if !self.used.contains_key(name) {
            let used = Used { variable: variable.cloned(), ..Used::default() };
            self.used.insert(name.to_owned(), used);
        }
        variable.map(|variable| variable.value.clone())
    }

    fn unset(&mut self, name: &str) {
        self.unset.push(name.to_owned());
    }

    fn refer(&mut self, name: &str, operator: char, argument: &str) {
        // It was looked up just before.
        let Some(used) = self.used.get_mut(name) else { return };
        match operator {
            '?' => used.required = true,
            '-' => argument.clone_into(&mut used.default),
            '+' => argument.clone_into(&mut used.alternate),
            _ => {}
        }
    }
}

/// Fills in all strings of a tree; keys stay as they are.
pub(crate) fn fill(root: &mut Node, variables: &mut Variables, report: &mut Report) {
    visit(root, &Path::Root, variables, report);
}

fn visit(node: &mut Node, path: &Path<'_>, variables: &mut Variables, report: &mut Report) {
    match &mut node.value {
        Value::Text(_) => {
            if let Some(text) = variables.fill(node, path, report) {
                node.value = Value::Text(text);
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                visit(item, &path.index(index), variables, report);
            }
        }
        Value::Map(map) => {
            for (key, entry) in map {
                visit(&mut entry.node, &path.key(key), variables, report);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
