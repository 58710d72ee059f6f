//! Whole builds against a registry in this process.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dpack::build::{self, Error, Options, build};
use dpack::cache::{Cache, Section};
use dpack::cancel::Cancel;
use dpack::compose;
use dpack::credentials::Credentials;
use dpack::extract::{Compression as Extracted, extract, find};
use dpack::inspect::inspect;
use dpack::pull::{self, LocalSource};
use dpack::report::Report;
use dpack::reporter::{Event, Reporter, Silent};
use dpack_compose::LoadOptions;
use dpack_payload::Payload;
use dpack_payload::digest::Digest;
use dpack_payload::write::Level;
use support::{Compression, Fault, Image, Registry, noise};

/// A project folder, a cache and an output folder.
struct Site {
    folder: tempfile::TempDir,
    cancel: Cancel,
}

impl Site {
    fn new(compose: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("compose.yml"), compose).unwrap();
        support::write_stubs(&folder.path().join("stubs"));
        Self { folder, cancel: Cancel::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> Options {
        Options {
            platforms: vec!["linux/amd64".parse().unwrap()],
            output: self.path("dist"),
            sources: BTreeMap::new(),
            level: Level::new(3).unwrap(),
            registries: pull::Options::default(),
            credentials: Credentials::default(),
            cache: self.path("cache"),
            cache_limit: u64::MAX,
            jobs: 3,
            downloads: 3,
            stub_dir: Some(self.path("stubs")),
            image_tool: dpack::image_tool::Options::default(),
        }
    }

    fn build_with(&self, options: &Options, reporter: Arc<dyn Reporter>) -> Result<Report, Error> {
        let load = LoadOptions { working_dir: self.folder.path().to_owned(), ..LoadOptions::default() };
        let application = compose::run(&compose::Options { load, ..Default::default() }).unwrap();
        build(&application, options, reporter, &self.cancel)
    }

    fn build(&self) -> Result<Report, Error> {
        self.build_with(&self.options(), Arc::new(Silent))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("dist").join(name)).unwrap()
    }

    fn output(&self) -> Vec<String> {
        let Ok(items) = fs::read_dir(self.path("dist")) else { return Vec::new() };
        items.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn entries(&self, section: Section) -> Vec<PathBuf> {
        let items = fs::read_dir(self.path("cache").join(section.name())).unwrap();
        items.map(|item| item.unwrap().path()).collect()
    }
}

fn shop(registry: &Registry) -> String {
    format!(
        "name: shop\nservices:\n  web:\n    image: {}\n  worker:\n    image: {}\n  cache:\n    image: {}\n",
        registry.name("web:1"),
        registry.name("web:1"),
        registry.name("cache"),
    )
}

/// Two images that share a layer and a file.
fn images(platform: &str) -> (Image, Image) {
    let base = noise(7, 300_000);
    let shared = noise(8, 50_000);
    let web = Image::new(platform)
        .layer(Compression::Gzip, &[("base", &base), ("small", b"x")])
        .layer(Compression::Zstd, &[("web", platform.as_bytes()), ("shared", &shared)]);
    let cache = Image::new(platform)
        .layer(Compression::Gzip, &[("base", &base), ("small", b"x")])
        .layer(Compression::None, &[("copy", &shared), ("more", &noise(9, 700))]);
    (web, cache)
}

fn serve() -> Registry {
    let registry = Registry::serve();
    let (web, cache) = images("linux/amd64");
    let (web_arm, cache_arm) = images("linux/arm/v7");
    registry.push_index("web", "1", &[&web, &web_arm]);
    registry.push_index("cache", "latest", &[&cache, &cache_arm]);
    registry
}

#[test]
fn every_platform_gets_an_executable_with_its_images() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    let mut options = site.options();
    options.platforms = vec!["linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap()];
    let report = site.build_with(&options, Arc::new(Silent)).unwrap();
    assert_eq!(report.executables.len(), 2);
    for (name, platform) in [("shop-amd64", "linux/amd64"), ("shop-armv7", "linux/arm/v7")] {
        let path = site.path("dist").join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o755);
        let payload = Payload::open(File::open(&path).unwrap()).unwrap();
        let application = payload.application();
        assert_eq!(application.name, "shop");
        assert_eq!(application.images.len(), 2);
        assert_eq!(application.images[1].services, ["web", "worker"]);
        let (web, cache) = images(platform);
        for (image, expected) in application.images.iter().zip([cache, web]) {
            assert_eq!(image.platform.to_string(), platform);
            assert_eq!(image.config.as_bytes(), expected.config());
            for (diff_id, (tar, _)) in image.layers.iter().zip(&expected.layers) {
                let mut bytes = Vec::new();
                payload.layer(diff_id).unwrap().read_to_end(&mut bytes).unwrap();
                assert!(bytes == *tar, "{diff_id} of {platform} comes back as it was");
            }
        }
    }
    assert_eq!(site.output().len(), 2, "no temporary file stays");

    // The base layer and the shared file are there once.
    let amd64 = &report.executables[0];
    assert!(amd64.unique_size < 400_000, "{amd64:?}");
    assert_eq!(amd64.images.iter().map(|image| image.unique_size).sum::<u64>(), amd64.unique_size);
    assert_eq!(amd64.images.iter().map(|image| image.stored_size).sum::<u64>(), amd64.stored_size);

    let inspection = inspect(&site.path("dist/shop-amd64")).unwrap();
    assert_eq!(inspection.services.len(), 3);
    assert_eq!(inspection.layers.len(), 3);
    assert_eq!(inspection.layers.iter().filter(|layer| layer.images == 2).count(), 1);
    assert_eq!(inspection.totals.layers_size, amd64.layers_size);
    assert!(inspection.totals.images_size > inspection.totals.layers_size);
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_a_second_build_pulls_nothing() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    let first = site.build().unwrap();
    let bytes = site.read("shop-amd64");
    assert!(first.executables[0].images[0].pulled_size > 0);
    // What is left when only recipes and frames are cached.
    for (web, cache) in [images("linux/amd64")] {
        for blob in web.layer_blobs().iter().chain(&cache.layer_blobs()) {
            let _ = fs::remove_file(site.path("cache/blobs").join(Digest::of(blob).hex()));
        }
    }
    registry.forget_requests();
    let second = site.build().unwrap();
    let mut requests = registry.requests();
    requests.sort();
    requests.retain(|request| !request.ends_with(" /v2/"));
    assert_eq!(requests, ["HEAD /v2/cache/manifests/latest", "HEAD /v2/web/manifests/1"]);
    assert_eq!(second.executables[0].frames_cached, second.executables[0].frames);
    assert!(site.read("shop-amd64") == bytes);

    let elsewhere = Site::new(&shop(&registry));
    let mut options = elsewhere.options();
    options.jobs = 1;
    elsewhere.build_with(&options, Arc::new(Silent)).unwrap();
    assert!(elsewhere.read("shop-amd64") == bytes);
}

#[test]
fn what_is_damaged_in_the_cache_is_made_again() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    site.build().unwrap();
    let bytes = site.read("shop-amd64");
    let spoil = |section: Section| {
        for path in site.entries(section) {
            let mut content = fs::read(&path).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::write(path, content).unwrap();
        }
    };
    let remove =
        |section: Section| site.entries(section).iter().for_each(|path| fs::remove_file(path).unwrap());
    spoil(Section::Frames);
    site.build().unwrap();
    assert!(site.read("shop-amd64") == bytes);

    spoil(Section::Recipes);
    spoil(Section::Frames);
    spoil(Section::Blobs);
    site.build().unwrap();
    assert!(site.read("shop-amd64") == bytes);

    // Blobs are read only when something else is missing.
    remove(Section::Recipes);
    remove(Section::Frames);
    spoil(Section::Blobs);
    site.build().unwrap();
    assert!(site.read("shop-amd64") == bytes);
}

#[test]
fn two_builds_at_once_share_a_cache() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let mut options = site.options();
                options.output = site.path(&format!("dist{number}"));
                let site = &site;
                scope.spawn(move || site.build_with(&options, Arc::new(Silent)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let bytes: Vec<_> =
        results.into_iter().map(|report| fs::read(&report.unwrap().executables[0].path).unwrap()).collect();
    assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
    assert_eq!(fs::read_dir(site.path("cache/tmp")).unwrap().count(), 0);
}

fn one_service(registry: &Registry) -> Site {
    Site::new(&format!("name: one\nservices:\n  app:\n    image: {}\n", registry.name("app")))
}

fn build_image(image: &Image) -> (Site, Result<Report, Error>) {
    let registry = Registry::serve();
    registry.push("app", "latest", image);
    let site = one_service(&registry);
    let result = site.build();
    (site, result)
}

#[test]
fn broken_and_hostile_layers_are_refused_and_leave_nothing() {
    let good = || Image::new("linux/amd64").layer(Compression::Gzip, &[("a", b"content")]);
    let mut lying = good();
    lying.diff_ids = Some(vec![Digest::of(b"another")]);

    let mut outside = Image::new("linux/amd64");
    outside.layers.push((support::raw_tar("../../etc/cron.d/x", 0), Compression::Gzip));
    let mut huge = Image::new("linux/amd64");
    huge.layers.push((support::raw_tar("huge", 1 << 34), Compression::Zstd));
    let mut truncated = good();
    let (tar, _) = truncated.layers.remove(0);
    let mut gzip = support::compress(&tar, Compression::Gzip);
    gzip.truncate(gzip.len() - 12);
    truncated.layers.push((gzip, Compression::None));
    truncated.diff_ids = Some(vec![Digest::of(&tar)]);

    for (image, expected) in [
        (lying, "but the config says"),
        (outside, "../../etc/cron.d/x"),
        (huge, "`huge` says it has 17179869184 bytes"),
        (truncated, "does not decompress"),
    ] {
        let (site, result) = build_image(&image);
        let error = result.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("/app`"), "names the image: {error}");
        assert_eq!(error.kind(), dpack::error::Kind::Input);
        assert!(site.output().is_empty());
        assert!(site.entries(Section::Recipes).is_empty());
    }
    build_image(&good()).1.unwrap();
}

#[test]
fn a_registry_that_dies_half_way_leaves_nothing_and_the_next_build_goes_on() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    let blob = Digest::of(&images("linux/amd64").0.layer_blobs()[0]);
    for _ in 0..2 {
        registry.fail(&blob.to_string(), Fault::BreakAfter(10));
    }
    let mut options = site.options();
    options.registries.backoff.attempts = 1;
    let error = site.build_with(&options, Arc::new(Silent)).unwrap_err();
    assert!(matches!(error, Error::Pull(pull::Error::Unreachable { .. })), "{error}");
    assert!(site.output().is_empty());
    assert_eq!(fs::read_dir(site.path("cache/tmp")).unwrap().count(), 0);
    site.build().unwrap();
}

/// Asks to stop as soon as an executable is being written.
struct StopAt(Cancel);

impl Reporter for StopAt {
    fn report(&self, event: Event) {
        if matches!(event, Event::CompressStarted { .. }) {
            self.0.cancel();
        }
    }
}

#[test]
fn an_interrupted_build_leaves_the_old_executable() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    fs::create_dir(site.path("dist")).unwrap();
    fs::write(site.path("dist/shop-amd64"), "old").unwrap();
    let result = site.build_with(&site.options(), Arc::new(StopAt(site.cancel.clone())));
    assert_eq!(result.unwrap_err().kind(), dpack::error::Kind::Interrupted);
    assert_eq!(site.output(), ["shop-amd64"]);
    assert_eq!(site.read("shop-amd64"), b"old");
}

#[test]
fn images_come_from_files_when_asked() {
    let (web, _) = images("linux/amd64");
    let site = Site::new("name: one\nservices:\n  app:\n    image: registry.invalid/app:1\n");
    web.write_layout(&site.path("layout"), "v1");
    let mut options = site.options();
    let source = LocalSource::parse(&format!("oci:{}:v1", site.path("layout").display())).unwrap();
    options.sources.insert("registry.invalid/app:1".to_owned(), source);
    site.build_with(&options, Arc::new(Silent)).unwrap();

    let error = site.build().unwrap_err();
    assert!(error.to_string().contains("registry.invalid"), "{error}");
}

#[test]
fn an_extracted_image_is_the_one_that_was_packed() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    site.build().unwrap();
    let payload = dpack::inspect::open(&site.path("dist/shop-amd64")).unwrap();
    let image = find(&payload.application().images, "web", None).unwrap();
    assert!(find(&payload.application().images, "none", None).unwrap_err().to_string().contains("web:1"));
    for (name, compression) in [("a", Extracted::None), ("b", Extracted::Gzip), ("c", Extracted::Zstd)] {
        let folder = site.path(name);
        extract(&payload, image, &folder, Some("v1"), compression, &site.cancel).unwrap();
        // What comes out goes in again, through all verification.
        let again = Site::new(&format!("name: again\nservices:\n  app:\n    image: {}\n", image.reference));
        let mut options = again.options();
        let source = LocalSource::parse(&format!("oci:{}:v1", folder.display())).unwrap();
        options.sources.insert(image.reference.clone(), source);
        again.build_with(&options, Arc::new(Silent)).unwrap();
        let payload = dpack::inspect::open(&again.path("dist/again-amd64")).unwrap();
        let second = &payload.application().images[0];
        assert_eq!((&second.config, &second.layers), (&image.config, &image.layers));
    }
    let error = extract(&payload, image, &site.path("a"), None, Extracted::None, &site.cancel).unwrap_err();
    assert!(error.hint().is_some(), "{error}");
}

#[test]
fn the_cache_is_kept_below_its_limit() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    let mut options = site.options();
    options.cache_limit = 10_000;
    site.build_with(&options, Arc::new(Silent)).unwrap();
    let entries = Cache::open(&site.path("cache")).unwrap().entries().unwrap();
    assert!(entries.iter().map(|entry| entry.size).sum::<u64>() <= 10_000);
}

#[test]
fn without_a_runner_nothing_is_pulled() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    fs::remove_dir_all(site.path("stubs")).unwrap();
    let error = site.build().unwrap_err();
    assert!(matches!(error, build::Error::Splice(_)), "{error}");
    assert!(registry.requests().is_empty());
}

#[test]
fn an_output_folder_that_is_a_file_is_named() {
    let registry = serve();
    let site = Site::new(&shop(&registry));
    fs::write(site.path("dist"), "").unwrap();
    let error = site.build().unwrap_err();
    assert!(error.to_string().contains(&Path::new("dist").display().to_string()), "{error}");
}
