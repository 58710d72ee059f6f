//! Whole builds from a real registry and from files, judged by skopeo and umoci.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use dpack_payload::platform::Platform;
use dpack_targets::TARGETS;
use dpack_tests::images::{self, Compression, Format, Image, Index, Layer};
use dpack_tests::judges::{self, Identity, skopeo, skopeo_copy, umoci_listing};
use dpack_tests::{Dpack, Mood, Need, Output, Proxy, Registry, needs, wait_until};
use serde_json::Value;

const REGISTRY: [Need; 3] = [Need::Stubs, Need::Program("docker-registry"), Need::Program("skopeo")];

/// nginx by tag, redis by tag and digest, busybox by digest alone.
struct Shop {
    registry: Registry,
    images: [(&'static str, String); 3],
}

impl Shop {
    fn open() -> Result<Self> {
        let registry = Registry::start()?;
        let (nginx, redis, busybox) = (images::nginx()?, images::redis()?, images::busybox()?);
        registry.serve("library/nginx:1", &nginx)?;
        registry.serve("library/redis:7", &redis)?;
        registry.serve("tools/busybox:1", &busybox)?;
        let address = registry.address();
        let images = [
            ("web", format!("{address}/library/nginx:1")),
            ("store", format!("{address}/library/redis:7@{}", redis.root.digest)),
            ("job", format!("{address}/tools/busybox@{}", busybox.root.digest)),
        ];
        Ok(Self { registry, images })
    }

    fn compose(&self) -> String {
        let services = self.images.iter().map(|(name, image)| format!("  {name}:\n    image: {image}\n"));
        format!("name: shop\nservices:\n{}", services.collect::<String>())
    }

    fn dpack(&self) -> Result<Dpack> {
        Dpack::new()?.file("compose.yml", &self.compose())
    }

    /// What skopeo finds in the registry.
    fn identity(&self, reference: &str, platform: &Platform) -> Result<Identity> {
        // skopeo refuses a tag beside a digest
        let name = match reference.split_once('@') {
            Some((_, digest)) => format!("{}@{digest}", judges::without_tag(reference)),
            None => reference.to_owned(),
        };
        judges::identity(&format!("docker://{name}"), platform)
    }

    fn blobs_fetched(&self) -> Result<Vec<String>> {
        let mut requests = self.registry.requests()?;
        requests.retain(|request| request.starts_with("GET") && request.contains("/blobs/"));
        Ok(requests)
    }
}

fn inspect(dpack: &Dpack, file: &Path) -> Result<Value> {
    let file = file.to_str().context("path")?;
    Ok(serde_json::from_str(&dpack.run(&["inspect", file, "--format", "json"])?.success()?.stdout)?)
}

fn extract(dpack: &Dpack, file: &Path, image: &str, more: &[&str]) -> Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("layout-").tempdir_in(dpack.project())?.keep();
    let output = format!("oci:{}:v1", folder.display());
    let file = file.to_str().context("path")?;
    dpack.run(&[&["extract", file, "--image", image, "-o", &output], more].concat())?.success()?;
    Ok(folder)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// A field of each element, as texts.
fn texts<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().filter_map(|value| value[field].as_str()).collect()
}

/// Files that compress to about their own size, different for each seed.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// A small application with one service, `app`, whose image has a layer of `length` bytes.
fn small(registry: &Registry, length: usize) -> Result<Index> {
    let layer = Layer::new().file("data", 0o644, &noise(1, length));
    let index = Index::new(&[Image::new("linux/amd64")?.layer(layer)])?;
    registry.serve("team/app:1", &index)?;
    Ok(index)
}

fn one(address: &str) -> Result<Dpack> {
    let compose = format!("name: one\nservices:\n  app:\n    image: {address}/team/app:1\n");
    Dpack::new()?.file("compose.yml", &compose)
}

const AMD64: [&str; 3] = ["build", "--platform", "linux/amd64"];

#[test]
fn three_platforms_are_built_as_skopeo_describes_them_and_the_second_time_nothing_is_fetched() -> Result<()> {
    if !needs(&REGISTRY) || !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let shop = Shop::open()?;
    let dpack = shop.dpack()?;
    let platforms: Vec<&str> = TARGETS.iter().map(|target| target.platform).collect();
    let built = dpack.build(&platforms)?;
    assert_eq!(names(&dpack.project().join("dist"))?, ["shop-amd64", "shop-arm64", "shop-armv7"]);

    for target in TARGETS {
        let inspected =
            inspect(&dpack, &dpack.project().join("dist").join(format!("shop-{}", target.suffix)))?;
        assert_eq!(inspected["project"], "shop");
        assert_eq!(inspected["platforms"], serde_json::json!([target.platform]));
        for (service, reference) in &shop.images {
            assert_eq!(inspected["services"][service], *reference);
            let images = inspected["images"].as_array().context("images")?;
            let image = images.iter().find(|image| image["reference"] == *reference).context("image")?;
            assert_eq!(image["services"], serde_json::json!([service]));
            let found = Identity {
                manifest: image["digest"].as_str().unwrap_or_default().to_owned(),
                config: image["config_digest"].as_str().unwrap_or_default().to_owned(),
                diff_ids: serde_json::from_value(image["layers"].clone())?,
            };
            assert_eq!(
                found,
                shop.identity(reference, &target.platform.parse()?)?,
                "{reference} {}",
                target.platform
            );
        }
        // the three images stand on one base layer
        assert_eq!(inspected["layers"].as_array().map(Vec::len), Some(3), "{}", inspected["layers"]);
        assert_eq!(inspected["layers"][0]["images"], 3);
    }

    let fetched = shop.blobs_fetched()?;
    assert!(!fetched.is_empty());
    dpack.build(&platforms)?;
    assert_eq!(shop.blobs_fetched()?, fetched, "the second build fetches no blob");

    let elsewhere = shop.dpack()?;
    let again =
        elsewhere.command(&["build", "-q", "-j", "1", "--output", "out/deep", "compose.yml"]).output()?;
    Output::from(again).success()?;
    assert!(shop.blobs_fetched()?.len() > fetched.len(), "another cache knows nothing");
    for path in built {
        let other = elsewhere.project().join("out/deep").join(path.file_name().context("name")?);
        assert!(fs::read(&path)? == fs::read(&other)?, "{} differs", path.display());
    }
    Ok(())
}

#[test]
fn extracted_images_are_the_originals_to_skopeo_and_umoci() -> Result<()> {
    if !needs(&REGISTRY) || !needs(&[Need::DebianPackages, Need::Program("umoci"), Need::Root]) {
        return Ok(());
    }
    let shop = Shop::open()?;
    let dpack = shop.dpack()?;
    let [executable] = &dpack.build(&["linux/arm/v7"])?[..] else { panic!("one executable") };
    let platform = "linux/arm/v7".parse()?;
    let other = Registry::start()?;
    for (number, (service, reference)) in shop.images.iter().enumerate() {
        let original = shop.identity(reference, &platform)?;
        let name = judges::without_tag(reference);
        let at = format!("docker://{name}@{}", original.manifest);
        let compression = ["gzip", "zstd", "none"][number];
        // by the name of a service, and by reference
        let wanted = if number == 0 { service } else { reference.as_str() };
        let layout = extract(&dpack, executable, wanted, &["--compression", compression])?;
        let layout_name = format!("oci:{}:v1", layout.display());

        let extracted = judges::identity(&layout_name, &platform)?;
        assert_eq!(extracted.config, original.config, "{reference}");
        assert_eq!(extracted.diff_ids, original.diff_ids, "{reference}");
        let described: Value = serde_json::from_str(
            &skopeo(&["--override-arch", "arm", "--override-variant", "v7", "inspect", &layout_name])?
                .success()?
                .stdout,
        )?;
        let suffix = ["+gzip", "+zstd", ""][number];
        for layer in texts(&described["LayersData"], "MIMEType") {
            assert_eq!(layer, format!("application/vnd.oci.image.layer.v1.tar{suffix}"));
        }

        let copy = format!("docker://{}/{service}:1", other.address());
        skopeo_copy(&[&layout_name, &copy])?;
        let copied = judges::identity(&copy, &platform)?;
        assert_eq!((copied.config, copied.diff_ids), (original.config, original.diff_ids), "{reference}");

        let folder = tempfile::tempdir()?;
        let listing = |from: &str, tag: &str| -> Result<String> {
            // umoci reads gzip only
            let folder = folder.path().join(tag);
            let layout = format!("oci:{}:{tag}", folder.display());
            skopeo_copy(&["--dest-compress-format", "gzip", from, &layout])?;
            umoci_listing(&folder, tag)
        };
        let (theirs, ours) = (listing(&at, "theirs")?, listing(&layout_name, "ours")?);
        assert!(theirs.contains("busybox") && theirs.contains("sha256digest="), "{theirs}");
        assert!(theirs == ours, "{reference} unpacks differently");
    }
    Ok(())
}

#[test]
fn local_sources_give_what_the_registry_gives() -> Result<()> {
    if !needs(&REGISTRY) || !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let reference = registry.serve("tools/busybox:1", &images::busybox()?)?;
    let compose = format!("name: one\nservices:\n  app:\n    image: {reference}\n");
    let dpack = Dpack::new()?.file("compose.yml", &compose)?;
    let [executable] = &dpack.build(&["linux/arm64"])?[..] else { panic!("one executable") };
    let from_registry = inspect(&dpack, executable)?;

    let files = tempfile::tempdir()?;
    let path = |name: &str| files.path().join(name).display().to_string();
    let sources = [
        format!("oci:{}:v1", path("layout")),
        format!("oci-archive:{}:v1", path("oci.tar")),
        format!("docker-archive:{}:{reference}", path("docker.tar")),
        format!("docker-archive:{}", path("docker.tar")),
    ];
    for source in &sources[..3] {
        let copy = Output::of(std::process::Command::new("skopeo").args([
            "--insecure-policy",
            "--override-arch=arm64",
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            &format!("docker://{reference}"),
            source,
        ]))?;
        copy.success()?;
    }
    for source in &sources {
        // a cache that knows the registry's blobs would hide what the file lacks
        let elsewhere =
            Dpack::new()?.file("compose.yml", &compose.replace(&reference, "registry.invalid/app:1"))?;
        let from = format!("registry.invalid/app:1={source}");
        elsewhere
            .run(&["build", "--platform", "linux/arm64", "--from", &from, "compose.yml"])?
            .success()
            .with_context(|| source.clone())?;
        let inspected = inspect(&elsewhere, &elsewhere.project().join("dist/one-arm64"))?;
        assert_eq!(inspected["images"][0]["layers"], from_registry["images"][0]["layers"], "{source}");
        assert_eq!(inspected["layers"], from_registry["layers"], "{source}");
        assert_eq!(inspected["totals"], from_registry["totals"], "{source}");
    }

    let empty = format!("{reference}=oci:{}", files.path().display());
    let output = dpack.run(&["build", "--from", &empty, "compose.yml"])?.with_status(4)?;
    assert!(output.stderr.contains("is not an OCI image layout: it has no index.json"), "{}", output.stderr);
    Ok(())
}

#[test]
fn every_layer_compression_gives_the_same_layers() -> Result<()> {
    if !needs(&REGISTRY) || !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let gzip = registry.serve("shop/web:gzip", &images::nginx()?)?;
    // in another registry: in the same one skopeo would find the blobs and take them as they are
    let other = Registry::start()?;
    let zstd = format!("{}/shop/web:zstd", other.address());
    let (source, copy) = (format!("docker://{gzip}"), format!("docker://{zstd}"));
    skopeo_copy(&["--dest-compress-format", "zstd", &source, &copy])?;
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &copy])?.success()?.stdout;
    assert!(raw.contains("tar+zstd"), "skopeo recompressed: {raw}");

    let build = |reference: &str| -> Result<Value> {
        let compose = format!("name: one\nservices:\n  app:\n    image: {reference}\n");
        let dpack = Dpack::new()?.file("compose.yml", &compose)?;
        dpack.run(&[&AMD64[..], &["--compression-level", "1", "compose.yml"]].concat())?.success()?;
        inspect(&dpack, &dpack.project().join("dist/one-amd64"))
    };
    let (first, second) = (build(&gzip)?, build(&zstd)?);
    assert_ne!(first["images"][0]["digest"], second["images"][0]["digest"]);
    assert_eq!(first["layers"], second["layers"]);
    assert_eq!(first["totals"], second["totals"]);

    let image = |compression| -> Result<Image> {
        let layer = Layer::new().directory("etc", 0o755).file("etc/motd", 0o644, &noise(3, 50_000));
        Ok(Image::new("linux/amd64")?.layer_as(layer, compression))
    };
    let mut layers = Vec::new();
    for (name, format, compression) in [
        ("made/none:1", Format::Oci, Compression::None),
        ("made/docker-none:1", Format::Docker, Compression::None),
        ("made/zstd:1", Format::Oci, Compression::Zstd),
        ("made/gzip:1", Format::Docker, Compression::Gzip),
    ] {
        let reference = registry.serve(name, &Index::in_format(format, &[image(compression)?])?)?;
        layers.push(build(&reference)?["layers"].take());
    }
    assert!(layers.iter().all(|layer| *layer == layers[0]), "{layers:#?}");
    assert_eq!(layers[0][0]["files"], 1);
    Ok(())
}

#[test]
fn variants_of_arm_are_chosen_as_docker_does() -> Result<()> {
    if !needs(&REGISTRY) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let image = |platform: &str| -> Result<Image> {
        Ok(Image::new(platform)?.layer(Layer::new().file("platform", 0o644, platform.as_bytes())))
    };
    let index = Index::new(&[image("linux/arm/v6")?, image("linux/arm64")?, image("linux/arm/v5")?])?;
    registry.serve("team/app:1", &index)?;
    let dpack = one(&registry.address())?;
    // a v7 machine runs v6; arm64/v8 is arm64
    for (platform, file, chosen) in
        [("linux/arm/v7", "one-armv7", "linux/arm/v6"), ("linux/arm64/v8", "one-arm64", "linux/arm64")]
    {
        dpack.run(&["build", "--platform", platform, "compose.yml"])?.success()?;
        let inspected = inspect(&dpack, &dpack.project().join("dist").join(file))?;
        let expected = index.manifest_digest(&chosen.parse()?).context("platform")?;
        assert_eq!(inspected["images"][0]["digest"], expected.to_string(), "{platform}");
    }
    Ok(())
}

#[test]
fn two_builds_at_once_share_one_cache_and_it_can_be_listed_and_pruned() -> Result<()> {
    if !needs(&REGISTRY) || !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let shop = Shop::open()?;
    let dpack = shop.dpack()?;
    let start = |output: &str| -> Result<Child> {
        let mut command = dpack.command(&[&AMD64[..], &["-q", "--output", output, "compose.yml"]].concat());
        Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    };
    let children = [start("one")?, start("two")?];
    for child in children {
        Output::from(child.wait_with_output()?).success()?;
    }
    let project = dpack.project();
    assert!(fs::read(project.join("one/shop-amd64"))? == fs::read(project.join("two/shop-amd64"))?);
    let cache = dpack.cache().join("dpack");
    assert_eq!(names(&cache.join("tmp"))?, [] as [&str; 0]);

    let listed = |dpack: &Dpack| -> Result<Value> {
        Ok(serde_json::from_str(&dpack.run(&["cache", "ls", "--format", "json"])?.success()?.stdout)?)
    };
    let before = listed(&dpack)?;
    assert_eq!(before["folder"], cache.to_str().context("path")?);
    let mut sections = texts(&before["entries"], "section");
    sections.dedup();
    for section in ["blobs", "frames", "recipes"] {
        assert!(sections.contains(&section), "{sections:?}");
    }
    let files = ["blobs", "frames", "recipes"].map(|section| names(&cache.join(section)));
    let files = files.into_iter().map(|names| Ok(names?.len())).sum::<Result<usize>>()?;
    assert_eq!(before["entries"].as_array().map(Vec::len), Some(files));
    assert!(dpack.run(&["cache", "ls"])?.success()?.stdout.contains("is kept below 10"));

    let size = before["size"].as_u64().context("size")?;
    let keep = (size / 2).to_string();
    let pruned = dpack.run(&["cache", "prune", "--keep", &keep])?.success()?;
    assert!(pruned.stdout.starts_with("removed "), "{}", pruned.stdout);
    let after = listed(&dpack)?["size"].as_u64().context("size")?;
    assert!(after <= size / 2 && after > 0, "{after} of {size}");
    // what is left is as good as before
    dpack.run(&[&AMD64[..], &["-q", "--output", "three", "compose.yml"]].concat())?.success()?;
    assert!(fs::read(project.join("one/shop-amd64"))? == fs::read(project.join("three/shop-amd64"))?);
    dpack.run(&["cache", "prune", "--all"])?.success()?;
    assert_eq!(listed(&dpack)?["entries"], serde_json::json!([]));
    Ok(())
}

/// A build that hangs in the middle of a blob, and the line it hangs on.
fn stalled(registry: &Registry) -> Result<(Dpack, Proxy, Child)> {
    let proxy = Proxy::start(&registry.address(), Mood::Stalls(100_000))?;
    let dpack = one(&proxy.address())?;
    let mut command = dpack.command(&[&AMD64[..], &["compose.yml"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait_until("half a blob is there", Duration::from_secs(60), || proxy.carried() >= 100_000)?;
    Ok((dpack, proxy, child))
}

fn send(signal: &str, child: &Child) -> Result<()> {
    Output::of(std::process::Command::new("kill").args([signal, &child.id().to_string()]))?.success()?;
    Ok(())
}

#[test]
fn an_interrupted_build_leaves_no_output_and_a_cache_that_works() -> Result<()> {
    if !needs(&REGISTRY) {
        return Ok(());
    }
    let registry = Registry::start()?;
    small(&registry, 300_000)?;
    for (signal, status) in [("-INT", 130), ("-TERM", 130), ("-KILL", 137)] {
        let (dpack, proxy, child) = stalled(&registry)?;
        send(signal, &child)?;
        let output = Output::from(child.wait_with_output()?).with_status(status)?;
        assert_eq!(output.stdout, "");
        assert_eq!(names(&dpack.project())?, ["compose.yml"], "{signal}");
        let cache = dpack.cache().join("dpack");
        if signal != "-KILL" {
            assert!(output.stderr.ends_with("error: interrupted\n"), "{}", output.stderr);
            assert_eq!(names(&cache.join("tmp"))?, [] as [&str; 0]);
        }
        proxy.set_mood(Mood::Fine);
        dpack.build(&["linux/amd64"])?;
        // what was killed could not tidy up; a build that changes something does
        assert_eq!(names(&cache.join("tmp"))?, [] as [&str; 0], "{signal}");
    }
    Ok(())
}

#[test]
fn a_build_that_is_killed_while_it_writes_leaves_the_old_executable() -> Result<()> {
    if !needs(&REGISTRY) {
        return Ok(());
    }
    let registry = Registry::start()?;
    small(&registry, 12_000_000)?;
    let dpack = one(&registry.address())?.file("dist/one-amd64", "old")?;
    let dist = dpack.project().join("dist");
    let mut command =
        dpack.command(&[&AMD64[..], &["--compression-level", "22", "-j", "1", "compose.yml"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait_until("the output is being written", Duration::from_secs(60), || {
        names(&dist).is_ok_and(|names| names.len() > 1)
    })?;
    child.kill()?;
    child.wait()?;
    assert_eq!(fs::read(dist.join("one-amd64"))?, b"old");
    for name in names(&dist)?.iter().filter(|name| *name != "one-amd64") {
        assert!(name.starts_with(".one-amd64."), "`{name}` looks like a result");
    }
    dpack.run(&[&AMD64[..], &["--compression-level", "1", "compose.yml"]].concat())?.success()?;
    assert_eq!(inspect(&dpack, &dist.join("one-amd64"))?["project"], "one");
    assert_eq!(names(&dist)?, ["one-amd64"], "what the killed build left is gone");
    Ok(())
}

/// Runs a build with a file system of `size` mounted over a folder, in a mount namespace of its own.
fn build_on(dpack: &Dpack, small: &Path, size: &str) -> Result<Output> {
    fs::create_dir_all(small)?;
    let build = dpack.command(&[&AMD64[..], &["compose.yml"]].concat());
    let script = "mount -t tmpfs -o size=$1 none \"$2\" || exit 99; shift 2; \"$@\"; status=$?; \
                  find dist -mindepth 1 2>/dev/null; exit $status";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", size]).arg(small);
    command.arg(build.get_program()).args(build.get_args()).current_dir(dpack.project()).env_clear();
    for (name, value) in build.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Output::of(&mut command)
}

#[test]
fn a_full_disk_is_named_and_nothing_partial_stays() -> Result<()> {
    if !needs(&REGISTRY) || !needs(&[Need::Root]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    small(&registry, 9_000_000)?;

    let dpack = one(&registry.address())?;
    let output = build_on(&dpack, &dpack.project().join("dist"), "4m")?.with_status(3)?;
    let error = "error: failed to write `dist/one-amd64`: No space left on device (os error 28)\n\
                 hint: free some space, or write elsewhere with -o DIR\n";
    assert!(output.stderr.ends_with(error), "{}", output.stderr);
    assert_eq!(output.stdout, "", "the folder is empty");
    dpack.build(&["linux/amd64"])?;

    let dpack = one(&registry.address())?;
    let output = build_on(&dpack, &dpack.cache(), "4m")?.with_status(3)?;
    let last: Vec<&str> = output.stderr.lines().rev().take(2).collect();
    let hint = "hint: free some space, run `dpack cache prune`, or set DPACK_CACHE_DIR to a larger disk";
    assert_eq!(last[0], hint, "{}", output.stderr);
    let cache = dpack.cache().join("dpack/tmp");
    assert!(
        last[1].starts_with(&format!("error: failed to write `{}", cache.display())),
        "{}",
        output.stderr
    );
    assert!(last[1].ends_with(": No space left on device (os error 28)"), "{}", output.stderr);
    assert_eq!(output.stdout, "");
    Ok(())
}
