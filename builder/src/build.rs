//! A whole build: the stages one after the other.
//!
//! The cache decides how much there is to do. A layer whose recipe is known is not read again; a frame that is known is
//! not compressed again; a layer whose frames are all known is not even pulled. So a second build of the same file asks
//! the registry for the tags and copies frames.

mod obtain;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dpack_payload::application;
use dpack_payload::digest::DiffId;
use dpack_payload::platform::Platform;
use dpack_payload::write::{FramePlan, LayerRecipe, Level, Place, Summary, plan_frames};
use futures_util::future::try_join_all;

use self::obtain::{Need, Workshop};
use crate::cache::Cache;
use crate::cancel::{Cancel, Cancelled};
use crate::credentials::Credentials;
use crate::error::Kind;
use crate::image_tool::{self, Built, ImageTool};
use crate::payload::{self, Pipeline, is_cached};
use crate::plan::{self, Executable, Plan, PlannedBuild};
use crate::pull::{self, Image, LocalSource, Puller};
use crate::report::{ExecutableReport, ImageReport, Report, shares};
use crate::reporter::{Event, Reporter};
use crate::splice::{self, Output};
use crate::{cache, compose, layers, project_files};

/// How often something damaged in the cache is made again before the cache is blamed.
const REPAIRS: usize = 3;

/// How to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Platforms to build for.
    pub platforms: Vec<Platform>,
    /// Folder for the executables.
    pub output: PathBuf,
    /// Images to take from files, by name.
    pub sources: BTreeMap<String, LocalSource>,
    /// Compression level.
    pub level: Level,
    /// How registries are reached.
    pub registries: pull::Options,
    /// Who we are to them.
    pub credentials: Credentials,
    /// Folder of the cache.
    pub cache: PathBuf,
    /// Size that the cache is kept below.
    pub cache_limit: u64,
    /// Threads for decompressing and compressing.
    pub jobs: usize,
    /// Downloads at once.
    pub downloads: usize,
    /// Folder to take runners from instead of the embedded ones.
    pub stub_dir: Option<PathBuf>,
    /// How images of `build:` are made.
    pub image_tool: image_tool::Options,
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Planning.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// Files of the project folder.
    #[error(transparent)]
    Files(#[from] project_files::Error),
    /// Building images.
    #[error(transparent)]
    ImageTool(#[from] image_tool::Error),
    /// Pulling.
    #[error(transparent)]
    Pull(#[from] pull::Error),
    /// Layers.
    #[error(transparent)]
    Layers(#[from] layers::Error),
    /// Payload and output.
    #[error(transparent)]
    Splice(#[from] splice::Error),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// No threads for the network.
    #[error("failed to start the network runtime")]
    Runtime(#[source] std::io::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Plan(error) => error.kind(),
            Error::Files(error) => error.kind(),
            Error::ImageTool(error) => error.kind(),
            Error::Pull(error) => error.kind(),
            Error::Layers(error) => error.kind(),
            Error::Splice(error) => error.kind(),
            Error::Cache(_) | Error::Runtime(_) => Kind::Environment,
            Error::Cancelled(_) => Kind::Interrupted,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Plan(error) => error.hint(),
            Error::Files(error) => error.hint(),
            Error::ImageTool(error) => error.hint(),
            Error::Pull(error) => error.hint(),
            Error::Layers(error) => error.hint(),
            Error::Splice(error) => error.hint(),
            Error::Cache(error) => error.hint(),
            Error::Runtime(_) | Error::Cancelled(_) => None,
        }
    }
}

impl From<payload::Error> for Error {
    fn from(error: payload::Error) -> Self {
        Error::Splice(error.into())
    }
}

/// Builds one executable for each platform.
pub fn build(
    compose: &compose::Application,
    options: &Options,
    reporter: Arc<dyn Reporter>,
    cancel: &Cancel,
) -> Result<Report, Error> {
    let start = Instant::now();
    let mut plan = plan::plan(&compose.resolved.project, &options.platforms, &options.sources)?;
    // Before anything is pulled: a build without runners would be in vain.
    let mut heads = Vec::new();
    for Executable { platform, target, .. } in &plan.executables {
        heads.push(splice::head(platform, target, options.stub_dir.as_deref())?);
    }
    let cache = Arc::new(Cache::open(&options.cache)?);
    // The folder is there until the build is done.
    let mut scratch = None;
    if !compose.travelling.is_empty() {
        let platforms: Vec<Platform> = plan.executables.iter().map(|e| e.platform.clone()).collect();
        let (folder, source) = compose.travelling.image(&platforms, &cache.root().join("tmp"))?;
        scratch = Some(folder);
        let reference = application::PROJECT_FILES.to_owned();
        plan.images.push(plan::PlannedImage {
            reference,
            services: Vec::new(),
            local: Some(source),
            build: None,
        });
    }
    let scratch_dir = cache.root().join("tmp");
    // Their archives are there until the build is done.
    let built = make_images(compose, &plan, options, &*reporter, cancel, &scratch_dir)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let puller = Puller::new(
        options.registries.clone(),
        options.credentials.clone(),
        cache.clone(),
        reporter.clone(),
        cancel.clone(),
    );
    let platforms: Vec<Platform> =
        plan.executables.iter().map(|executable| executable.platform.clone()).collect();
    let images =
        runtime.block_on(try_join_all(plan.images.iter().zip(&built).map(|(image, built)| async {
            if image.build.is_none() {
                return puller.resolve(&image.reference, image.local.as_ref(), &platforms).await;
            }
            let mut images = Vec::new();
            for (built, platform) in built.iter().zip(&platforms) {
                let platform = std::slice::from_ref(platform);
                images.extend(puller.resolve(&image.reference, Some(&built.source), platform).await?);
            }
            Ok(images)
        })))?;
    let mut workshop = Workshop::new(&runtime, &puller, &cache, &*reporter, cancel, options);
    workshop.recipes(images.iter().flatten())?;

    let mut executables = Vec::new();
    let mut changed = workshop.changed();
    for (number, (executable, head)) in plan.executables.iter().zip(heads).enumerate() {
        let images: Vec<&Image> = images.iter().filter_map(|platforms| platforms.get(number)).collect();
        let mut build = ExecutableBuild { compose, plan: &plan, executable, images, options, changed: false };
        executables.push(build.run(&mut workshop, &head)?);
        changed |= build.changed;
    }
    changed |= workshop.changed();
    drop(workshop);
    drop((puller, cache, scratch, built));
    if changed {
        // Another build may be running; then its end will do.
        Cache::prune(&options.cache, options.cache_limit, false)?;
    }
    let project_files = compose.travelling.files.clone();
    Ok(Report { project: plan.project, project_files, executables, seconds: start.elapsed().as_secs_f64() })
}

/// Makes the images that are to be built: for each image of the plan, one for each executable.
fn make_images(
    compose: &compose::Application,
    plan: &Plan,
    options: &Options,
    reporter: &dyn Reporter,
    cancel: &Cancel,
    scratch: &Path,
) -> Result<Vec<Vec<Built>>, image_tool::Error> {
    let place = |service: &str| compose.resolved.diagnostic(&["services", service, "build"], "").place();
    let Some(first) = plan.images.iter().find_map(|image| image.build.as_ref()) else {
        return Ok(plan.images.iter().map(|_| Vec::new()).collect());
    };
    let first = place(&first.service);
    let tool = ImageTool::find(&options.image_tool, &compose.project_dir, reporter, cancel, &first)?;
    let project = &compose.resolved.project;
    let made = plan.images.iter().map(|image| {
        let Some(PlannedBuild { build, service }) = &image.build else { return Ok(Vec::new()) };
        let place = place(service);
        let platforms = plan.executables.iter().map(|executable| &executable.platform);
        platforms.map(|platform| tool.build(project, build, &place, platform, scratch)).collect()
    });
    made.collect()
}

/// One executable on its way.
struct ExecutableBuild<'a> {
    compose: &'a compose::Application,
    plan: &'a Plan,
    executable: &'a Executable,
    images: Vec<&'a Image>,
    options: &'a Options,
    /// Something was added to the cache.
    changed: bool,
}

impl ExecutableBuild<'_> {
    fn run(
        &mut self,
        workshop: &mut Workshop<'_>,
        head: &dpack_payload::write::StubHead,
    ) -> Result<ExecutableReport, Error> {
        let platform = &self.executable.platform;
        let frames = plan_frames(self.recipes(workshop), self.options.level);
        let application = self.application();
        let mut repairs = 0;
        loop {
            let missing: Vec<&FramePlan> =
                frames.iter().filter(|frame| !is_cached(workshop.cache, frame)).collect();
            self.changed |= !missing.is_empty();
            workshop.tars(self.needed(&missing, workshop))?;
            let total = missing.iter().map(|frame| u64::from(frame.raw_length)).sum();
            workshop.reporter.report(Event::CompressStarted { platform: platform.clone(), total });
            match self.write(workshop, head.clone(), &frames, &application) {
                Ok((path, summary, stored)) => {
                    let size = summary.file_length;
                    let event = Event::Written { platform: platform.clone(), path: path.clone(), size };
                    workshop.reporter.report(event);
                    let cached = frames.len() - missing.len();
                    return Ok(self.report(workshop, path, &summary, &frames, &stored, cached));
                }
                Err(Error::Splice(splice::Error::Payload(payload::Error::DamagedFrame(_))))
                    if repairs < REPAIRS =>
                {
                    repairs += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Recipes of all layers, in the order of images and layers.
    fn recipes<'w>(&self, workshop: &'w Workshop<'_>) -> Vec<&'w LayerRecipe> {
        let mut seen = HashSet::new();
        let layers = self.images.iter().flat_map(|image| &image.layers);
        layers
            .filter(|layer| seen.insert(layer.diff_id))
            .filter_map(|layer| workshop.sources.recipes.get(&layer.diff_id))
            .collect()
    }

    /// The layers whose tars are needed to make `frames`.
    fn needed(&self, frames: &[&FramePlan], workshop: &Workshop<'_>) -> Vec<Need> {
        let chunks = frames.iter().flat_map(|frame| &frame.chunks);
        let wanted: HashSet<DiffId> = chunks
            .filter(|chunk| matches!(chunk.source.place, Place::Tar(_)))
            .map(|chunk| chunk.source.layer)
            .filter(|layer| !workshop.sources.tars.contains_key(layer))
            .collect();
        Need::of(self.images.iter().copied(), |layer| wanted.contains(&layer.diff_id))
    }

    fn write(
        &self,
        workshop: &Workshop<'_>,
        head: dpack_payload::write::StubHead,
        frames: &[FramePlan],
        application: &application::Application,
    ) -> Result<(PathBuf, Summary, Vec<u64>), Error> {
        let platform = &self.executable.platform;
        let output = Output::create(&self.options.output, &self.executable.file_name, platform)?;
        let mut writer = output.writer(head, self.options.level)?;
        let done = AtomicU64::new(0);
        let compressed = |raw: u32| {
            let done = done.fetch_add(u64::from(raw), Ordering::Relaxed) + u64::from(raw);
            workshop.reporter.report(Event::CompressProgress { platform: platform.clone(), done });
        };
        let pipeline = Pipeline {
            sources: &workshop.sources,
            cache: workshop.cache,
            jobs: self.options.jobs,
            cancel: workshop.cancel,
            compressed: &compressed,
        };
        let stored = pipeline.write(frames, &mut writer).map_err(|error| output.name(error))?;
        for recipe in self.recipes(workshop) {
            writer.layer(recipe).map_err(|error| output.name(error.into()))?;
        }
        let (_, summary) = writer.finish(application).map_err(|error| output.name(error.into()))?;
        workshop.cancel.check()?;
        Ok((output.finish(&summary, application)?, summary, stored))
    }

    fn application(&self) -> application::Application {
        let images = self.images.iter().zip(&self.plan.images).map(|(image, planned)| application::Image {
            reference: image.reference.clone(),
            services: planned.services.clone(),
            platform: image.platform.clone(),
            digest: image.digest,
            config: image.config.clone(),
            layers: image.layers.iter().map(|layer| layer.diff_id).collect(),
        });
        application::Application {
            name: self.plan.project.clone(),
            compose: self.compose.model.clone(),
            // The model carries its `.env` itself.
            environment: BTreeMap::new(),
            images: images.collect(),
            builder: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn report(
        &self,
        workshop: &Workshop<'_>,
        path: PathBuf,
        summary: &Summary,
        frames: &[FramePlan],
        stored: &[u64],
        frames_cached: usize,
    ) -> ExecutableReport {
        let shares = shares(frames, stored);
        let mut counted = HashSet::new();
        let images = self.images.iter().zip(&self.plan.images).map(|(image, planned)| {
            let mut report = ImageReport {
                reference: image.reference.clone(),
                digest: image.digest,
                services: planned.services.clone(),
                layers: image.layers.len(),
                registry_size: 0,
                pulled_size: 0,
                layers_size: 0,
                unique_size: 0,
                stored_size: 0,
            };
            for layer in &image.layers {
                report.registry_size += layer.size;
                let recipe = workshop.sources.recipes.get(&layer.diff_id);
                report.layers_size += recipe.map_or(0, |recipe| recipe.tar_length);
                if counted.insert(layer.diff_id) {
                    report.pulled_size += workshop.transferred(&layer.blob);
                    let (unique, stored) = shares.get(&layer.diff_id).copied().unwrap_or_default();
                    report.unique_size += unique;
                    report.stored_size += stored;
                }
            }
            report
        });
        ExecutableReport {
            platform: self.executable.platform.clone(),
            path,
            size: summary.file_length,
            runner_size: summary.file_length - summary.payload_length,
            digest: summary.digest,
            layers_size: summary.tar_length,
            unique_size: summary.raw_length,
            stored_size: stored.iter().sum(),
            frames: frames.len(),
            frames_cached,
            images: images.collect(),
        }
    }
}
