//! Finding and reading the files of a project.

use std::fs::File;
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use crate::assemble::{Kind, Wanted};
use crate::diagnostic::{Diagnostic, Errors, Path, Position, Report};
use crate::dotenv;
use crate::environment::Environment;
use crate::interpolate;
use crate::model::{EnvironmentFile, Layer, Model};
use crate::name;
use crate::node::{self, Node};
use crate::schema;
use crate::yaml;

/// Names looked for when no file is given, most wanted first.
const FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// Names of the file merged over it.
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];
/// Variables of the project folder.
const DOTENV: &str = ".env";
/// Largest `.env` file; the parser has the same limit.
const MAX_DOTENV: usize = 1 << 20;
/// Files that a project may refer to.
const MAX_FILES: usize = 1000;

/// What to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Where to look for files, and what relative paths of this struct start from.
    pub working_dir: PathBuf,
    /// Files to merge in this order (`-f`); searched for upwards from the working folder when empty.
    pub files: Vec<PathBuf>,
    /// Folder of the project (`--project-directory`); that of the first file when absent.
    pub project_dir: Option<PathBuf>,
    /// Variable files (`--env-file`) that travel with the model; `.env` of the project folder when absent.
    pub env_files: Option<Vec<PathBuf>>,
    /// Name of the project (`-p`, `COMPOSE_PROJECT_NAME`).
    pub project_name: Option<String>,
    /// Profiles that are active when nothing else says which.
    pub profiles: Vec<String>,
    /// The process environment: `COMPOSE_FILE` and the like, and the names of files that others refer to.
    pub environment: Environment,
}

/// A project as it was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The uninterpolated model.
    pub model: Model,
    /// Folder that relative paths of the project start from.
    pub project_dir: PathBuf,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// Things to look at that do not stop us.
    pub warnings: Vec<Diagnostic>,
}

/// Finds, reads and checks the files of a project.
///
/// # Errors
/// No file, a file that cannot be read or is no YAML, unknown and unsupported keys, values of the wrong kind.
pub fn load(options: &LoadOptions) -> Result<Loaded, Errors> {
    let mut warnings = Vec::new();
    let found = if options.files.is_empty() {
        match listed(options)? {
            Some(files) => files,
            None => search(&options.working_dir, &mut warnings)?,
        }
    } else {
        options.files.clone()
    };
    let paths: Vec<PathBuf> = found.iter().map(|file| options.working_dir.join(file)).collect();
    let first_dir = paths.first().and_then(|file| file.parent()).unwrap_or(&options.working_dir);
    let project_dir = match &options.project_dir {
        Some(dir) => options.working_dir.join(dir),
        None => first_dir.to_owned(),
    };
    if let Some(name) = options.project_name.as_ref().filter(|name| !name::is_valid(name)) {
        let mut error = Diagnostic::about_file("", format!("`{name}` is not a project name"));
        error.file = None;
        return Err(error.with_hint(name::RULE).into());
    }
    let mut texts = Vec::new();
    for (shown, path) in found.iter().zip(&paths) {
        let shown = shown.display().to_string();
        let bytes = read(path, &shown, yaml::MAX_BYTES)?;
        let text = yaml::check_utf8(bytes, &shown)?;
        texts.push((shown, text));
    }
    let folder = folder_name(&project_dir);
    let mut model = Model {
        name: options.project_name.clone(),
        profiles: options.profiles.clone(),
        folder,
        ..Model::default()
    };
    let mut files = paths.clone();
    for (shown, path) in env_files(options, &project_dir) {
        let text = yaml::check_utf8(read(&path, &shown, MAX_DOTENV)?, &shown)?;
        // Values are known on the device only; here the syntax is checked.
        dotenv::parse(&text, |_| Some(String::new()), |_| None).map_err(|error| error.in_file(&shown))?;
        model.environment.push(EnvironmentFile { file: shown, text });
        files.push(path);
    }
    let (mut model, more) = layers(model, &texts)?;
    warnings.extend(more);
    let mut project = Loaded { model: Model::default(), project_dir, files, warnings };
    follow(&mut model, &options.environment, &mut project)?;
    project.model = model;
    Ok(project)
}

/// Files named by `COMPOSE_FILE`, in the process environment or in the working folder's `.env`.
fn listed(options: &LoadOptions) -> Result<Option<Vec<PathBuf>>, Diagnostic> {
    let mut environment = options.environment.clone();
    for (shown, path) in env_files(options, &options.working_dir) {
        let text = yaml::check_utf8(read(&path, &shown, MAX_DOTENV)?, &shown)?;
        environment.add_embedded(&shown, &text).map_err(|error| error.in_file(&shown))?;
    }
    let value =
        |name: &str| environment.get(name).map(|v| v.value.as_str()).filter(|value| !value.is_empty());
    let Some(list) = value("COMPOSE_FILE") else { return Ok(None) };
    let separator = value("COMPOSE_PATH_SEPARATOR").unwrap_or(":");
    let files: Vec<PathBuf> = list.split(separator).filter(|f| !f.is_empty()).map(PathBuf::from).collect();
    Ok(Some(files).filter(|files| !files.is_empty()))
}

/// Reads the files that the model refers to, and those that they refer to, until there are no more. What is wrong with the
/// model itself is left for `interpolate` to say.
fn follow(model: &mut Model, environment: &Environment, project: &mut Loaded) -> Result<(), Errors> {
    loop {
        let Ok(wanted) = interpolate::wanted(model, environment) else { return Ok(()) };
        if wanted.is_empty() {
            return Ok(());
        }
        for Wanted { path, kind, at, keys, optional } in wanted {
            if model.others.len() + model.texts.len() >= MAX_FILES {
                let mut report = model.report();
                report.error_at(at, keys, format!("more than {MAX_FILES} files are referred to"));
                return report.finish().map(|_| ());
            }
            let file = project.project_dir.join(&path);
            let failed = |mut error: Diagnostic| {
                let place = model.report().place(at);
                (error.file, error.line, error.column) = (place.file, place.line, place.column);
                error.path.clone_from(&keys);
                error.message = format!("`{path}`: {}", error.message);
                Errors::from(error)
            };
            match kind {
                Kind::Text if !file.is_file() && (optional || !file.exists()) => {
                    model.texts.insert(path.clone(), None);
                    continue;
                }
                Kind::Text => {
                    let bytes = read(&file, &path, MAX_DOTENV).map_err(failed)?;
                    model.texts.insert(path.clone(), Some(yaml::check_utf8(bytes, &path)?));
                }
                Kind::Compose => {
                    let bytes = read(&file, &path, yaml::MAX_BYTES).map_err(failed)?;
                    project.warnings.extend(other(model, &path, &yaml::check_utf8(bytes, &path)?)?);
                }
            }
            project.files.push(file);
        }
    }
}

/// Adds a Compose file that is extended or included.
fn other(model: &mut Model, path: &str, text: &str) -> Result<Vec<Diagnostic>, Errors> {
    let mut report = model.report();
    let file = u16::try_from(report.files.len()).unwrap_or(u16::MAX - 1);
    report.files.push(path.to_owned());
    let documents = yaml::parse(text, file, &mut report).unwrap_or_default();
    let mut layers = Vec::new();
    for root in documents.into_iter().filter(|node| !node.is_null()) {
        let number = usize::from(file) + layers.len();
        layers.push(Layer { file: path.to_owned(), root: node::renumbered(root, number) });
        report.files.push(path.to_owned());
    }
    if layers.is_empty() {
        report.error(Position { file, ..Position::default() }, &Path::Root, "the file is empty");
    }
    let mut report = report.checkpoint()?;
    schema::check(&layers, &mut report);
    let warnings = report.finish()?;
    model.others.extend(layers);
    Ok(warnings)
}

/// Reads a project from text: pairs of file name and content. Nothing is looked for.
///
/// # Errors
/// As for [`load`].
pub fn parse(folder: &str, files: &[(String, String)]) -> Result<(Model, Vec<Diagnostic>), Errors> {
    layers(Model { folder: folder.to_owned(), ..Model::default() }, files)
}

fn layers(mut model: Model, texts: &[(String, String)]) -> Result<(Model, Vec<Diagnostic>), Errors> {
    let mut report = Report::default();
    for (shown, text) in texts {
        let file = u16::try_from(report.files.len()).unwrap_or(u16::MAX - 1);
        report.files.push(shown.clone());
        let documents = yaml::parse(text, file, &mut report);
        let Some(documents) = documents else { continue };
        if documents.iter().all(Node::is_null) {
            let at = Position { file, ..Position::default() };
            report.error(at, &Path::Root, "the file is empty");
        }
        for (index, root) in documents.into_iter().filter(|node| !node.is_null()).enumerate() {
            // Layers and files of a report have the same numbers.
            let root = if index == 0 { root } else { node::renumbered(root, report.files.len()) };
            if index > 0 {
                report.files.push(shown.clone());
            }
            model.layers.push(Layer { file: shown.clone(), root });
        }
    }
    let mut report = report.checkpoint()?;
    schema::check(&model.layers, &mut report);
    for layer in &model.layers {
        if let Some(version) = layer.root.as_map().and_then(|map| map.get("version")) {
            let path = Path::Root.key("version");
            report.warn(version.key_at, &path, "obsolete, it is ignored").hint("remove it");
        }
    }
    let warnings = report.finish()?;
    Ok((model, warnings))
}

/// Looks for a Compose file in the folder and those above it, and for the file merged over it beside it.
fn search(dir: &FilePath, warnings: &mut Vec<Diagnostic>) -> Result<Vec<PathBuf>, Diagnostic> {
    for (depth, folder) in dir.ancestors().enumerate() {
        let present = |names: &[&str]| -> Vec<String> {
            names.iter().filter(|name| folder.join(name).is_file()).map(|name| (*name).to_owned()).collect()
        };
        let found = present(&FILES);
        let Some(file) = found.first() else { continue };
        let overrides = present(&OVERRIDES);
        for others in [&found, &overrides] {
            if let [used, _, ..] = others.as_slice() {
                let message =
                    format!("several files could be meant ({}), `{used}` is used", others.join(", "));
                warnings.push(Diagnostic::about_file(used.as_str(), message));
            }
        }
        let above: PathBuf = std::iter::repeat_n("..", depth).collect();
        return Ok([Some(file), overrides.first()]
            .into_iter()
            .flatten()
            .map(|name| above.join(name))
            .collect());
    }
    let message = format!("no Compose file here or in a folder above, looked for {}", FILES.join(", "));
    let shown = dir.display().to_string();
    Err(Diagnostic::about_file(shown, message).with_hint("name one with `-f FILE`"))
}

/// Variable files to read, as shown and as opened.
fn env_files(options: &LoadOptions, project_dir: &FilePath) -> Vec<(String, PathBuf)> {
    match &options.env_files {
        Some(files) => {
            files.iter().map(|file| (file.display().to_string(), options.working_dir.join(file))).collect()
        }
        None if options.environment.get("COMPOSE_ENV_FILES").is_some_and(|v| !v.value.is_empty()) => {
            let list =
                options.environment.get("COMPOSE_ENV_FILES").map(|v| v.value.clone()).unwrap_or_default();
            list.split(',').map(|file| (file.to_owned(), options.working_dir.join(file))).collect()
        }
        None => Some(project_dir.join(DOTENV))
            .filter(|path| path.is_file())
            .map(|path| (DOTENV.to_owned(), path))
            .into_iter()
            .collect(),
    }
}

/// Reads a file, but not more than `limit` bytes.
fn read(path: &FilePath, shown: &str, limit: usize) -> Result<Vec<u8>, Diagnostic> {
    let failed = |error: std::io::Error| Diagnostic::about_file(shown, format!("failed to read: {error}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(Diagnostic::about_file(shown, format!("larger than {} MiB", limit >> 20)));
    }
    Ok(bytes)
}

/// The last component, also when the folder is given as `.` or `..`.
fn folder_name(dir: &FilePath) -> String {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let whole = whole.canonicalize().unwrap_or(whole);
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
