//! What a payload is for: the application description in the index, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::{DiffId, Digest};
use crate::platform::Platform;

/// Reference of the image that carries files of the project folder and that no service uses; `.invalid` is nobody's
/// (RFC 2606).
pub const PROJECT_FILES: &str = "dpack.invalid/project-files:1";
/// Label of that image: paths that travel, seen from the project folder, as a JSON list. The empty one means the folder.
pub const PROJECT_PATHS: &str = "dpack.paths";

/// The application that a payload carries. Unknown fields are ignored, so that later versions can add to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Application {
    /// Compose project name at build time.
    pub name: String,
    /// The merged, uninterpolated Compose model, as `dpack_compose` serialises it.
    pub compose: serde_json::Value,
    /// Defaults for interpolation: the project's `.env` at build time.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Every image, for every platform of this payload.
    pub images: Vec<Image>,
    /// Version of `dpack` that wrote the payload.
    pub builder: String,
}

/// One image for one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Reference as the Compose file has it, such as `nginx:1.27`.
    pub reference: String,
    /// Services of the application that use it.
    pub services: Vec<String>,
    /// Platform that was resolved.
    pub platform: Platform,
    /// Digest of the platform's manifest: what the reference is pinned to.
    pub digest: Digest,
    /// The image config, byte for byte, so that its digest stays what it was (OCI image-spec, config).
    pub config: String,
    /// Layers from the lowest to the highest, by diff ID; each names a layer of the index.
    pub layers: Vec<DiffId>,
}
