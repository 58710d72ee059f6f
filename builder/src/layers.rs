//! Layers: from a compressed blob to a recipe of chunks, and to a tar that chunks can be read from.
//!
//! A blob is decompressed once. What comes out is hashed, compared with the diff ID of the config, cut into chunks, and
//! kept in an unlinked file of the cache folder until its frames are compressed. The recipe goes into the cache; a later
//! build that finds all frames there needs neither blob nor tar.

mod check;
mod decompress;

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::path::PathBuf;

use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::write::{LayerRecipe, split};

use crate::cache::{self, Cache, Section};
use crate::cancel::{Cancel, Cancelled};
use crate::error::Kind;
use crate::pull::Layer;

use decompress::{BUFFER, Blob};

pub use check::CheckError;

/// Largest layer, uncompressed. A decompression bomb ends here, or at the end of the disk.
const TAR_LIMIT: u64 = 64 << 30;

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blob in the cache was damaged; it has been thrown away, and pulling it again helps.
    #[error("blob {0} in the cache is damaged")]
    DamagedBlob(Digest),
    /// The blob is gone, thrown away by another build that found it damaged.
    #[error("blob {0} is not in the cache")]
    MissingBlob(Digest),
    /// The blob does not decompress.
    #[error("image `{image}`: layer {layer} does not decompress")]
    Decompress {
        /// Reference as the Compose file has it.
        image: String,
        /// Digest of the blob.
        layer: Digest,
        /// Cause.
        source: io::Error,
    },
    /// The tar is not the one the config names.
    #[error("image `{image}`: layer {layer} decompresses to {actual}, but the config says {expected}")]
    DiffId {
        /// Reference as the Compose file has it.
        image: String,
        /// Digest of the blob.
        layer: Digest,
        /// Diff ID of the config.
        expected: DiffId,
        /// Digest of what came out.
        actual: DiffId,
    },
    /// The layer is larger than any layer should be.
    #[error("image `{image}`: layer {layer} decompresses to more than {} GiB", TAR_LIMIT >> 30)]
    TooLarge {
        /// Reference as the Compose file has it.
        image: String,
        /// Digest of the blob.
        layer: Digest,
    },
    /// An entry of the tar that no device should unpack.
    #[error("image `{image}`: layer {layer}: {reason}")]
    Hostile {
        /// Reference as the Compose file has it.
        image: String,
        /// Diff ID of the layer.
        layer: Digest,
        /// Which entry, and what is wrong with it.
        reason: CheckError,
    },
    /// A temporary file.
    #[error("failed to {action} a temporary file in `{folder}`")]
    Scratch {
        /// What was attempted.
        action: &'static str,
        /// Folder of the cache.
        folder: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Decompress { .. }
            | Error::DiffId { .. }
            | Error::TooLarge { .. }
            | Error::Hostile { .. } => Kind::Input,
            Error::Cancelled(_) => Kind::Interrupted,
            _ => Kind::Environment,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::DiffId { .. } | Error::Decompress { .. } => {
                Some("the image is broken in its registry; build and push it again".to_owned())
            }
            Error::Hostile { .. } => {
                Some("do not use this image: no ordinary tool makes such a layer".to_owned())
            }
            Error::Cache(error) => error.hint(),
            Error::Scratch { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                    "layers are unpacked in the cache folder: free some space there, or set DPACK_CACHE_DIR"
                        .to_owned(),
                ),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The recipe of a layer that an earlier build has cut.
pub fn cached_recipe(cache: &Cache, diff_id: &DiffId) -> Option<LayerRecipe> {
    let bytes = cache.read(Section::Recipes, &diff_id.hex(), u64::MAX)?;
    let recipe = LayerRecipe::decode(&bytes).ok().filter(|recipe| recipe.diff_id == *diff_id);
    if recipe.is_none() {
        cache.remove(Section::Recipes, &diff_id.hex());
    }
    recipe
}

/// Decompresses a layer whose blob is in the cache, verifies it, and cuts it; the recipe goes into the cache.
/// Returns the recipe and the layer's tar.
pub fn cut(image: &str, layer: &Layer, cache: &Cache, cancel: &Cancel) -> Result<(LayerRecipe, File), Error> {
    let (recipe, tar) = unpack(image, layer, cache, cancel, |tar| split(tar))?;
    if recipe.diff_id != layer.diff_id {
        let (image, layer, expected) = (image.to_owned(), layer.blob, layer.diff_id);
        return Err(Error::DiffId { image, layer, expected, actual: recipe.diff_id });
    }
    let hostile = |reason| Error::Hostile { image: image.to_owned(), layer: layer.diff_id, reason };
    check::check(&tar, recipe.tar_length).map_err(hostile)?;
    let encoded = recipe.encode().map_err(|source| scratch("encode", cache, source))?;
    cache.write(Section::Recipes, &layer.diff_id.hex(), &encoded)?;
    Ok((recipe, tar))
}

/// Decompresses a layer that was cut before, for the frames that are not in the cache. Its chunks are compared with
/// their digests when they are used, so the diff ID is not computed again.
pub fn tar(image: &str, layer: &Layer, cache: &Cache, cancel: &Cancel) -> Result<File, Error> {
    Ok(unpack(image, layer, cache, cancel, |tar| io::copy(tar, &mut io::sink()))?.1)
}

fn scratch(action: &'static str, cache: &Cache, source: io::Error) -> Error {
    Error::Scratch { action, folder: cache.root().to_owned(), source }
}

/// Decompresses a blob through `consume`, and verifies the blob. Returns a file with the tar: an unlinked one, or the
/// blob itself when it is not compressed.
fn unpack<T>(
    image: &str,
    layer: &Layer,
    cache: &Cache,
    cancel: &Cancel,
    consume: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> Result<(T, File), Error> {
    let key = layer.blob.hex();
    let open = || cache.open_entry(Section::Blobs, &key).ok_or(Error::MissingBlob(layer.blob));
    let mut blob = Blob::open(open()?).map_err(|source| scratch("read", cache, source))?;
    let mut file = if blob.is_compressed() { cache.scratch()? } else { open()? };
    let (result, failed, size) = {
        let mut tee = Tee {
            copy: if blob.is_compressed() { Some(&mut file) } else { None },
            tar: blob.tar().map_err(|source| scratch("read", cache, source))?,
            failed: None,
            size: 0,
            cancel,
        };
        // Cutting reads in blocks of 512 bytes.
        let result = consume(&mut BufReader::with_capacity(BUFFER, &mut tee));
        (result, tee.failed.take(), tee.size)
    };
    cancel.check()?;
    if size > TAR_LIMIT {
        return Err(Error::TooLarge { image: image.to_owned(), layer: layer.blob });
    }
    if let Some(source) = failed {
        return Err(scratch("write", cache, source));
    }
    // Whether the blob is what it should be decides whose fault everything else is.
    if blob.finish().ok() != Some(layer.blob) {
        cache.remove(Section::Blobs, &key);
        return Err(Error::DamagedBlob(layer.blob));
    }
    match result {
        Ok(value) => Ok((value, file)),
        Err(source) => Err(Error::Decompress { image: image.to_owned(), layer: layer.blob, source }),
    }
}

/// Copies what is read into a file.
struct Tee<'a> {
    tar: Box<dyn Read + 'a>,
    copy: Option<&'a mut File>,
    failed: Option<io::Error>,
    size: u64,
    cancel: &'a Cancel,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        let count = self.tar.read(buffer)?;
        self.size += count as u64;
        if self.size > TAR_LIMIT {
            return Err(io::Error::other("the layer is too large"));
        }
        if let Some(file) = &mut self.copy
            && let Err(error) = file.write_all(&buffer[..count])
        {
            self.failed = Some(error);
            return Err(io::Error::other("the temporary file cannot be written"));
        }
        Ok(count)
    }
}
