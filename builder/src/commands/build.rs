//! `dpack build`: paths of the executables on standard output, a summary on standard error.

use anyhow::Result;
use dpack::build;
use dpack::project_files;
use dpack::report::{ExecutableReport, ImageReport, Report};
use dpack_payload::application::PROJECT_FILES;

use crate::args::{BuildArguments, ListFormat};
use crate::settings::{self, Environment};
use crate::text::{message, percent, print, print_json, size, table};
use crate::{progress, signals};

/// So many files are listed; all of them are in `--format json`.
const SHOWN: usize = 20;

pub(crate) fn run(arguments: &BuildArguments, environment: &Environment) -> Result<()> {
    let options = settings::build(arguments, environment)?;
    let files = settings::project_files(arguments)?;
    let mut application = super::load(&settings::compose(&arguments.compose, environment))?;
    let (travelling, warnings) =
        project_files::collect(&application.resolved, &application.project_dir, &files)
            .map_err(build::Error::from)?;
    super::show(&warnings);
    application.travelling = travelling;
    let cancel = signals::cancel_on_signal();
    let reporter = progress::reporter(arguments.quiet, environment.colours());
    let report = dpack::build::build(&application, &options, reporter, &cancel)?;
    if !arguments.quiet {
        message(&summary(&report));
    }
    match arguments.format {
        ListFormat::Json => print_json(&report),
        ListFormat::Text => {
            let paths =
                report.executables.iter().map(|executable| format!("{}\n", executable.path.display()));
            print(&paths.collect::<String>())
        }
    }
}

fn summary(report: &Report) -> String {
    let mut rows = Vec::new();
    for executable in &report.executables {
        for image in &executable.images {
            rows.push(vec![
                services(image),
                executable.platform.to_string(),
                image.reference.clone(),
                size(image.pulled_size),
                size(image.registry_size - image.pulled_size.min(image.registry_size)),
                image.layers.to_string(),
                size(image.layers_size),
                size(image.layers_size - image.unique_size.min(image.layers_size)),
                size(image.stored_size),
            ]);
        }
    }
    let head =
        ["SERVICE", "PLATFORM", "IMAGE", ">PULLED", ">CACHED", ">LAYERS", ">SIZE", ">DEDUPED", ">COMPRESSED"];
    let mut text = format!("\n{}\n", table(&head, &rows));
    let rows: Vec<_> = report.executables.iter().map(executable).collect();
    text += &table(&["EXECUTABLE", ">SIZE", ">OF LAYERS", ">FRAMES", ">FROM CACHE"], &rows);
    text += &project_files_of(report);
    text += &format!("\nbuilt in {:.1} s\n", report.seconds);
    text
}

/// Who uses an image; the one that carries the project's files is nobody's.
fn services(image: &ImageReport) -> String {
    if image.reference == PROJECT_FILES { "(files)".to_owned() } else { image.services.join(", ") }
}

/// What travels of the project folder.
fn project_files_of(report: &Report) -> String {
    let files = &report.project_files;
    if files.is_empty() {
        return String::new();
    }
    let total: u64 = files.iter().map(|file| file.size).sum();
    let rows: Vec<_> =
        files.iter().take(SHOWN).map(|file| vec![file.path.clone(), size(file.size)]).collect();
    let mut text = format!("\n{}", table(&["PROJECT FILE", ">SIZE"], &rows));
    if files.len() > SHOWN {
        text += &format!("and {} more, {} together\n", files.len() - SHOWN, size(total));
    }
    text
}

fn executable(report: &ExecutableReport) -> Vec<String> {
    vec![
        report.path.display().to_string(),
        size(report.size),
        percent(report.size, report.layers_size),
        report.frames.to_string(),
        report.frames_cached.to_string(),
    ]
}
