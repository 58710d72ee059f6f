//! From a [`Model`] to a [`Project`]: variables, long forms, merge, defaults, checks. The same on both sides.

pub(crate) mod variables;

use std::collections::BTreeMap;

use serde_json::Value as Json;

pub use self::variables::Used;
use self::variables::Variables;
use crate::assemble::{Assembly, Wanted};
use crate::diagnostic::Report;
use crate::diagnostic::{Diagnostic, Errors};
use crate::environment::Environment;
use crate::model::{self, EnvironmentFile, Model};
use crate::node::{Node, Value};
use crate::project::{FileSource, Project};
use crate::substitute::Lookup as _;
use crate::{env_files, name, normalise, profiles, references, render, schema, typed};

/// An application with every variable filled in.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The checked result.
    pub project: Project,
    /// Things to look at that do not stop us.
    pub warnings: Vec<Diagnostic>,
    /// The variables the files refer to.
    pub variables: BTreeMap<String, Used>,
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

/// Reads a file of the device by its absolute path (or one below `~`): its text, nothing if there is none, or what went
/// wrong.
pub type Device<'a> = dyn Fn(&str) -> Result<Option<String>, String> + 'a;

/// How to resolve a model.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// What cannot be run is a warning and not an error: for those who only want to see the model.
    pub lenient: bool,
    /// Profiles that are active besides those of `COMPOSE_PROFILES`.
    pub profiles: &'a [String],
    /// Services that were asked for by name: their profiles are active, too, as in Docker Compose.
    pub services: &'a [String],
    /// Every service is active, whatever its profiles.
    pub all_profiles: bool,
    /// Reads files of the device; without it there are none.
    pub device: Option<&'a Device<'a>>,
}

/// Fills in the variables of a model, merges its files and checks the result.
///
/// # Errors
/// Every mistake found, up to [`crate::diagnostic::LIMIT`].
pub fn interpolate(model: &Model, environment: &Environment) -> Result<Resolved, Errors> {
    interpolate_with(model, environment, &Options::default())
}

/// The same, with options.
///
/// # Errors
/// Every mistake found, up to [`crate::diagnostic::LIMIT`].
pub fn interpolate_with(
    model: &Model,
    environment: &Environment,
    options: &Options<'_>,
) -> Result<Resolved, Errors> {
    let report = model.report().lenient(options.lenient);
    let stage = assembled(model, environment, options, report)?;
    let Assembled { name, mut canonical, mut variables, wanted, mut report } = stage;
    for wanted in wanted.iter().filter(|wanted| !wanted.optional) {
        let message = format!("`{}` was not there when this was built", wanted.path);
        report.error_at(wanted.at, wanted.keys.clone(), message);
    }
    let active = profiles::active(model, &variables, options);
    let inactive = profiles::inactive(&canonical, active, options.services);
    let mut report = report.checkpoint()?.without(&inactive);
    schema::refuse(&canonical, &mut report);
    let mut report = report.checkpoint()?;
    normalise::project(&mut canonical, &name, &mut variables);
    let mut project = typed::project(&canonical, &name, &mut report);
    for object in project.configs.values_mut().chain(project.secrets.values_mut()) {
        if let FileSource::Environment { variable, value } = &mut object.source {
            *value = variables.get(variable);
        }
    }
    profiles::set_aside(&mut project, &mut canonical, &inactive);
    references::check(&project, &canonical, &mut report);
    if !model.embedded {
        references::images(&project, &canonical, &mut report);
    }
    let files = report.files.clone();
    let warnings = report.finish()?;
    let mut used = references::used(&project);
    used.extend(references::used_by_builds(&canonical));
    project.networks.retain(|key, _| used.contains(&("networks", key.clone())));
    project.volumes.retain(|key, _| used.contains(&("volumes", key.clone())));
    project.configs.retain(|key, _| used.contains(&("configs", key.clone())));
    project.secrets.retain(|key, _| used.contains(&("secrets", key.clone())));
    normalise::drop_unused(&mut canonical, &used);
    Ok(Resolved { project, warnings, variables: variables.used, canonical, files })
}

/// The files of a project that do not travel with the model yet.
#[cfg(feature = "yaml")]
pub(crate) fn wanted(model: &Model, environment: &Environment) -> Result<Vec<Wanted>, Errors> {
    assembled(model, environment, &Options::default(), model.report()).map(|stage| stage.wanted)
}

/// One tree, and what it took.
struct Assembled {
    name: String,
    canonical: Node,
    variables: Variables,
    wanted: Vec<Wanted>,
    report: Report,
}

fn assembled(
    model: &Model,
    environment: &Environment,
    options: &Options<'_>,
    mut report: Report,
) -> Result<Assembled, Errors> {
    let mut environment = environment.clone();
    for EnvironmentFile { file, text } in &model.environment {
        environment.add_embedded(file, text).map_err(|error| error.in_file(file))?;
    }
    let mut variables = Variables::new(environment);
    let name = name::resolve(model, &mut variables, &mut report);
    variables.set_project_name(&name);
    let mut assembly = Assembly::new(model, &mut variables, &mut report);
    let mut canonical = assembly.project();
    if let Some(tree) = &mut canonical {
        env_files::resolve(tree, &mut assembly, options.device);
    }
    let wanted = assembly.wanted;
    let report = report.checkpoint()?;
    let canonical = canonical.unwrap_or_else(|| Node::new(Value::Null, Default::default()));
    Ok(Assembled { name, canonical, variables, wanted, report })
}
