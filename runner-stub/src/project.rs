//! What a project is on disk apart from its containers: `project.json`, written by the supervisor at each `up`.

use anyhow::Result;
use dpack_payload::digest::DiffId;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::paths::{Paths, ProjectPaths};
use crate::protocol::Desired;

const VERSION: u32 = 1;

/// `project.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of this file.
    pub(crate) version: u32,
    /// What the last `up` asked for.
    pub(crate) desired: Desired,
    /// The executable that it came from ([`crate::payload::Executable::build`]).
    pub(crate) build: String,
    /// Layers of that executable, which garbage collection keeps.
    pub(crate) layers: Vec<DiffId>,
}

impl Record {
    /// A record of the present version.
    pub(crate) fn new(desired: Desired, build: String, layers: Vec<DiffId>) -> Self {
        Self { version: VERSION, desired, build, layers }
    }

    /// Reads a project's record, if it was ever up.
    pub(crate) fn load(project: &ProjectPaths) -> Result<Option<Self>> {
        files::read_json(&project.record())
    }

    /// Writes it.
    pub(crate) fn store(&self, project: &ProjectPaths) -> Result<()> {
        files::write_json(&project.record(), self)
    }
}

/// Layers that any project of this user needs; of the project `made`, only those of the containers that there are. A record
/// that cannot be read is an error: its layers must not go.
pub(crate) fn layers_in_use(paths: &Paths, made: Option<&str>) -> Result<Vec<DiffId>> {
    let mut layers = Vec::new();
    let Ok(entries) = std::fs::read_dir(paths.data.join("projects")) else { return Ok(layers) };
    for entry in entries {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let project = paths.find_project(&name);
        let record = Record::load(&project)?.filter(|_| made != Some(&*name));
        layers.extend(record.into_iter().flat_map(|record| record.layers));
        for container in crate::container::Identity::list(&project)? {
            layers.extend(container.layers);
        }
    }
    layers.sort();
    layers.dedup();
    Ok(layers)
}
