//! From a [`Model`] to a [`Project`]: variables, long forms, merge, defaults, checks. The same on both sides.

pub(crate) mod variables;

use std::collections::BTreeMap;

use serde_json::Value as Json;

use self::variables::Variables;
use crate::diagnostic::{Diagnostic, Errors};
use crate::environment::{Environment, Variable};
use crate::model::{self, EnvironmentFile, Model};
use crate::node::Node;
use crate::project::Project;
use crate::{canonical, merge, name, normalise, references, render, typed};

/// An application with every variable filled in.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The checked result.
    pub project: Project,
    /// Things to look at that do not stop us.
    pub warnings: Vec<Diagnostic>,
    /// The variables the files refer to; nothing for those that are not set.
    pub variables: BTreeMap<String, Option<Variable>>,
    canonical: Node,
    files: Vec<String>,
}

impl Resolved {
    /// The application as `docker compose config --format json` prints it.
    pub fn to_json(&self) -> Json {
        render::escape(model::to_json(&self.canonical))
    }

    /// A finding of a later stage about a value, as `["services", "web", "image"]`, with the place where it stands.
    pub fn diagnostic(&self, keys: &[&str], message: impl Into<String>) -> Diagnostic {
        let mut node = &self.canonical;
        for key in keys {
            match node.get(key) {
                Some(value) => node = value,
                None => break,
            }
        }
        Diagnostic {
            file: self.files.get(usize::from(node.at.file)).cloned(),
            line: node.at.line,
            column: node.at.column,
            path: keys.join("."),
            message: message.into(),
            hint: None,
        }
    }

    /// The application as `docker compose config` prints it.
    pub fn to_yaml(&self) -> String {
        render::yaml(&self.to_json())
    }
}

/// Fills in the variables of a model, merges its files and checks the result.
///
/// # Errors
/// Every mistake found, up to [`crate::diagnostic::LIMIT`].
pub fn interpolate(model: &Model, environment: &Environment) -> Result<Resolved, Errors> {
    let mut report = model.report();
    let mut environment = environment.clone();
    for EnvironmentFile { file, text } in &model.environment {
        environment.add_embedded(file, text).map_err(|error| error.in_file(file))?;
    }
    let mut variables = Variables::new(environment);
    let name = name::resolve(model, &mut variables, &mut report);
    variables.set_project_name(&name);

    let mut layers: Vec<Node> = model.layers.iter().map(|layer| layer.root.clone()).collect();
    for layer in &mut layers {
        variables::fill(layer, &mut variables, &mut report);
    }
    // A stage starts when the one before found nothing: half a value only leads to further errors.
    let mut report = report.checkpoint()?;
    for layer in &mut layers {
        canonical::layer(layer, &mut report);
    }
    let mut report = report.checkpoint()?;
    let mut canonical = merge::merge(layers, &mut report);
    let mut report = report.checkpoint()?;
    normalise::project(&mut canonical, &name, &mut variables);
    let mut project = typed::project(&canonical, &name, &mut report);
    references::check(&project, &canonical, &mut report);
    let files = report.files.clone();
    let warnings = report.finish()?;
    let used = references::used(&project);
    project.networks.retain(|key, _| used.contains(&("networks", key.clone())));
    project.volumes.retain(|key, _| used.contains(&("volumes", key.clone())));
    normalise::drop_unused(&mut canonical, &used);
    Ok(Resolved { project, warnings, variables: variables.used, canonical, files })
}
