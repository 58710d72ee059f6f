//! An image as an OCI layout folder, and back (OCI image-spec, image-layout).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::index::Index;

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
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
        fs::write(folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
        Ok(())
    }
}
