//! Pulling from a registry that behaves, and from ones that do not.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dpack::cache::{Cache, Section};
use dpack::cancel::Cancel;
use dpack::credentials::Credentials;
use dpack::pull::{Backoff, Error, Image as Pulled, LocalSource, Options, Puller};
use dpack::reporter::Silent;
use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;
use support::{Auth, Compression, Fault, Image, Registry, noise};

struct Build {
    cache: Arc<Cache>,
    puller: Puller,
    _folder: tempfile::TempDir,
}

fn build_with(credentials: &str) -> Build {
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(folder.path()).unwrap());
    let file = folder.path().join("auth.json");
    std::fs::write(&file, credentials).unwrap();
    let credentials = Credentials::load(Some(&file), &[]).unwrap();
    let options = Options {
        backoff: Backoff { attempts: 3, first: Duration::from_millis(10), ..Backoff::default() },
        ..Options::default()
    };
    let puller = Puller::new(options, credentials, cache.clone(), Arc::new(Silent), Cancel::new());
    Build { cache, puller, _folder: folder }
}

fn build() -> Build {
    build_with("{}")
}

impl Build {
    async fn pull_for(&self, name: &str, platform: &str) -> Result<Pulled, Error> {
        let platform: Platform = platform.parse().unwrap();
        let image = self.puller.resolve(name, None, &[platform]).await?.remove(0);
        for layer in &image.layers {
            self.puller.fetch(&image, layer).await?;
        }
        Ok(image)
    }

    async fn pull(&self, name: &str) -> Result<Pulled, Error> {
        self.pull_for(name, "linux/amd64").await
    }

    /// What is in the cache must be the image's blobs.
    fn holds(&self, image: &Image) -> bool {
        image.blobs().iter().all(|blob| {
            let digest = Digest::of(blob);
            self.cache.read_blob(&digest, u64::MAX).as_deref() == Some(blob)
        })
    }
}

fn amd64() -> Image {
    Image::new("linux/amd64")
        .layer(Compression::Gzip, &[("a", &noise(1, 300_000))])
        .layer(Compression::Zstd, &[("b", b"two")])
        .layer(Compression::None, &[("c", b"three")])
}

fn large_blob(image: &Image) -> String {
    format!("/blobs/{}", Digest::of(&image.layer_blobs()[0]))
}

#[tokio::test]
async fn an_index_gives_each_platform_its_image() {
    let registry = Registry::serve();
    let (amd64, v6) = (amd64(), Image::new("linux/arm/v6").layer(Compression::Gzip, &[("a", b"arm")]));
    registry.push_index("team/app", "1", &[&amd64, &v6]);
    let build = build();
    let image = build.pull(&registry.name("team/app:1")).await.unwrap();
    assert_eq!(image.config.as_bytes(), amd64.config());
    assert_eq!(image.layers.len(), 3);
    assert!(build.holds(&amd64));

    let image = build.pull_for(&registry.name("team/app:1"), "linux/arm/v7").await.unwrap();
    assert_eq!(image.config.as_bytes(), v6.config());

    let error = build.pull_for(&registry.name("team/app:1"), "linux/arm64").await.unwrap_err();
    assert!(error.to_string().ends_with("has no linux/arm64; it has linux/amd64, linux/arm/v6"), "{error}");
    assert!(error.hint().unwrap().contains("--platform linux/amd64,linux/arm/v6"));
}

#[tokio::test]
async fn nested_indexes_docker_lists_and_single_manifests_work() {
    let registry = Registry::serve();
    let mut docker = amd64();
    docker.docker = true;
    let entry = registry.push("app", "single", &docker);
    let list =
        serde_json::json!({"schemaVersion": 2, "mediaType": support::DOCKER_LIST, "manifests": [entry]});
    let list = registry.push_manifest("app", "list", support::DOCKER_LIST, &list, None);
    let outer = serde_json::json!({"schemaVersion": 2, "manifests": [list]});
    registry.push_manifest("app", "outer", support::OCI_INDEX, &outer, None);
    for tag in ["single", "list", "outer"] {
        let build = build();
        let image = build.pull(&registry.name(&format!("app:{tag}"))).await.unwrap();
        assert_eq!(image.config.as_bytes(), docker.config(), "{tag}");
        assert!(build.holds(&docker), "{tag}");
    }
    // The platform of a single image is that of its config.
    let error = build().pull_for(&registry.name("app:single"), "linux/arm64").await.unwrap_err();
    assert!(matches!(error, Error::NoPlatform { .. }), "{error}");
}

#[tokio::test]
async fn a_digest_pins_and_a_second_pull_asks_for_the_tag_only() {
    let registry = Registry::serve();
    registry.push_index("app", "1", &[&amd64()]);
    let build = build();
    let image = build.pull(&registry.name("app:1")).await.unwrap();
    registry.forget_requests();
    build.pull(&registry.name("app:1")).await.unwrap();
    assert_eq!(registry.requests(), ["HEAD /v2/app/manifests/1"]);

    registry.forget_requests();
    let pinned = build.pull(&registry.name(&format!("app:other@{}", image.digest))).await.unwrap();
    assert_eq!(pinned.digest, image.digest);
    assert!(registry.requests().is_empty(), "a digest in the cache needs no registry");
}

#[tokio::test]
async fn a_broken_download_is_resumed_where_it_broke() {
    let registry = Registry::serve();
    let image = amd64();
    registry.push("app", "1", &image);
    registry.fail(&large_blob(&image), Fault::BreakAfter(100_000));
    registry.fail(&large_blob(&image), Fault::BreakAfter(50_000));
    let build = build();
    build.pull(&registry.name("app:1")).await.unwrap();
    assert!(build.holds(&image));
    let requests = registry.requests();
    let ranges: Vec<_> =
        requests.iter().filter_map(|request| request.split_once("bytes=")).map(|(_, r)| r).collect();
    assert_eq!(ranges, ["100000-", "150000-"]);
}

#[tokio::test]
async fn without_ranges_a_broken_download_starts_again() {
    let registry = Registry::serve().without_ranges();
    let image = amd64();
    registry.push("app", "1", &image);
    registry.fail(&large_blob(&image), Fault::BreakAfter(100_000));
    let build = build();
    build.pull(&registry.name("app:1")).await.unwrap();
    assert!(build.holds(&image));
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_after_the_pause_it_wants() {
    let registry = Registry::serve();
    let image = amd64();
    registry.push("app", "1", &image);
    registry.fail("/manifests/", Fault::Status(500, None));
    registry.fail("/manifests/", Fault::Status(429, Some(1)));
    registry.fail(&large_blob(&image), Fault::Status(503, None));
    registry.fail(&large_blob(&image), Fault::Status(503, Some(1)));
    let build = build();
    let start = Instant::now();
    build.pull(&registry.name("app:1")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(2), "two pauses of a second were asked for");
    assert!(build.holds(&image));
}

#[tokio::test]
async fn a_registry_that_stays_down_is_named_with_the_reason() {
    let registry = Registry::serve();
    let image = amd64();
    registry.push("app", "1", &image);
    for _ in 0..3 {
        registry.fail(&large_blob(&image), Fault::BreakAfter(0));
    }
    let build = build();
    let error = build.pull(&registry.name("app:1")).await.unwrap_err();
    assert!(error.to_string().contains(&registry.host()), "{error}");
    assert!(error.to_string().contains("after 3 attempts"), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(std::fs::read_dir(build.cache.root().join("tmp")).unwrap().count(), 0);

    let gone = build.pull("127.0.0.1:1/app").await.unwrap_err();
    assert!(gone.to_string().contains("refused"), "{gone}");
}

#[tokio::test]
async fn lies_are_found_out() {
    let registry = Registry::serve();
    let image = amd64();
    registry.push("app", "1", &image);
    registry.fail(&large_blob(&image), Fault::Lie);
    let build = build();
    let error = build.pull(&registry.name("app:1")).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    let blob = Digest::of(&image.layer_blobs()[0]);
    assert!(!build.cache.contains(Section::Blobs, &blob.hex()));

    let digest = registry.push("app", "2", &amd64())["digest"].as_str().unwrap().to_owned();
    registry.fail("/manifests/sha256", Fault::Lie);
    let error = self::build().pull(&registry.name(&format!("app@{digest}"))).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");

    // A layer that is longer than the manifest says.
    let mut manifest = image.manifest();
    manifest["layers"][0]["size"] = 10.into();
    registry.push_manifest("app", "short", support::OCI_MANIFEST, &manifest, None);
    let error = self::build().pull(&registry.name("app:short")).await.unwrap_err();
    assert!(error.to_string().contains("10 bytes"), "{error}");
}

#[tokio::test]
async fn unknown_images_are_told_from_unknown_registries() {
    let registry = Registry::serve();
    let error = build().pull(&registry.name("none:1")).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("none:1"), "{error}");
}

fn auth_file(registry: &Registry, entry: &str) -> String {
    format!(r#"{{"auths": {{"{}/team": {entry}}}}}"#, registry.host())
}

#[tokio::test]
async fn every_way_to_authenticate_works_and_wrong_credentials_are_told() {
    let right = r#"{"username": "u", "password": "p"}"#;
    let wrong = r#"{"username": "u", "password": "x"}"#;
    for (auth, entry) in [
        (Auth::Basic("u", "p"), right),
        (Auth::Bearer("u", "p"), right),
        (Auth::Refresh("refresh-me"), r#"{"identitytoken": "refresh-me"}"#),
    ] {
        let registry = Registry::serve().with_auth(auth);
        let image = amd64();
        registry.push("team/app", "1", &image);
        let name = registry.name("team/app:1");

        let build = build_with(&auth_file(&registry, entry));
        build.pull(&name).await.unwrap();
        assert!(build.holds(&image));

        let error = build_with(&auth_file(&registry, wrong)).pull(&name).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { had_credentials: true, .. }), "{error}");
        let error = build_with("{}").pull(&name).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { had_credentials: false, .. }), "{error}");
        assert!(error.hint().unwrap().contains("login"), "{error}");
    }
}

#[tokio::test]
async fn a_registry_may_ask_for_credentials_late() {
    let registry = Registry::serve().with_auth(Auth::Bearer("u", "p")).with_open_front();
    registry.push("team/app", "1", &amd64());
    let build = build_with(&auth_file(&registry, r#"{"username": "u", "password": "p"}"#));
    build.pull(&registry.name("team/app:1")).await.unwrap();
    assert!(build.holds(&amd64()));
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    let registry = Registry::serve().with_auth(Auth::Bearer("u", "p"));
    registry.push("team/app", "1", &amd64());
    let build = build_with(&auth_file(&registry, r#"{"username": "u", "password": "p"}"#));
    let platform = ["linux/amd64".parse().unwrap()];
    let image = build.puller.resolve(&registry.name("team/app:1"), None, &platform).await.unwrap().remove(0);
    registry.expire_tokens();
    for layer in &image.layers {
        build.puller.fetch(&image, layer).await.unwrap();
    }
    assert!(build.holds(&amd64()));
}

#[tokio::test]
async fn cancelling_stops_a_pause() {
    let registry = Registry::serve();
    registry.push("app", "1", &amd64());
    registry.fail("/manifests/", Fault::Status(503, Some(100)));
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(folder.path()).unwrap());
    let cancel = Cancel::new();
    let puller =
        Puller::new(Options::default(), Credentials::default(), cache, Arc::new(Silent), cancel.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    });
    let platform = ["linux/amd64".parse().unwrap()];
    let result = puller.resolve(&registry.name("app:1"), None, &platform).await;
    assert!(matches!(result, Err(Error::Cancelled(_))));
}

async fn pull_local(source: &str) -> Result<(Build, Pulled), Error> {
    let build = build();
    let source = LocalSource::parse(source).unwrap();
    let platform = ["linux/amd64".parse().unwrap()];
    let image = build.puller.resolve("app", Some(&source), &platform).await?.remove(0);
    for layer in &image.layers {
        build.puller.fetch(&image, layer).await?;
    }
    Ok((build, image))
}

fn pack(folder: &Path, file: &Path) {
    let mut builder = tar::Builder::new(std::fs::File::create(file).unwrap());
    builder.append_dir_all(".", folder).unwrap();
    builder.finish().unwrap();
}

#[tokio::test]
async fn local_layouts_and_archives_are_verified_like_a_registry() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let image = amd64();
    image.write_layout(&layout, "v1");
    let (build, pulled) = pull_local(&format!("oci:{}:v1", layout.display())).await.unwrap();
    assert_eq!(pulled.config.as_bytes(), image.config());
    assert_eq!(build.cache.entries().unwrap().len(), 3, "manifest and config are not copied");

    let archive = folder.path().join("app.tar");
    pack(&layout, &archive);
    let (_, pulled) = pull_local(&format!("oci-archive:{}", archive.display())).await.unwrap();
    assert_eq!(pulled.digest.to_string(), Digest::of(image.manifest().to_string().as_bytes()).to_string());

    let blob = layout.join("blobs/sha256").join(Digest::of(&image.layer_blobs()[0]).hex());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let Err(error) = pull_local(&format!("oci:{}", layout.display())).await else { panic!() };
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    std::fs::remove_file(&blob).unwrap();
    let Err(error) = pull_local(&format!("oci:{}", layout.display())).await else { panic!() };
    assert!(error.to_string().contains("is not in it"), "{error}");
}

#[tokio::test]
async fn a_docker_archive_of_the_old_kind_is_an_image_too() {
    let folder = tempfile::tempdir().unwrap();
    let content = folder.path().join("content");
    let image = Image::new("linux/amd64")
        .layer(Compression::None, &[("a", &noise(3, 5000))])
        .layer(Compression::Gzip, &[("b", b"two")]);
    let config = image.config();
    let config_name = format!("{}.json", Digest::of(&config).hex());
    std::fs::create_dir_all(content.join("one")).unwrap();
    std::fs::create_dir_all(content.join("two")).unwrap();
    std::fs::write(content.join(&config_name), &config).unwrap();
    std::fs::write(content.join("one/layer.tar"), &image.layer_blobs()[0]).unwrap();
    std::fs::write(content.join("two/layer.tar"), &image.layer_blobs()[1]).unwrap();
    let manifest = serde_json::json!([{
        "Config": config_name,
        "RepoTags": ["team/app:1"],
        "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    std::fs::write(content.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = folder.path().join("app.tar");
    pack(&content, &archive);
    let (build, pulled) =
        pull_local(&format!("docker-archive:{}:team/app:1", archive.display())).await.unwrap();
    assert_eq!(pulled.config.as_bytes(), config);
    for blob in image.layer_blobs() {
        assert_eq!(build.cache.read_blob(&Digest::of(&blob), u64::MAX), Some(blob));
    }
    let Err(error) = pull_local(&format!("docker-archive:{}:other", archive.display())).await else {
        panic!()
    };
    assert!(error.to_string().contains("team/app:1"), "{error}");
}
