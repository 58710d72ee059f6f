//! `dpack inspect`.

use anyhow::Result;
use dpack::inspect::{Inspection, inspect};

use crate::args::{InspectArguments, ListFormat};
use crate::text::{percent, print, print_json, size, table};

pub(crate) fn run(arguments: &InspectArguments) -> Result<()> {
    let inspection = inspect(&arguments.file)?;
    match arguments.format {
        ListFormat::Json => print_json(&inspection),
        ListFormat::Text => print(&describe(&inspection)),
    }
}

fn describe(inspection: &Inspection) -> String {
    let platforms: Vec<String> = inspection.platforms.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for (name, value) in [
        ("project", inspection.project.clone()),
        ("platforms", platforms.join(", ")),
        (
            "size",
            format!("{}, of which {} are the runner", size(inspection.size), size(inspection.runner_size)),
        ),
        ("digest", inspection.digest.to_string()),
        ("built by", format!("dpack {}", inspection.builder)),
    ] {
        text += &format!("{name:<10} {value}\n");
    }
    let services = inspection
        .services
        .iter()
        .map(|(service, image)| vec![service.clone(), image.clone()])
        .collect::<Vec<_>>();
    text += &format!("\n{}", table(&["SERVICE", "IMAGE"], &services));
    let images = inspection.images.iter().map(|image| {
        vec![
            image.reference.clone(),
            image.platform.to_string(),
            image.layers.len().to_string(),
            size(image.size),
            image.digest.to_string(),
        ]
    });
    text += &format!(
        "\n{}",
        table(&["IMAGE", "PLATFORM", ">LAYERS", ">SIZE", "DIGEST"], &images.collect::<Vec<_>>())
    );
    let layers = inspection.layers.iter().map(|layer| {
        vec![
            layer.diff_id.to_string(),
            layer.images.to_string(),
            layer.files.to_string(),
            size(layer.size),
            size(layer.unique_size),
        ]
    });
    text += &format!(
        "\n{}",
        table(&["LAYER (DIFF ID)", ">IMAGES", ">FILES", ">SIZE", ">UNIQUE"], &layers.collect::<Vec<_>>())
    );
    let totals = &inspection.totals;
    let rows = [
        ("images", totals.images_size),
        ("layers, each once", totals.layers_size),
        ("unique content", totals.unique_size),
        ("compressed", totals.stored_size),
    ]
    .map(|(name, bytes)| vec![name.to_owned(), size(bytes), percent(bytes, totals.images_size)]);
    text += &format!("\n{}", table(&["DEDUPLICATION", ">SIZE", ">OF IMAGES"], &rows));
    text += &format!("\n{} chunks in {} frames\n", totals.chunks, totals.frames);
    text
}
