//! An image out of an executable, as the OCI layout it came from: the same config bytes, the same diff IDs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dpack_payload::application::Image;
use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::platform::Platform;
use dpack_payload::{LayerReader, Payload};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::cancel::{Cancel, Cancelled};
use crate::error::Kind;
use crate::pull::ImageReference;

/// Memory for decompressed frames. Layers are read in the order of their tars, and frames are not in that order.
const FRAME_CACHE: usize = 512 << 20;

/// How layers are compressed in the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// As every tool reads it.
    Gzip,
    /// Smaller, for newer tools.
    Zstd,
}

/// Why an image cannot be extracted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image.
    #[error("no image `{name}` in this executable; it has {known}")]
    NoImage {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// Not for that platform, or for several.
    #[error("image `{name}` is there for {known}")]
    Platform {
        /// The name.
        name: String,
        /// Platforms there are.
        known: String,
    },
    /// The folder is taken.
    #[error("`{0}` is there already and not empty")]
    Exists(PathBuf),
    /// A layer that does not come back as it was.
    #[error("layer {expected} comes back as {actual}")]
    DiffId {
        /// Diff ID of the config.
        expected: DiffId,
        /// What came out.
        actual: DiffId,
    },
    /// A layer that is not there.
    #[error("layer {0} is not in this executable")]
    NoLayer(DiffId),
    /// A layer that cannot be read.
    #[error("failed to read layer {layer}")]
    Layer {
        /// Its diff ID.
        layer: DiffId,
        /// Cause.
        source: io::Error,
    },
    /// The layout cannot be written.
    #[error("failed to write `{path}`")]
    Write {
        /// The folder or file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoImage { .. } | Error::Platform { .. } | Error::Exists(_) => Kind::Usage,
            Error::Write { .. } => Kind::Environment,
            Error::Cancelled(_) => Kind::Interrupted,
            _ => Kind::Input,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Platform { .. } => "choose one with --platform".to_owned(),
            Error::Exists(_) => "name a folder that is not there yet".to_owned(),
            // in the words of the formats' own hints, so that it is shown once
            Error::DiffId { .. } | Error::Layer { .. } => "copy the file again".to_owned(),
            _ => return None,
        })
    }
}

/// The image that is meant by a reference or by the name of a service that uses it.
pub fn find<'a>(images: &'a [Image], name: &str, platform: Option<&Platform>) -> Result<&'a Image, Error> {
    let canonical = |text: &str| ImageReference::parse(text).map(|reference| reference.canonical()).ok();
    let wanted = canonical(name);
    let same = |image: &&Image| {
        image.reference == name || (wanted.is_some() && canonical(&image.reference) == wanted)
    };
    let mut found: Vec<&Image> = images.iter().filter(same).collect();
    if found.is_empty() {
        found = images.iter().filter(|image| image.services.iter().any(|service| service == name)).collect();
    }
    let list = |items: &mut dyn Iterator<Item = String>| {
        let mut items: Vec<String> = items.collect();
        items.sort();
        items.dedup();
        items.join(", ")
    };
    if found.is_empty() {
        let known = list(&mut images.iter().map(|image| image.reference.clone()));
        return Err(Error::NoImage { name: name.to_owned(), known });
    }
    let known = list(&mut found.iter().map(|image| image.platform.to_string()));
    found.retain(|image| platform.is_none_or(|platform| image.platform == *platform));
    match found[..] {
        [image] => Ok(image),
        _ => Err(Error::Platform { name: name.to_owned(), known }),
    }
}

/// Writes `image` as an OCI layout into `folder`, which must not be there or be empty. Returns the manifest's digest.
pub fn extract(
    payload: &Payload<File>,
    image: &Image,
    folder: &Path,
    name: Option<&str>,
    compression: Compression,
    cancel: &Cancel,
) -> Result<Digest, Error> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    if fs::read_dir(folder).is_ok_and(|mut items| items.next().is_some()) {
        return Err(Error::Exists(folder.to_owned()));
    }
    payload.set_cache_capacity(FRAME_CACHE);
    let whole = std::path::absolute(folder).map_err(write(folder))?;
    let parent = whole.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(write(parent))?;
    // Complete before it has its name; removed when something fails.
    let aside =
        tempfile::Builder::new().prefix(".dpack-extract-").tempdir_in(parent).map_err(write(parent))?;
    let blobs = aside.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(write(&blobs))?;

    let mut layers = Vec::new();
    for diff_id in &image.layers {
        let reader = payload.layer(diff_id).ok_or(Error::NoLayer(*diff_id))?;
        layers.push(layer(reader, diff_id, &blobs, compression, cancel)?);
    }
    let config = blob(&blobs, "application/vnd.oci.image.config.v1+json", image.config.as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    });
    let bytes = manifest.to_string().into_bytes();
    let mut descriptor = blob(&blobs, "application/vnd.oci.image.manifest.v1+json", &bytes)?;
    let mut platform = json!({"os": image.platform.os(), "architecture": image.platform.architecture()});
    if let Some(variant) = image.platform.variant() {
        platform["variant"] = variant.into();
    }
    descriptor["platform"] = platform;
    if let Some(name) = name {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    });
    for (name, content) in [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))] {
        let path = aside.path().join(name);
        fs::write(&path, content.to_string()).map_err(write(&path))?;
    }
    set_readable(aside.path()).map_err(write(aside.path()))?;
    // An empty folder may be replaced.
    fs::rename(aside.path(), &whole).map_err(write(&whole))?;
    let _ = aside.keep();
    Ok(Digest::of(&bytes))
}

/// Writes one layer; returns its descriptor.
fn layer(
    mut reader: LayerReader<'_, File>,
    diff_id: &DiffId,
    blobs: &Path,
    compression: Compression,
    cancel: &Cancel,
) -> Result<serde_json::Value, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let path = blobs.join(format!("{}.tmp", diff_id.hex()));
    let file = File::create(&path).map_err(failed(&path))?;
    let mut out = Encoder::new(Hashing { inner: file, hasher: Sha256::new(), size: 0 }, compression)
        .map_err(failed(&path))?;
    let mut tar = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        cancel.check()?;
        let count = reader.read(&mut buffer).map_err(|source| Error::Layer { layer: *diff_id, source })?;
        if count == 0 {
            break;
        }
        tar.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(failed(&path))?;
    }
    let actual = Digest::from_bytes(tar.finalize().into());
    if actual != *diff_id {
        return Err(Error::DiffId { expected: *diff_id, actual });
    }
    let Hashing { hasher, size, .. } = out.finish().map_err(failed(&path))?;
    let digest = Digest::from_bytes(hasher.finalize().into());
    fs::rename(&path, blobs.join(digest.hex())).map_err(failed(&path))?;
    let suffix = match compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
    Ok(json!({"mediaType": media_type, "digest": digest, "size": size}))
}

/// Writes a small blob; returns its descriptor.
fn blob(blobs: &Path, media_type: &str, bytes: &[u8]) -> Result<serde_json::Value, Error> {
    let digest = Digest::of(bytes);
    let path = blobs.join(digest.hex());
    fs::write(&path, bytes).map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

struct Hashing {
    inner: File,
    hasher: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

enum Encoder {
    None(Hashing),
    Gzip(flate2::write::GzEncoder<Hashing>),
    Zstd(zstd::stream::write::Encoder<'static, Hashing>),
}

impl Encoder {
    fn new(out: Hashing, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Encoder::None(out),
            Compression::Gzip => {
                Encoder::Gzip(flate2::write::GzEncoder::new(out, flate2::Compression::default()))
            }
            Compression::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(out, 3)?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::None(out) => out.write_all(bytes),
            Encoder::Gzip(out) => out.write_all(bytes),
            Encoder::Zstd(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Hashing> {
        match self {
            Encoder::None(out) => Ok(out),
            Encoder::Gzip(out) => out.finish(),
            Encoder::Zstd(out) => out.finish(),
        }
    }
}

/// A temporary folder is private; what is extracted is not.
#[cfg(unix)]
fn set_readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn set_readable(_: &Path) -> io::Result<()> {
    Ok(())
}
