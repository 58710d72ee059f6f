//! Puts images into a registry's storage folder (docker/distribution, `registry/storage/paths.go`).
//!
//! ```text
//! docker/registry/v2/blobs/sha256/ab/abcd…/data
//! docker/registry/v2/repositories/<name>/_layers/sha256/abcd…/link                 "sha256:abcd…"
//! docker/registry/v2/repositories/<name>/_manifests/revisions/sha256/abcd…/link
//! docker/registry/v2/repositories/<name>/_manifests/tags/<tag>/current/link
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;

use crate::images::Index;

/// Makes `repository:tag` stand for `index`.
pub(crate) fn write(storage: &Path, repository: &str, tag: &str, index: &Index) -> Result<()> {
    for blob in index.all_blobs() {
        put(&blob_file(storage, &blob.digest), &blob.content)?;
    }
    let repository = storage.join("docker/registry/v2/repositories").join(repository);
    for blob in &index.blobs {
        link(&repository.join("_layers/sha256").join(blob.digest.hex()), &blob.digest)?;
    }
    let manifests = repository.join("_manifests");
    for blob in index.manifests.iter().map(|(_, manifest)| manifest).chain([&index.root]) {
        link(&manifests.join("revisions/sha256").join(blob.digest.hex()), &blob.digest)?;
    }
    let tag = manifests.join("tags").join(tag);
    link(&tag.join("index/sha256").join(index.root.digest.hex()), &index.root.digest)?;
    link(&tag.join("current"), &index.root.digest)
}

/// Where a blob's bytes are.
pub(crate) fn blob_file(storage: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    storage.join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
}

fn link(folder: &Path, digest: &Digest) -> Result<()> {
    put(&folder.join("link"), digest.to_string().as_bytes())
}

fn put(file: &Path, content: &[u8]) -> Result<()> {
    let folder = file.parent().context("a file in no folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(file, content))
        .with_context(|| file.display().to_string())
}
