//! What a build did, in figures. Field names are stable: `--format json` prints them. Sizes are bytes.

use std::collections::HashMap;
use std::path::PathBuf;

use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::platform::Platform;
use dpack_payload::write::FramePlan;
use serde::Serialize;

use crate::project_files::Taken;

/// A finished build.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the project.
    pub project: String,
    /// Files of the project folder that travel, sorted.
    pub project_files: Vec<Taken>,
    /// What was written, in the order asked for.
    pub executables: Vec<ExecutableReport>,
    /// Duration.
    pub seconds: f64,
}

/// One executable.
#[derive(Clone, Debug, Serialize)]
pub struct ExecutableReport {
    /// Its platform.
    pub platform: Platform,
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub size: u64,
    /// The runner's part of it.
    pub runner_size: u64,
    /// Identity of the payload: the SHA-256 of its index.
    pub digest: Digest,
    /// All layers as tars, each once.
    pub layers_size: u64,
    /// Content that is left when repetitions are taken away.
    pub unique_size: u64,
    /// The same, compressed.
    pub stored_size: u64,
    /// Frames of the payload.
    pub frames: usize,
    /// Of these, how many were compressed by an earlier build.
    pub frames_cached: usize,
    /// Its images, in order of their references.
    pub images: Vec<ImageReport>,
}

/// One image in an executable.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// Reference as the Compose file has it.
    pub reference: String,
    /// Digest of the platform's manifest.
    pub digest: Digest,
    /// Services that use it.
    pub services: Vec<String>,
    /// How many layers it has.
    pub layers: usize,
    /// Its layers as the registry serves them.
    pub registry_size: u64,
    /// Of these, what was transferred in this build.
    pub pulled_size: u64,
    /// Its layers as tars.
    pub layers_size: u64,
    /// Content that no image before it has.
    pub unique_size: u64,
    /// The same, compressed: its share of the frames.
    pub stored_size: u64,
}

/// Content of single layers in an executable: what is in frames on account of the layer, before and after compression.
pub(crate) fn shares(frames: &[FramePlan], stored: &[u64]) -> HashMap<DiffId, (u64, u64)> {
    let mut shares: HashMap<DiffId, (u64, u64)> = HashMap::new();
    for (frame, &stored) in frames.iter().zip(stored) {
        let mut left = stored;
        for (number, chunk) in frame.chunks.iter().enumerate() {
            let last = number + 1 == frame.chunks.len();
            let part = stored * u64::from(chunk.length) / u64::from(frame.raw_length.max(1));
            // The last one takes what rounding left, so that the shares add up to the frames.
            let part = if last { left } else { part.min(left) };
            left -= part;
            let share = shares.entry(chunk.source.layer).or_default();
            share.0 += u64::from(chunk.length);
            share.1 += part;
        }
    }
    shares
}
