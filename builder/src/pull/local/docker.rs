//! `docker save` before it wrote OCI layouts, and what skopeo and podman write as `docker-archive`: a `manifest.json`
//! that names a config and layers by path. An OCI manifest is made for each image, so that the rest is as for a registry.

use std::io::Read as _;

use dpack_payload::digest::Digest;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::manifest::{CONFIG_LIMIT, Descriptor, MANIFEST_LIMIT, parse_config};
use super::Index;
use super::archive::Archive;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Reads `manifest.json`, adds what it names to `index`, and returns one descriptor for each image.
pub(super) fn read(archive: &Archive, index: &mut Index) -> Result<Vec<Descriptor>, String> {
    let bytes = small(archive, "manifest.json", MANIFEST_LIMIT)
        .map_err(|reason| format!("is not a Docker archive: {reason}"))?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(|error| format!("manifest.json is not valid: {error}"))?;
    entries.into_iter().map(|entry| image(archive, index, entry)).collect()
}

fn image(archive: &Archive, index: &mut Index, entry: Entry) -> Result<Descriptor, String> {
    let config_bytes = small(archive, &entry.config, CONFIG_LIMIT)?;
    let config_digest = Digest::of(&config_bytes);
    // The file name is the digest in every known writer; if it looks like one it must be one.
    let stem = entry.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if stem.len() == 64 && stem.bytes().all(|c| c.is_ascii_hexdigit()) && stem != config_digest.hex() {
        return Err(format!("config `{}` is not what its name says", entry.config));
    }
    let config = parse_config(&config_bytes)?;
    if config.diff_ids.len() != entry.layers.len() {
        return Err(format!(
            "config `{}` has {} layers, manifest.json has {}",
            entry.config,
            config.diff_ids.len(),
            entry.layers.len()
        ));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(&config.diff_ids) {
        let (suffix, digest, size) = layer(archive, name, diff_id)?;
        index.members.insert(digest, name.clone());
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        layers.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
    }
    index.members.insert(config_digest, entry.config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config_bytes.len(),
        },
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let size = bytes.len() as u64;
    index.made.insert(digest, bytes);
    Ok(Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest,
        size,
        platform: Some(config.platform),
        names: entry.repo_tags.unwrap_or_default(),
    })
}

/// Media type suffix, digest and size of a layer. An uncompressed one has its diff ID as digest, which need not be
/// computed: it is verified when the layer is read.
fn layer(archive: &Archive, name: &str, diff_id: &Digest) -> Result<(&'static str, Digest, u64), String> {
    let missing = || format!("layer `{name}` is not in the archive");
    let (mut reader, size) = archive.member(name).map_err(|error| error.to_string())?.ok_or_else(missing)?;
    let mut magic = [0; 4];
    let mut count = 0;
    while count < magic.len() {
        match reader.read(&mut magic[count..]).map_err(|error| error.to_string())? {
            0 => break,
            more => count += more,
        }
    }
    let suffix = match magic {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => return Ok(("", *diff_id, size)),
    };
    let mut hasher = Sha256::new();
    hasher.update(&magic[..count]);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => return Ok((suffix, Digest::from_bytes(hasher.finalize().into()), size)),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn small(archive: &Archive, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let found = archive.member(name).map_err(|error| error.to_string())?;
    let (mut reader, size) = found.ok_or_else(|| format!("it has no `{name}`"))?;
    if size > limit {
        return Err(format!("`{name}` has {size} bytes; at most {limit} are allowed"));
    }
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}
