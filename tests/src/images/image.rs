//! An image of one platform: config, manifest and blobs (OCI image-spec).

use std::io::Write;

use anyhow::Result;
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use serde_json::{Value, json};

use super::index::Format;
use super::layer::Layer;

/// Content with the digest that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Digest of `content`, unless a test wants a lie.
    pub digest: Digest,
    /// The bytes.
    pub content: Vec<u8>,
}

impl Blob {
    /// Names content by its digest.
    pub fn new(content: Vec<u8>) -> Self {
        Self { digest: Digest::of(&content), content }
    }
}

/// How a layer travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// `application/vnd.oci.image.layer.v1.tar`.
    None,
    /// `…tar+gzip`, what every registry is full of.
    #[default]
    Gzip,
    /// `…tar+zstd`; there is none in Docker's formats.
    Zstd,
}

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    platform: Platform,
    layers: Vec<(Layer, Compression)>,
    settings: Value,
    false_diff_id: Option<Digest>,
}

impl Image {
    /// An image without layers for a platform such as `linux/arm/v7`.
    pub fn new(platform: &str) -> Result<Self> {
        let settings = json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
        Ok(Self { platform: platform.parse()?, layers: Vec::new(), settings, false_diff_id: None })
    }

    /// Puts a gzip layer on top.
    pub fn layer(self, layer: Layer) -> Self {
        self.layer_as(layer, Compression::Gzip)
    }

    /// Puts a layer on top, compressed as asked.
    pub fn layer_as(mut self, layer: Layer, compression: Compression) -> Self {
        self.layers.push((layer, compression));
        self
    }

    /// Sets a field of the config's `config`, such as `Entrypoint` or `ExposedPorts`.
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.settings[field] = value;
        self
    }

    /// The config names this diff ID for the top layer instead of the true one.
    pub fn false_diff_id(mut self, diff_id: Digest) -> Self {
        self.false_diff_id = Some(diff_id);
        self
    }

    /// The platform.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Manifest first, then config, then layers.
    pub(super) fn blobs(&self, format: Format) -> Result<Vec<Blob>> {
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        for (layer, compression) in &self.layers {
            let blob = Blob::new(compress(&layer.to_tar(), *compression)?);
            descriptors.push(format.layer_descriptor(&blob, *compression)?);
            layers.push(blob);
        }
        let config = Blob::new(serde_json::to_vec(&self.config())?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format.manifest_type(),
            "config": format.descriptor(format.config_type(), &config),
            "layers": descriptors,
        });
        Ok([vec![Blob::new(serde_json::to_vec(&manifest)?), config], layers].concat())
    }

    fn config(&self) -> Value {
        let mut diff_ids: Vec<String> =
            self.layers.iter().map(|(layer, _)| layer.diff_id().to_string()).collect();
        if let (Some(last), Some(lie)) = (diff_ids.last_mut(), self.false_diff_id) {
            *last = lie.to_string();
        }
        let history: Vec<Value> = diff_ids
            .iter()
            .map(|_| json!({"created": "1970-01-01T00:00:00Z", "created_by": "dpack-tests"}))
            .collect();
        let mut config = json!({
            "created": "1970-01-01T00:00:00Z",
            "os": self.platform.os(),
            "architecture": self.platform.architecture(),
            "config": self.settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        if let Some(variant) = self.platform.variant() {
            config["variant"] = json!(variant);
        }
        config
    }
}

fn compress(tar: &[u8], compression: Compression) -> Result<Vec<u8>> {
    Ok(match compression {
        Compression::None => tar.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(tar)?;
            encoder.finish()?
        }
        Compression::Zstd => zstd::bulk::compress(tar, 3)?,
    })
}
