//! The first stage: from Compose files to the model that travels and the project it means here.

use std::path::PathBuf;

use dpack_compose::project::{Mount, MountSource};
use dpack_compose::{Diagnostic, Environment, Errors, LoadOptions, Resolved, interpolate_with, load};

use crate::project_files::ProjectFiles;

/// Services that look for a Docker Engine: proxies, updaters and panels, which would see nothing of this application.
fn engine_sockets(resolved: &Resolved) -> impl Iterator<Item = Diagnostic> {
    let is_socket = |mount: &Mount| {
        let MountSource::Bind { source, .. } = &mount.source else { return false };
        matches!(source.as_str(), "/var/run/docker.sock" | "/run/docker.sock")
    };
    let services = resolved.project.services.iter();
    let ask = services.filter(move |(_, service)| service.volumes.iter().any(is_socket));
    ask.map(|(name, _)| {
        let message = "a Docker Engine is asked for, of which the device may have none; one that it has does not \
                       know these containers";
        resolved.diagnostic(&["services", name, "volumes"], message)
    })
}

/// Without its services, those of profiles, the application is right.
const PROFILES: &str =
    "services of all profiles travel; --profile NAME carries those of one only, --profile '' of none";

/// What to load, and with which variables.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Files, folders and name.
    pub load: LoadOptions,
    /// The process environment: it decides which images are meant.
    pub variables: Vec<(String, String)>,
    /// Profiles whose services are meant; when building without any, those of all profiles travel.
    pub profiles: Vec<String>,
    /// The model is only looked at: what cannot be run is a warning.
    pub show_only: bool,
}

/// A checked application.
#[derive(Clone, Debug)]
pub struct Application {
    /// The uninterpolated model, as it is embedded.
    pub model: serde_json::Value,
    /// The project, with the variables as they are here.
    pub resolved: Resolved,
    /// Folder that relative paths start from.
    pub project_dir: PathBuf,
    /// Files of it that travel, once they are collected.
    pub travelling: ProjectFiles,
    /// Every file that was read.
    pub files: Vec<PathBuf>,
    /// Things to look at that do not stop us.
    pub warnings: Vec<Diagnostic>,
}

/// Loads and checks all of it: also what matters only on the device, so that mistakes are found here.
pub fn run(options: &Options) -> Result<Application, Errors> {
    let loaded = load(&options.load)?;
    let environment = Environment::new(options.variables.iter().cloned());
    let shown = dpack_compose::Options {
        lenient: options.show_only,
        profiles: &options.profiles,
        ..dpack_compose::Options::default()
    };
    // What `up` means without further words must be right, and so must all that can be activated.
    let mut resolved = interpolate_with(&loaded.model, &environment, &shown)?;
    if !options.show_only && options.profiles.is_empty() {
        let all = dpack_compose::Options { all_profiles: true, ..shown };
        resolved = interpolate_with(&loaded.model, &environment, &all).map_err(|e| e.or_hint(PROFILES))?;
    }
    let mut warnings = loaded.warnings;
    warnings.extend(resolved.warnings.iter().cloned());
    warnings.extend(engine_sockets(&resolved));
    let mut model = loaded.model.to_json();
    // The folder is only where the name comes from when nothing else says one. Its own name would make the executable
    // depend on where the project lies.
    model["folder"] = resolved.project.name.clone().into();
    Ok(Application {
        model,
        resolved,
        project_dir: loaded.project_dir,
        travelling: ProjectFiles::default(),
        files: loaded.files,
        warnings,
    })
}
