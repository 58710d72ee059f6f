//! `inspect`: what is inside this file.

use anyhow::Result;
use serde::Serialize;
use std::fmt::Write as _;

use super::super::SUCCESS;
use super::super::args::Format;
use super::super::output::{self, Table, bytes};
use crate::payload::Executable;

#[derive(Debug, Serialize)]
struct Report {
    application: String,
    builder: String,
    payload: String,
    /// Bytes of the file, of the program in it, of the compressed content.
    size: Sizes,
    platforms: Vec<String>,
    images: Vec<Image>,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Sizes {
    file: u64,
    program: u64,
    /// Content as stored.
    stored: u64,
    /// Content uncompressed, each piece once.
    unique: u64,
    /// All layers as tars, as often as images name them.
    layers: u64,
}

#[derive(Debug, Serialize)]
struct Image {
    reference: String,
    platform: String,
    digest: String,
    services: Vec<String>,
    layers: Vec<String>,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Layer {
    diff_id: String,
    size: u64,
    used_by: usize,
}

/// `inspect`
pub(crate) fn run(format: Format) -> Result<u8> {
    let executable = Executable::own()?;
    let report = report(&executable)?;
    if format.json() {
        output::print_json(&report)?;
    } else {
        output::print(&text(&report));
    }
    Ok(SUCCESS)
}

fn report(executable: &Executable) -> Result<Report> {
    let (application, index) = (executable.application(), executable.payload().index());
    let size_of = |layer| index.layer(layer).map_or(0, |layer| layer.tar_length);
    let images: Vec<Image> = application
        .images
        .iter()
        .map(|image| Image {
            reference: image.reference.clone(),
            platform: image.platform.to_string(),
            digest: image.digest.to_string(),
            services: image.services.clone(),
            layers: image.layers.iter().map(ToString::to_string).collect(),
            size: image.layers.iter().map(size_of).sum(),
        })
        .collect();
    let mut platforms: Vec<String> = images.iter().map(|image| image.platform.clone()).collect();
    platforms.sort();
    platforms.dedup();
    let used_by = |layer| application.images.iter().filter(|image| image.layers.contains(layer)).count();
    Ok(Report {
        application: application.name.clone(),
        builder: application.builder.clone(),
        payload: executable.payload().digest().to_string(),
        size: Sizes {
            file: executable.payload().source().metadata()?.len(),
            program: executable.program_length(),
            stored: index.frames().iter().map(|frame| u64::from(frame.stored_length)).sum(),
            unique: index.frames().iter().map(|frame| u64::from(frame.raw_length)).sum(),
            layers: images.iter().map(|image| image.size).sum(),
        },
        layers: index
            .layers()
            .iter()
            .map(|layer| Layer {
                diff_id: layer.diff_id.to_string(),
                size: layer.tar_length,
                used_by: used_by(&layer.diff_id),
            })
            .collect(),
        platforms,
        images,
    })
}

fn text(report: &Report) -> String {
    let size = &report.size;
    let mut text = String::new();
    let _ = writeln!(text, "application  {} (built by dpack {})", report.application, report.builder);
    let _ = writeln!(text, "payload      {}", report.payload);
    let _ = writeln!(text, "platforms    {}", report.platforms.join(", "));
    let _ = writeln!(
        text,
        "size         {} = {} program + {} content ({} before compression, {} as layers)\n",
        bytes(size.file),
        bytes(size.program),
        bytes(size.stored),
        bytes(size.unique),
        bytes(size.layers)
    );
    let mut images = Table::new(&["IMAGE", "PLATFORM", "DIGEST", "SERVICES", "LAYERS", "SIZE"]);
    for image in &report.images {
        let layers = image.layers.len().to_string();
        let services = image.services.join(",");
        images.row([
            image.reference.clone(),
            image.platform.clone(),
            short(&image.digest),
            services,
            layers,
            bytes(image.size),
        ]);
    }
    let mut layers = Table::new(&["LAYER", "SIZE", "USED BY"]);
    for layer in &report.layers {
        let images =
            if layer.used_by == 1 { "1 image".to_owned() } else { format!("{} images", layer.used_by) };
        layers.row([short(&layer.diff_id), bytes(layer.size), images]);
    }
    let _ = write!(text, "{images}\n{layers}");
    text
}

fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
