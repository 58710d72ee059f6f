//! Images of several platforms under one name, in Docker's words or in OCI's.

use anyhow::{Result, bail};
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use serde_json::{Value, json};

use super::image::{Blob, Compression, Image};

/// Whose media types are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OCI image index and manifests.
    #[default]
    Oci,
    /// Docker manifest list and version 2 schema 2 manifests.
    Docker,
}

impl Format {
    pub(super) fn index_type(self) -> &'static str {
        match self {
            Format::Oci => "application/vnd.oci.image.index.v1+json",
            Format::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    pub(super) fn manifest_type(self) -> &'static str {
        match self {
            Format::Oci => "application/vnd.oci.image.manifest.v1+json",
            Format::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    pub(super) fn config_type(self) -> &'static str {
        match self {
            Format::Oci => "application/vnd.oci.image.config.v1+json",
            Format::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    pub(super) fn descriptor(self, media_type: &str, blob: &Blob) -> Value {
        json!({"mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.content.len()})
    }

    pub(super) fn layer_descriptor(self, blob: &Blob, compression: Compression) -> Result<Value> {
        let media_type = match (self, compression) {
            (Format::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Format::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Format::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Format::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Format::Docker, Compression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Format::Docker, Compression::Zstd) => bail!("Docker's formats have no zstd layers"),
        };
        Ok(self.descriptor(media_type, blob))
    }
}

/// A finished image of several platforms: what its name stands for, and every blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    format: Format,
    /// The index itself.
    pub root: Blob,
    /// The manifests that the index lists.
    pub manifests: Vec<(Platform, Blob)>,
    /// Configs and layers.
    pub blobs: Vec<Blob>,
}

impl Index {
    /// An OCI image index of these images.
    pub fn new(images: &[Image]) -> Result<Self> {
        Self::in_format(Format::Oci, images)
    }

    /// An index in the given format.
    pub fn in_format(format: Format, images: &[Image]) -> Result<Self> {
        let mut manifests = Vec::new();
        let mut blobs = Vec::new();
        for image in images {
            let mut parts = image.blobs(format)?.into_iter();
            manifests.extend(parts.next().map(|manifest| (image.platform().clone(), manifest)));
            blobs.extend(parts);
        }
        let descriptors: Vec<Value> = manifests
            .iter()
            .map(|(platform, manifest)| {
                let mut descriptor = format.descriptor(format.manifest_type(), manifest);
                descriptor["platform"] = platform_object(platform);
                descriptor
            })
            .collect();
        let root = json!({"schemaVersion": 2, "mediaType": format.index_type(), "manifests": descriptors});
        Ok(Self { format, root: Blob::new(serde_json::to_vec(&root)?), manifests, blobs })
    }

    pub(super) fn from_parts(
        format: Format,
        root: Blob,
        manifests: Vec<(Platform, Blob)>,
        blobs: Vec<Blob>,
    ) -> Self {
        Self { format, root, manifests, blobs }
    }

    /// Digest of one platform's manifest.
    pub fn manifest_digest(&self, platform: &Platform) -> Option<Digest> {
        self.manifests.iter().find(|(listed, _)| listed == platform).map(|(_, manifest)| manifest.digest)
    }

    /// Media type of the index.
    pub fn media_type(&self) -> &'static str {
        self.format.index_type()
    }

    /// Index, manifests, configs and layers.
    pub fn all_blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.root)
            .chain(self.manifests.iter().map(|(_, manifest)| manifest))
            .chain(&self.blobs)
    }
}

fn platform_object(platform: &Platform) -> Value {
    let mut object = json!({"os": platform.os(), "architecture": platform.architecture()});
    // real indexes say v8 for arm64
    let variant = platform.variant().or((platform.architecture() == "arm64").then_some("v8"));
    if let Some(variant) = variant {
        object["variant"] = json!(variant);
    }
    object
}
