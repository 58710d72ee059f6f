//! What is in an executable. Field names are stable: `--format json` prints them. Sizes are bytes.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::platform::Platform;
use dpack_payload::{ChunkId, OpenError, Payload};
use serde::Serialize;

use crate::error::Kind;

/// Why an executable cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("failed to open `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// What is in it.
    #[error("`{path}` is not an intact dpack executable")]
    Payload {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: OpenError,
    },
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        Kind::Input
    }
}

/// An executable.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub size: u64,
    /// Size of the runner in front of the payload.
    pub runner_size: u64,
    /// Identity of the payload: the SHA-256 of its index.
    pub digest: Digest,
    /// Name of the project when it was built.
    pub project: String,
    /// Version of dpack that built it.
    pub builder: String,
    /// Platforms there are images for.
    pub platforms: Vec<Platform>,
    /// Reference of the image of each service.
    pub services: BTreeMap<String, String>,
    /// Images.
    pub images: Vec<Image>,
    /// Layers of all images, each once.
    pub layers: Vec<Layer>,
    /// What deduplication and compression did.
    pub totals: Totals,
}

/// An image for one platform.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// Reference as the Compose file has it.
    pub reference: String,
    /// Platform.
    pub platform: Platform,
    /// Digest of its manifest in the registry.
    pub digest: Digest,
    /// Digest of its config: the image ID.
    pub config_digest: Digest,
    /// Services that use it.
    pub services: Vec<String>,
    /// Diff IDs of its layers, the lowest first.
    pub layers: Vec<DiffId>,
    /// Its layers as tars.
    pub size: u64,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Size of its tar.
    pub size: u64,
    /// File content of it that no layer before it has, and its tar headers.
    pub unique_size: u64,
    /// Files of some size.
    pub files: usize,
    /// How many images use it.
    pub images: usize,
}

/// Sums.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Totals {
    /// Layers of all images, as if they shared nothing.
    pub images_size: u64,
    /// All layers, each once.
    pub layers_size: u64,
    /// Content that is left when repetitions are taken away.
    pub unique_size: u64,
    /// The same, compressed.
    pub stored_size: u64,
    /// Pieces of content.
    pub chunks: usize,
    /// Compressed frames.
    pub frames: usize,
}

/// Opens an executable, or a payload on its own.
pub fn open(path: &Path) -> Result<Payload<File>, Error> {
    let file = File::open(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    Payload::open(file).map_err(|source| Error::Payload { path: path.to_owned(), source })
}

/// Describes an executable by its index; no frame is read.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    let payload = open(path)?;
    let size =
        payload.source().metadata().map_err(|source| Error::Open { path: path.to_owned(), source })?.len();
    let (index, application) = (payload.index(), payload.application());
    let length = |diff_id: &DiffId| index.layer(diff_id).map_or(0, |layer| layer.tar_length);
    let images: Vec<Image> = application
        .images
        .iter()
        .map(|image| Image {
            reference: image.reference.clone(),
            platform: image.platform.clone(),
            digest: image.digest,
            config_digest: Digest::of(image.config.as_bytes()),
            services: image.services.clone(),
            layers: image.layers.clone(),
            size: image.layers.iter().map(length).sum(),
        })
        .collect();
    let mut seen = HashSet::new();
    let layers: Vec<Layer> =
        index.layers().iter().map(|layer| describe(&payload, &layer.diff_id, &images, &mut seen)).collect();
    let mut platforms: Vec<Platform> = images.iter().map(|image| image.platform.clone()).collect();
    platforms.sort();
    platforms.dedup();
    let services = images
        .iter()
        .flat_map(|image| image.services.iter().map(|service| (service.clone(), image.reference.clone())))
        .collect();
    let totals = Totals {
        images_size: images.iter().map(|image| image.size).sum(),
        layers_size: layers.iter().map(|layer| layer.size).sum(),
        unique_size: index.frames().iter().map(|frame| u64::from(frame.raw_length)).sum(),
        stored_size: index.frames().iter().map(|frame| u64::from(frame.stored_length)).sum(),
        chunks: index.chunks().len(),
        frames: index.frames().len(),
    };
    Ok(Inspection {
        file: path.to_owned(),
        size,
        runner_size: payload.offset(),
        digest: payload.digest(),
        project: application.name.clone(),
        builder: application.builder.clone(),
        platforms,
        services,
        images,
        layers,
        totals,
    })
}

fn describe(
    payload: &Payload<File>,
    diff_id: &DiffId,
    images: &[Image],
    seen: &mut HashSet<ChunkId>,
) -> Layer {
    let (mut size, mut bodies_size, mut new, mut files) = (0, 0, 0, 0);
    if let Some(reader) = payload.layer(diff_id) {
        size = reader.layer().tar_length;
        for body in reader.bodies() {
            files += 1;
            bodies_size += body.length();
            let parts = body.parts().filter(|part| seen.insert(part.chunk));
            new += parts.map(|part| part.frame_range.len() as u64).sum::<u64>();
        }
    }
    Layer {
        diff_id: *diff_id,
        size,
        unique_size: size - bodies_size + new,
        files,
        images: images.iter().filter(|image| image.layers.contains(diff_id)).count(),
    }
}
