//! Prints a project as `docker compose config` does: `config [-f FILE]… [--json]` in the project's folder.
//!
//! For comparing this crate with Docker Compose.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use dpack_compose::{Environment, Errors, LoadOptions, Model, Resolved};

fn main() -> std::process::ExitCode {
    let mut options = LoadOptions { working_dir: ".".into(), ..LoadOptions::default() };
    let mut json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-f" => options.files.extend(arguments.next().map(Into::into)),
            "--json" => json = true,
            other => options.working_dir = other.into(),
        }
    }
    match resolve(&options) {
        Ok(resolved) => {
            for warning in &resolved.warnings {
                eprintln!("warning: {warning}");
            }
            if json {
                println!("{}", resolved.to_json())
            } else {
                print!("{}", resolved.to_yaml())
            }
            std::process::ExitCode::SUCCESS
        }
        Err(errors) => {
            for error in &errors {
                eprintln!("error: {error}");
                if let Some(hint) = &error.hint {
                    eprintln!("hint: {hint}");
                }
            }
            std::process::ExitCode::FAILURE
        }
    }
}

/// As the builder and then the runner do it, which has nothing of `build`.
fn resolve(options: &LoadOptions) -> Result<Resolved, Errors> {
    let loaded = dpack_compose::load(options)?;
    let environment = Environment::new(std::env::vars());
    let resolved = dpack_compose::interpolate(&loaded.model, &environment)?;
    let on_device = dpack_compose::interpolate(&Model::from_json(&loaded.model.to_json())?, &environment)?;
    let mut project = resolved.project.clone();
    project.services.values_mut().for_each(|service| service.build = None);
    assert!(project == on_device.project, "the model that travels is another one");
    Ok(resolved)
}
