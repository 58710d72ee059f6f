//! Getting layers ready: pulling on this thread, cutting on others as soon as a blob is there.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use dpack_payload::digest::Digest;
use dpack_payload::write::LayerRecipe;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Error, Options, REPAIRS};
use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::layers::{self, cached_recipe, cut, tar};
use crate::payload::Sources;
use crate::pull::{self, Image, Layer, Puller};
use crate::reporter::{Event, Reporter};

/// A layer that is wanted, and an image that has it.
#[derive(Clone)]
pub(super) struct Need {
    image: Image,
    layer: Layer,
}

impl Need {
    /// Each layer of `images` that `wanted` names, once.
    pub(super) fn of<'i>(
        images: impl Iterator<Item = &'i Image>,
        wanted: impl Fn(&Layer) -> bool,
    ) -> Vec<Self> {
        let mut seen = HashSet::new();
        let mut needs = Vec::new();
        for image in images {
            for layer in image.layers.iter().filter(|layer| wanted(layer)) {
                if seen.insert(layer.diff_id) {
                    needs.push(Need { image: image.clone(), layer: *layer });
                }
            }
        }
        needs
    }
}

/// Recipes and tars, and who makes them.
pub(super) struct Workshop<'a> {
    runtime: &'a tokio::runtime::Runtime,
    puller: &'a Puller,
    pub(super) cache: &'a Cache,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) cancel: &'a Cancel,
    options: &'a Options,
    pub(super) sources: Sources,
    transferred: HashMap<Digest, u64>,
    worked: AtomicBool,
}

/// What a layer was made into.
type Made = (Option<LayerRecipe>, File);
type Attempts = Vec<(Need, Result<Made, layers::Error>)>;

impl<'a> Workshop<'a> {
    pub(super) fn new(
        runtime: &'a tokio::runtime::Runtime,
        puller: &'a Puller,
        cache: &'a Cache,
        reporter: &'a dyn Reporter,
        cancel: &'a Cancel,
        options: &'a Options,
    ) -> Self {
        Self {
            runtime,
            puller,
            cache,
            reporter,
            cancel,
            options,
            sources: Sources::default(),
            transferred: HashMap::new(),
            worked: AtomicBool::new(false),
        }
    }

    /// True when something was added to the cache.
    pub(super) fn changed(&self) -> bool {
        self.worked.load(Ordering::Relaxed)
    }

    /// Bytes of a blob that came over the network.
    pub(super) fn transferred(&self, blob: &Digest) -> u64 {
        self.transferred.get(blob).copied().unwrap_or(0)
    }

    /// Gets the recipe of every layer, from the cache where it is.
    pub(super) fn recipes<'i>(&mut self, images: impl Iterator<Item = &'i Image>) -> Result<(), Error> {
        let mut missing = Vec::new();
        for need in Need::of(images, |_| true) {
            match cached_recipe(self.cache, &need.layer.diff_id) {
                Some(recipe) => drop(self.sources.recipes.insert(need.layer.diff_id, recipe)),
                None => missing.push(need),
            }
        }
        self.obtain(missing)
    }

    /// Gets the tars of layers.
    pub(super) fn tars(&mut self, needs: Vec<Need>) -> Result<(), Error> {
        self.obtain(needs)
    }

    /// Pulls and unpacks; what turns out to be damaged in the cache is pulled again.
    fn obtain(&mut self, mut needs: Vec<Need>) -> Result<(), Error> {
        for repair in 0.. {
            if needs.is_empty() {
                break;
            }
            let mut again = Vec::new();
            for (need, result) in self.attempt(needs)? {
                match result {
                    Ok((recipe, tar)) => {
                        let diff_id = need.layer.diff_id;
                        if let Some(recipe) = recipe {
                            self.sources.recipes.insert(diff_id, recipe);
                        }
                        self.sources.tars.insert(diff_id, tar);
                    }
                    Err(error) if can_repair(&error) && repair < REPAIRS => again.push(need),
                    Err(error) => return Err(error.into()),
                }
            }
            needs = again;
        }
        Ok(())
    }

    fn attempt(&mut self, needs: Vec<Need>) -> Result<Attempts, Error> {
        let (queue, jobs) = mpsc::channel::<Need>();
        let jobs = Mutex::new(jobs);
        let made = Mutex::new(Vec::new());
        // Set by the first layer that fails, so that the others are not pulled in vain.
        let stop = Cancel::new();
        let this = &*self;
        let pulled = std::thread::scope(|scope| {
            for _ in 0..this.options.jobs.min(needs.len()) {
                scope.spawn(|| {
                    while let Ok(need) = next(&jobs) {
                        if stop.check().is_err() {
                            continue;
                        }
                        let result = this.make(&need);
                        if result.as_ref().is_err_and(|error| !can_repair(error)) {
                            stop.cancel();
                        }
                        made.lock().unwrap_or_else(PoisonError::into_inner).push((need, result));
                    }
                });
            }
            let pull = |need: Need| {
                let queue = &queue;
                async move {
                    let bytes = this.puller.fetch(&need.image, &need.layer).await?;
                    let blob = need.layer.blob;
                    // The workers are there until the queue is dropped.
                    let _ = queue.send(need);
                    Ok::<_, pull::Error>((blob, bytes))
                }
            };
            let all = stream::iter(needs).map(pull).buffer_unordered(this.options.downloads.max(1));
            let pulled = this.runtime.block_on(stop.or(all.try_collect::<Vec<_>>()));
            drop(queue);
            pulled
        });
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        match pulled {
            Ok(Ok(pulled)) => {
                for (blob, bytes) in pulled {
                    *self.transferred.entry(blob).or_default() += bytes;
                }
            }
            Ok(Err(error)) => return Err(error.into()),
            // A layer failed; its error says more.
            Err(_) => {}
        }
        self.cancel.check()?;
        Ok(made)
    }

    fn make(&self, need: &Need) -> Result<Made, layers::Error> {
        let (image, diff_id) = (need.image.reference.clone(), need.layer.diff_id);
        self.worked.store(true, Ordering::Relaxed);
        self.reporter.report(Event::LayerStarted { diff_id, image: image.clone() });
        let made = if self.sources.recipes.contains_key(&diff_id) {
            (None, tar(&image, &need.layer, self.cache, self.cancel)?)
        } else {
            let (recipe, tar) = cut(&image, &need.layer, self.cache, self.cancel)?;
            (Some(recipe), tar)
        };
        let size = made.0.as_ref().map_or(0, |recipe| recipe.tar_length);
        self.reporter.report(Event::LayerFinished { diff_id, size });
        Ok(made)
    }
}

/// True for what pulling the blob again may mend.
fn can_repair(error: &layers::Error) -> bool {
    matches!(error, layers::Error::DamagedBlob(_) | layers::Error::MissingBlob(_))
}

/// The next layer to work on; an error when there will be none.
fn next(jobs: &Mutex<mpsc::Receiver<Need>>) -> Result<Need, mpsc::RecvError> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv()
}
