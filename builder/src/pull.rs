//! Images: from a reference to verified bytes in the cache.
//!
//! ```text
//! reference ─ resolve ─> one manifest and config per platform ─ fetch ─> blobs in the cache
//!              │ registry (auth, retry, certificates) or local (OCI layout, archives)
//! ```
//!
//! Nothing is trusted before its digest was checked, the index a tag points to excepted: that is what a tag means.

mod auth;
mod blob;
mod certificates;
mod endpoint;
mod error;
mod failure;
mod local;
mod manifest;
mod platforms;
mod reference;
mod registry;
mod retry;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dpack_payload::digest::{DiffId, Digest};
use dpack_payload::platform::Platform;
use futures_util::future::try_join_all;

use self::local::Local;
use self::manifest::{CONFIG_LIMIT, Config, Descriptor, MANIFEST_LIMIT, Manifest};
use self::registry::{Context, Registry};
use crate::cache::{Cache, Section};
use crate::cancel::Cancel;
use crate::credentials::Credentials;
use crate::reporter::{Event, Reporter};

pub use certificates::CERTIFICATE_FOLDERS;
pub use endpoint::Options;
pub use error::Error;
pub use local::{Format, LocalSource};
pub use reference::ImageReference;
pub use retry::Backoff;

/// Deepest nesting of indexes.
const DEPTH_LIMIT: usize = 4;
/// Most manifests looked at for one image.
const ENTRY_LIMIT: usize = 256;

/// Resolves images and fetches their blobs.
pub struct Puller {
    context: Context,
    cache: Arc<Cache>,
    registries: Mutex<HashMap<String, Arc<Registry>>>,
}

/// One image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// Reference as the Compose file has it.
    pub reference: String,
    /// Platform asked for.
    pub platform: Platform,
    /// Digest of the platform's manifest.
    pub digest: Digest,
    /// The image config, byte for byte.
    pub config: String,
    /// Layers, the lowest first.
    pub layers: Vec<Layer>,
    source: Arc<Source>,
}

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the layer's uncompressed tar.
    pub diff_id: DiffId,
    /// Digest of the blob as it is served.
    pub blob: Digest,
    /// Size of the blob.
    pub size: u64,
}

enum Source {
    Registry(Arc<Registry>, ImageReference),
    Local(Box<Local>, String),
}

/// A manifest that an index offers, or the one that there is.
struct Candidate {
    descriptor: Descriptor,
    loaded: Option<(Manifest, Config, String)>,
}

impl Puller {
    /// Nothing is contacted yet.
    pub fn new(
        options: Options,
        credentials: Credentials,
        cache: Arc<Cache>,
        reporter: Arc<dyn Reporter>,
        cancel: Cancel,
    ) -> Self {
        let context =
            Context { options: Arc::new(options), credentials: Arc::new(credentials), reporter, cancel };
        Self { context, cache, registries: Mutex::default() }
    }

    /// Finds `image` for each of `platforms`, in its registry or in `local`.
    pub async fn resolve(
        &self,
        image: &str,
        local: Option<&LocalSource>,
        platforms: &[Platform],
    ) -> Result<Vec<Image>, Error> {
        let source = Arc::new(match local {
            Some(local) => Source::Local(Box::new(Local::open(local)?), image.to_owned()),
            None => {
                let reference = ImageReference::parse(image)?;
                Source::Registry(self.registry(reference.registry()), reference)
            }
        });
        let candidates = self.candidates(&source).await?;
        let images = platforms.iter().map(|platform| self.choose(&source, platform, &candidates));
        try_join_all(images).await
    }

    /// Brings a layer's blob into the cache. Returns how many bytes were transferred: none when it was there.
    pub async fn fetch(&self, image: &Image, layer: &Layer) -> Result<u64, Error> {
        if self.cache.contains(Section::Blobs, &layer.blob.hex()) {
            return Ok(0);
        }
        self.fetch_blob(&image.source, &Descriptor::of(layer.blob, layer.size)).await
    }

    async fn fetch_blob(&self, source: &Source, blob: &Descriptor) -> Result<u64, Error> {
        match source {
            Source::Registry(registry, reference) => {
                blob::download(registry, reference, blob, &self.cache).await
            }
            Source::Local(local, image) => {
                local.import(image, blob, &self.cache, &self.context)?;
                Ok(blob.size)
            }
        }
    }

    fn registry(&self, name: &str) -> Arc<Registry> {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = registries.entry(name.to_owned());
        registry.or_insert_with(|| Arc::new(Registry::new(name, self.context.clone()))).clone()
    }

    /// Everything the reference leads to, by platform.
    async fn candidates(&self, source: &Source) -> Result<Vec<(Platform, Candidate)>, Error> {
        let mut found = Vec::new();
        let mut waiting: Vec<(Descriptor, usize)> = match source {
            Source::Local(local, _) => local.root().iter().map(|entry| (entry.clone(), 0)).collect(),
            Source::Registry(registry, reference) => {
                let digest = match reference.digest {
                    Some(digest) => Some(digest),
                    None => registry.head(&reference.text, &reference.parts).await?,
                };
                let digest = match digest {
                    Some(digest) => digest,
                    // A registry that does not tell the digest of a tag: what it sends is what the tag means.
                    None => {
                        let bytes = registry.manifest(&reference.text, &reference.parts).await?;
                        let digest = Digest::of(&bytes);
                        self.cache.write(Section::Blobs, &digest.hex(), &bytes)?;
                        digest
                    }
                };
                vec![(Descriptor::of(digest, 0), 0)]
            }
        };
        waiting.reverse();
        while let Some((descriptor, depth)) = waiting.pop() {
            let error = |reason: String| Error::Manifest { image: source.image().to_owned(), reason };
            if found.len() == ENTRY_LIMIT || depth > DEPTH_LIMIT {
                return Err(error("its index is too large or nested too deeply".to_owned()));
            }
            let is_index = descriptor.media_type.ends_with("image.index.v1+json")
                || descriptor.media_type.ends_with("manifest.list.v2+json");
            if let (Some(platform), false) = (&descriptor.platform, is_index) {
                found.push((platform.clone(), Candidate { descriptor, loaded: None }));
                continue;
            }
            match manifest::parse(&self.manifest(source, &descriptor.digest).await?).map_err(error)? {
                Manifest::Index(entries) => {
                    let entries = entries.into_iter().take(ENTRY_LIMIT + 1);
                    waiting.extend(
                        entries.map(|entry| (entry, depth + 1)).collect::<Vec<_>>().into_iter().rev(),
                    );
                }
                image @ Manifest::Image { .. } => {
                    let (config, text) = self.config(source, &image).await?;
                    let platform = config.platform.clone();
                    found.push((platform, Candidate { descriptor, loaded: Some((image, config, text)) }));
                }
            }
        }
        Ok(found)
    }

    async fn choose(
        &self,
        source: &Arc<Source>,
        wanted: &Platform,
        candidates: &[(Platform, Candidate)],
    ) -> Result<Image, Error> {
        let Some((_, candidate)) = platforms::choose(wanted, candidates) else {
            let mut available: Vec<Platform> = candidates
                .iter()
                .map(|(platform, _)| platform.clone())
                .filter(|platform| platform.os() != "unknown")
                .collect();
            available.sort();
            available.dedup();
            return Err(Error::NoPlatform {
                image: source.image().to_owned(),
                wanted: Box::new(wanted.clone()),
                available,
            });
        };
        let error = |reason: String| Error::Manifest { image: source.image().to_owned(), reason };
        let digest = candidate.descriptor.digest;
        let (manifest, config, text) = match &candidate.loaded {
            Some(loaded) => loaded.clone(),
            None => {
                let manifest = manifest::parse(&self.manifest(source, &digest).await?).map_err(error)?;
                let (config, text) = self.config(source, &manifest).await?;
                (manifest, config, text)
            }
        };
        let Manifest::Image { layers, .. } = manifest else {
            return Err(error(format!(
                "the entry for {wanted} is an index, though it is listed as an image"
            )));
        };
        if layers.len() != config.diff_ids.len() {
            let (manifest, config) = (layers.len(), config.diff_ids.len());
            return Err(error(format!("its manifest has {manifest} layers, its config has {config}")));
        }
        if platforms::distance(wanted, &config.platform).is_none() {
            // Docker runs such images, and there are many: the index is right, the config was copied.
            let reason = format!("listed for {wanted}, but its config says {}", config.platform);
            self.context.reporter.report(Event::Warning(format!("image `{}` is {reason}", source.image())));
        }
        let layers = layers
            .iter()
            .zip(&config.diff_ids)
            .map(|(layer, &diff_id)| Layer { diff_id, blob: layer.digest, size: layer.size })
            .collect();
        let reference = source.image().to_owned();
        let image = reference.clone();
        self.context.reporter.report(Event::Resolved { image, platform: wanted.clone(), digest });
        Ok(Image {
            reference,
            platform: wanted.clone(),
            digest,
            config: text,
            layers,
            source: source.clone(),
        })
    }

    /// A manifest by digest, from the cache or from its source; verified.
    async fn manifest(&self, source: &Source, digest: &Digest) -> Result<Vec<u8>, Error> {
        match source {
            Source::Local(local, image) => local.read(image, digest, MANIFEST_LIMIT),
            Source::Registry(registry, reference) => {
                if let Some(bytes) = self.cache.read_blob(digest, MANIFEST_LIMIT) {
                    return Ok(bytes);
                }
                let parts = reference.parts.clone_with_digest(digest.to_string());
                let bytes = registry.manifest(&reference.text, &parts).await?;
                let actual = Digest::of(&bytes);
                if actual != *digest {
                    return Err(Error::Mismatch {
                        image: reference.text.clone(),
                        what: "the manifest".to_owned(),
                        expected: digest.to_string(),
                        actual: actual.to_string(),
                    });
                }
                self.cache.write(Section::Blobs, &digest.hex(), &bytes)?;
                Ok(bytes)
            }
        }
    }

    /// The config of an image, parsed and as text.
    async fn config(&self, source: &Source, manifest: &Manifest) -> Result<(Config, String), Error> {
        let error = |reason: String| Error::Manifest { image: source.image().to_owned(), reason };
        let Manifest::Image { config: descriptor, .. } = manifest else {
            return Err(error("an index stands where an image should be".to_owned()));
        };
        if descriptor.size > CONFIG_LIMIT {
            return Err(error(format!("its config has {} bytes", descriptor.size)));
        }
        let digest = &descriptor.digest;
        let bytes = match source {
            Source::Local(local, image) => local.read(image, digest, CONFIG_LIMIT)?,
            Source::Registry(..) => match self.cache.read_blob(digest, CONFIG_LIMIT) {
                Some(bytes) => bytes,
                None => {
                    self.fetch_blob(source, descriptor).await?;
                    let again = || error("its config vanished from the cache while it was read".to_owned());
                    self.cache.read_blob(digest, CONFIG_LIMIT).ok_or_else(again)?
                }
            },
        };
        let config = manifest::parse_config(&bytes).map_err(error)?;
        let text = String::from_utf8(bytes).map_err(|_| error("its config is not UTF-8".to_owned()))?;
        Ok((config, text))
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Registry(_, reference) => {
                f.debug_tuple("Registry").field(&reference.canonical()).finish()
            }
            Source::Local(_, image) => f.debug_tuple("Local").field(image).finish(),
        }
    }
}

impl Source {
    fn image(&self) -> &str {
        match self {
            Source::Registry(_, reference) => &reference.text,
            Source::Local(_, image) => image,
        }
    }
}
