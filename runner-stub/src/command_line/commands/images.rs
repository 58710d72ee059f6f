//! `images`: what is in this executable for this device.

use anyhow::Result;
use serde::Serialize;

use super::super::SUCCESS;
use super::super::args::Images;
use super::super::output::{self, Table, bytes};
use super::super::settings::Settings;
use crate::plan;

#[derive(Debug, Serialize)]
struct Row {
    services: Vec<String>,
    image: String,
    platform: String,
    digest: String,
    layers: usize,
    /// Bytes of all layers, uncompressed.
    size: u64,
}

/// `images`
pub(crate) fn run(settings: &Settings, arguments: &Images) -> Result<u8> {
    let executable = &settings.executable;
    for service in &arguments.services {
        if !executable.images().any(|image| image.services.contains(service)) {
            let names: Vec<&str> =
                executable.images().flat_map(|image| &image.services).map(String::as_str).collect();
            return Err(plan::no_such_service(service, &names).into());
        }
    }
    let meant = |services: &[String]| {
        arguments.services.is_empty() || services.iter().any(|service| arguments.services.contains(service))
    };
    let rows: Vec<Row> = executable
        .images()
        // The one that carries the project's files is nobody's.
        .filter(|image| !image.services.is_empty() && meant(&image.services))
        .map(|image| Row {
            services: image.services.clone(),
            image: image.reference.clone(),
            platform: image.platform.to_string(),
            digest: image.digest.to_string(),
            layers: image.layers.len(),
            size: image
                .layers
                .iter()
                .filter_map(|layer| executable.payload().index().layer(layer))
                .map(|layer| layer.tar_length)
                .sum(),
        })
        .collect();
    if arguments.quiet {
        output::print(&rows.iter().map(|row| format!("{}\n", row.digest)).collect::<String>());
    } else if arguments.format.json() {
        output::print_json(&rows)?;
    } else {
        let mut table = Table::new(&["SERVICE", "IMAGE", "PLATFORM", "DIGEST", "LAYERS", "SIZE"]);
        for row in rows {
            let short = row.digest.chars().take("sha256:".len() + 12).collect();
            table.row([
                row.services.join(","),
                row.image,
                row.platform,
                short,
                row.layers.to_string(),
                bytes(row.size),
            ]);
        }
        output::print(&table.to_string());
    }
    Ok(SUCCESS)
}
