//! An image as an OCI layout folder, and back (OCI image-spec, image-layout).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use serde_json::{Value, json};

use super::image::Blob;
use super::index::{Format, Index};

impl Index {
    /// Writes the layout; `reference` is what `oci:DIR:REFERENCE` selects.
    pub fn write_layout(&self, folder: &Path, reference: &str) -> Result<()> {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("failed to create `{}`", blobs.display()))?;
        for blob in self.all_blobs() {
            fs::write(blobs.join(blob.digest.hex()), &blob.content)?;
        }
        let entry = json!({
            "mediaType": self.media_type(),
            "digest": self.root.digest.to_string(),
            "size": self.root.content.len(),
            "annotations": {"org.opencontainers.image.ref.name": reference},
        });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": Format::Oci.index_type(),
            "manifests": [entry],
        });
        fs::write(folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
        Ok(())
    }

    /// Reads a layout that [`write_layout`](Self::write_layout) wrote.
    pub fn read_layout(folder: &Path) -> Result<Self> {
        let entries: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
        let entry = &entries["manifests"][0];
        let format = match entry["mediaType"] == Format::Docker.index_type() {
            true => Format::Docker,
            false => Format::Oci,
        };
        let root = blob(folder, entry)?;
        let mut manifests = Vec::new();
        let mut blobs = Vec::new();
        for descriptor in array(&root, "manifests")? {
            let part = |name: &str| descriptor["platform"][name].as_str();
            let platform = Platform::new(
                part("os").unwrap_or_default(),
                part("architecture").unwrap_or_default(),
                part("variant"),
            );
            let manifest = blob(folder, &descriptor)?;
            let config: Value = serde_json::from_slice(&manifest.content)?;
            blobs.push(blob(folder, &config["config"])?);
            for layer in array(&manifest, "layers")? {
                blobs.push(blob(folder, &layer)?);
            }
            manifests.push((platform, manifest));
        }
        Ok(Self::from_parts(format, root, manifests, blobs))
    }
}

fn array(blob: &Blob, name: &str) -> Result<Vec<Value>> {
    let mut value: Value = serde_json::from_slice(&blob.content)?;
    match value[name].take() {
        Value::Array(values) => Ok(values),
        _ => anyhow::bail!("no `{name}` in {}", blob.digest),
    }
}

fn blob(folder: &Path, descriptor: &Value) -> Result<Blob> {
    let digest: Digest = descriptor["digest"].as_str().context("a descriptor without digest")?.parse()?;
    let path = folder.join("blobs/sha256").join(digest.hex());
    let content = fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    Ok(Blob { digest, content })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::{Image, Layer};

    #[test]
    fn a_layout_that_was_written_is_read_again() {
        for format in [Format::Oci, Format::Docker] {
            let image = |platform| {
                Image::new(platform).unwrap().layer(Layer::new().file("a", 0o644, platform.as_bytes()))
            };
            let images = [image("linux/amd64"), image("linux/arm64"), image("linux/arm/v7")];
            let written = Index::in_format(format, &images).unwrap();
            let folder = tempfile::tempdir().unwrap();
            written.write_layout(folder.path(), "latest").unwrap();
            assert_eq!(Index::read_layout(folder.path()).unwrap(), written);
        }
    }
}
