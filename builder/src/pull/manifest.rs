//! Parsing manifests, indexes and configs (OCI image-spec; Docker image manifest v2, schema 2).
//!
//! Only what a pull needs is read. Everything here comes from a registry: digests and media types are checked when they
//! are parsed, counts and sizes are bounded.

use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::platform::Platform;
use serde::Deserialize;

/// Largest manifest or index (the limit that registries themselves have; OCI distribution-spec, "Pushing Manifests").
pub(super) const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest image config.
pub(super) const CONFIG_LIMIT: u64 = 8 << 20;
/// Most layers of one image; overlayfs itself mounts at most 500.
const LAYER_LIMIT: usize = 500;
/// Largest layer, compressed.
const BLOB_LIMIT: u64 = 1 << 40;

/// The media types we ask registries for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A pointer to content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Type of the content.
    pub(super) media_type: String,
    /// Its digest.
    pub(super) digest: Digest,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its platform, when an index says so.
    pub(super) platform: Option<Platform>,
    /// `org.opencontainers.image.ref.name`, or the name that Docker gives it in an archive.
    pub(super) names: Vec<String>,
}

/// What a reference leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// A list of images, or of further lists.
    Index(Vec<Descriptor>),
    /// One image.
    Image {
        /// Its config.
        config: Descriptor,
        /// Its layers, the lowest first.
        layers: Vec<Descriptor>,
    },
}

/// What we read of an image config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Platform it was built for.
    pub(super) platform: Platform,
    /// Digests of the uncompressed layers, the lowest first.
    pub(super) diff_ids: Vec<DiffId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    #[serde(default)]
    schema_version: u32,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
    urls: Option<Vec<String>>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Parses a manifest or an index; the error says what is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let raw: RawManifest =
        serde_json::from_slice(bytes).map_err(|error| format!("its manifest is not valid: {error}"))?;
    if raw.schema_version != 2 {
        return Err(format!(
            "its manifest has schema version {}; only version 2 is supported, rebuild or push the image again with a newer tool",
            raw.schema_version
        ));
    }
    match (raw.manifests, raw.config, raw.layers) {
        // Both at once is an attack: two readers would see two images (OCI image-spec GHSA-77vh-xpmg-72qh).
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            Err("its manifest is an index and an image at once".to_owned())
        }
        (Some(manifests), None, None) => {
            let entries = manifests.into_iter().map(RawDescriptor::check).collect::<Result<_, _>>()?;
            Ok(Manifest::Index(entries))
        }
        (None, Some(config), Some(layers)) => {
            if layers.len() > LAYER_LIMIT {
                return Err(format!("it has {} layers; at most {LAYER_LIMIT} are supported", layers.len()));
            }
            for layer in &layers {
                layer.check_layer()?;
            }
            let layers = layers.into_iter().map(RawDescriptor::check).collect::<Result<_, _>>()?;
            Ok(Manifest::Image { config: config.check()?, layers })
        }
        _ => Err(match raw.media_type {
            Some(media_type) => format!("`{media_type}` is not an image or an index"),
            None => "its manifest is neither an image nor an index".to_owned(),
        }),
    }
}

/// Parses an image config; the error says what is wrong with it.
pub(super) fn parse_config(bytes: &[u8]) -> Result<Config, String> {
    let raw: RawPlatform =
        serde_json::from_slice(bytes).map_err(|error| format!("its config is not valid: {error}"))?;
    let platform = raw.platform().ok_or("its config does not say what platform it is for")?;
    let diff_ids = raw.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default();
    let diff_ids = diff_ids
        .iter()
        .map(|diff_id| diff_id.parse().map_err(|error| format!("its config: rootfs.diff_ids: {error}")))
        .collect::<Result<_, String>>()?;
    Ok(Config { platform, diff_ids })
}

impl Descriptor {
    /// A pointer of which only digest and size are known.
    pub(super) fn of(digest: Digest, size: u64) -> Self {
        Self { media_type: String::new(), digest, size, platform: None, names: Vec::new() }
    }
}

impl RawPlatform {
    /// The platform; `None` for `unknown/unknown`, which attestations have.
    fn platform(&self) -> Option<Platform> {
        let known = |text: &str| !text.is_empty() && text != "unknown";
        let text = match &self.variant {
            Some(variant) if !variant.is_empty() => format!("{}/{}/{variant}", self.os, self.architecture),
            _ => format!("{}/{}", self.os, self.architecture),
        };
        if known(&self.os) && known(&self.architecture) { text.parse().ok() } else { None }
    }
}

impl RawDescriptor {
    fn check(self) -> Result<Descriptor, String> {
        let digest = self.digest.parse().map_err(|error| format!("its manifest: {error}"))?;
        if self.size > BLOB_LIMIT {
            return Err(format!("{digest} is said to have {} bytes", self.size));
        }
        // A platform that we cannot read is not the same as none: such an entry is never chosen.
        let unknown = || Platform::new("unknown", "unknown", None);
        let platform = self.platform.as_ref().map(|raw| raw.platform().unwrap_or_else(unknown));
        let name = |key| self.annotations.get(key).cloned();
        let names =
            ["org.opencontainers.image.ref.name", "io.containerd.image.name"].into_iter().filter_map(name);
        Ok(Descriptor {
            names: names.collect(),
            media_type: self.media_type,
            digest,
            size: self.size,
            platform,
        })
    }

    /// Refuses layers whose bytes are elsewhere or not readable.
    fn check_layer(&self) -> Result<(), String> {
        let media_type = self.media_type.as_str();
        if self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            || media_type.contains("nondistributable")
            || media_type.contains(".foreign.")
        {
            return Err(format!("layer {} is a foreign layer, kept outside the registry", self.digest));
        }
        if media_type.ends_with("+encrypted") {
            return Err(format!("layer {} is encrypted", self.digest));
        }
        let known = [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
        ];
        if !known.contains(&media_type) {
            return Err(format!("layer {} has the unknown media type `{media_type}`", self.digest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn image(layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"c","digest":"{A}","size":2}},"layers":[{layer}]}}"#
        )
    }

    #[test]
    fn images_and_indexes_are_told_apart_by_shape() {
        let layer = format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"{A}","size":7}}"#
        );
        let Manifest::Image { config, layers } = parse(image(&layer).as_bytes()).unwrap() else { panic!() };
        assert_eq!((config.size, layers.len(), layers[0].size), (2, 1, 7));

        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"mediaType":"m","digest":"{A}","size":1,"platform":{{"os":"linux","architecture":"arm","variant":"v6"}}}},
                {{"mediaType":"m","digest":"{A}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}},
                {{"mediaType":"m","digest":"{A}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"x"}}}}]}}"#
        );
        let Manifest::Index(entries) = parse(index.as_bytes()).unwrap() else { panic!() };
        assert_eq!(entries[0].platform.as_ref().unwrap().to_string(), "linux/arm/v6");
        assert_eq!(entries[1].platform.as_ref().unwrap().os(), "unknown");
        assert_eq!(entries[2].platform, None);
        assert_eq!(entries[2].names, ["x"]);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let layer = |media_type: &str, rest: &str| {
            image(&format!(r#"{{"mediaType":"{media_type}","digest":"{A}","size":7{rest}}}"#))
        };
        let tar = "application/vnd.oci.image.layer.v1.tar";
        for (text, expected) in [
            (layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""), "foreign"),
            (layer("application/vnd.oci.image.layer.nondistributable.v1.tar", ""), "foreign"),
            (layer(tar, r#","urls":["https://e.example/l"]"#), "foreign"),
            (layer(&format!("{tar}+gzip+encrypted"), ""), "encrypted"),
            (layer("application/vnd.example", ""), "application/vnd.example"),
            (layer(tar, "").replace(A, "sha256:12"), "not a digest"),
            (layer(tar, "").replace("\"size\":7", "\"size\":9999999999999999"), "9999999999999999"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema version 1"),
            (r#"{"schemaVersion":2}"#.to_owned(), "neither"),
            (layer(tar, "").replace("\"layers\"", "\"manifests\":[],\"layers\""), "at once"),
            (
                image(&vec![format!(r#"{{"mediaType":"{tar}","digest":"{A}","size":1}}"#); 501].join(",")),
                "501 layers",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_config_has_a_platform_and_diff_ids() {
        let text = format!(
            r#"{{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{{"type":"layers","diff_ids":["{A}"]}}}}"#
        );
        let config = parse_config(text.as_bytes()).unwrap();
        assert_eq!((config.platform.to_string().as_str(), config.diff_ids.len()), ("linux/arm64", 1));
        assert!(parse_config(b"{}").is_err());
        assert!(parse_config(text.replace("sha256", "md5").as_bytes()).is_err());
    }
}
