//! One module for each command. A command calls the library and prints what it says.

pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod extract;
pub(crate) mod inspect;
pub(crate) mod version;

use dpack::compose::{self, Application};
use dpack_compose::{Diagnostic, Errors};

use crate::text::message;

/// Loads the Compose files and shows what there is to look at.
fn load(options: &compose::Options) -> Result<Application, Errors> {
    let application = compose::run(options)?;
    show(&application.warnings);
    Ok(application)
}

/// Shows what there is to look at.
fn show(warnings: &[Diagnostic]) {
    for warning in warnings {
        message(&format!("warning: {warning}\n"));
        if let Some(hint) = &warning.hint {
            message(&format!("hint: {hint}\n"));
        }
    }
}
