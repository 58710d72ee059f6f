//! Registries as they are: with TLS and passwords, without what was asked for, breaking down, lying.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use dpack_tests::images::{Image, Index, Layer};
use dpack_tests::{Dpack, Mood, Need, Output, Proxy, Registry, needs, outside_address};

const NEEDS: [Need; 2] = [Need::Stubs, Need::Program("docker-registry")];
const TLS_NEEDS: [Need; 2] = [Need::Program("openssl"), Need::Program("htpasswd")];
const BUILD: [&str; 4] = ["build", "--platform", "linux/amd64", "compose.yml"];

/// One image, `team/app:1`, for two platforms.
fn serve(registry: &Registry, length: usize) -> Result<Index> {
    let image = |platform: &str| -> Result<Image> {
        let layer =
            Layer::new().file("data", 0o644, &noise(length)).file("etc/os", 0o644, platform.as_bytes());
        Ok(Image::new(platform)?.layer(layer))
    };
    let index = Index::new(&[image("linux/amd64")?, image("linux/arm/v7")?])?;
    registry.serve("team/app:1", &index)?;
    Ok(index)
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// A project with one service of the image `address/name`.
fn project(address: &str, name: &str) -> Result<Dpack> {
    let compose = format!("name: one\nservices:\n  app:\n    image: {address}/{name}\n");
    Dpack::new()?.file("compose.yml", &compose)
}

/// The last lines of standard error are exactly these, and nothing was written.
#[track_caller]
fn refuses(dpack: &Dpack, output: Output, status: i32, lines: &[&str]) -> Result<()> {
    let output = output.with_status(status)?;
    let found: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("resolved ")).collect();
    let found: Vec<&str> = found.into_iter().filter(|line| !line.starts_with("pulled ")).collect();
    assert_eq!(found, lines);
    assert_eq!(output.stdout, "");
    assert!(!dpack.project().join("dist").exists(), "an output folder without output");
    Ok(())
}

/// Base64 of RFC 4648, for `auth` fields.
fn base64(text: &str) -> Result<String> {
    let output = Output::of(std::process::Command::new("sh").args([
        "-c",
        "printf %s \"$1\" | base64 --wrap=0",
        "sh",
        text,
    ]))?;
    Ok(output.success()?.stdout)
}

fn credentials(address: &str, account: &str) -> Result<String> {
    Ok(format!(r#"{{"auths": {{"{address}": {{"auth": "{}"}}}}}}"#, base64(account)?))
}

fn put(path: &Path, content: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("folder")?)?;
    Ok(fs::write(path, content)?)
}

#[test]
fn a_private_authority_has_to_be_named() -> Result<()> {
    if !needs(&NEEDS) || !needs(&TLS_NEEDS) {
        return Ok(());
    }
    let registry = Registry::with_tls().start()?;
    serve(&registry, 1000)?;
    let address = registry.address();
    let dpack = project(&address, "team/app:1")?;
    let hint = format!(
        "hint: add --ca FILE with the registry's authority, or put it at /etc/docker/certs.d/{address}/ca.crt"
    );
    let error = format!("error: registry `{address}` has a certificate from an unknown authority");
    refuses(&dpack, dpack.run(&BUILD)?, 3, &[&error, &hint])?;

    // another authority of the same name does not help
    let stranger = Registry::with_tls().start()?;
    let wrong = stranger.certificate_authority().context("authority")?.to_str().context("path")?;
    let output = dpack.run(&[&BUILD[..], &["--ca", wrong]].concat())?.with_status(3)?;
    assert!(
        output.stderr.starts_with(&format!("error: registry `{address}` has a certificate ")),
        "{output:?}"
    );
    assert!(!dpack.project().join("dist").exists());

    let no_certificate = dpack.project().join("compose.yml");
    let path = no_certificate.to_str().context("path")?;
    let output = dpack.run(&[&BUILD[..], &["--ca", path]].concat())?;
    refuses(&dpack, output, 4, &[&format!("error: `{path}` is not a PEM certificate")])?;
    let output = dpack.run(&[&BUILD[..], &["--ca", "none.pem"]].concat())?;
    refuses(
        &dpack,
        output,
        4,
        &["error: failed to read `none.pem`: No such file or directory (os error 2)"],
    )?;

    let authority = registry.certificate_authority().context("authority")?.to_str().context("path")?;
    dpack.run(&[&BUILD[..], &["--ca", authority]].concat())?.success()?;

    // the certificate is for `localhost` too, and for nothing else
    let port = address.rsplit_once(':').context("port")?.1;
    let by_name = project(&format!("localhost:{port}"), "team/app:1")?;
    by_name.run(&[&BUILD[..], &["--ca", authority]].concat())?.success()?;
    let proxy = Proxy::start_on("127.0.0.2".parse::<IpAddr>()?, &address, Mood::Fine)?;
    let wrong_name = project(&proxy.address(), "team/app:1")?;
    let output = wrong_name.run(&[&BUILD[..], &["--ca", authority]].concat())?.with_status(3)?;
    let expected = format!("error: registry `{}` has a certificate that is not valid: ", proxy.address());
    assert!(output.stderr.starts_with(&expected), "{output:?}");
    Ok(())
}

#[test]
fn passwords_are_found_where_docker_and_podman_put_them() -> Result<()> {
    if !needs(&NEEDS) || !needs(&TLS_NEEDS) {
        return Ok(());
    }
    let registry = Registry::with_tls().with_htpasswd("engineer", "s3cret:with colon").start()?;
    serve(&registry, 1000)?;
    let address = registry.address();
    let authority =
        registry.certificate_authority().context("authority")?.to_str().context("path")?.to_owned();
    let right = credentials(&address, "engineer:s3cret:with colon")?;
    let wrong = credentials(&address, "engineer:guess")?;
    let build = [&BUILD[..], &["--ca", &authority]].concat();

    let hint = |again: &str| {
        format!(
            "hint: run `docker login {address}` or `podman login {address}`{again}; a private image that does not exist looks the same"
        )
    };
    let image = format!("{address}/team/app:1");
    let dpack = project(&address, "team/app:1")?;
    let error = format!("error: registry `{address}` refused access without credentials for image `{image}`");
    refuses(&dpack, dpack.run(&build)?, 3, &[&error, &hint("")])?;

    let docker = dpack.home().join(".docker/config.json");
    put(&docker, &wrong)?;
    let error = format!("error: registry `{address}` refused the credentials for image `{image}`");
    refuses(&dpack, dpack.run(&build)?, 3, &[&error, &hint(" again")])?;
    put(&docker, &right)?;
    dpack.run(&build)?.success()?;

    // podman's file comes first, so that a wrong one there is not papered over
    put(&dpack.home().join(".config/containers/auth.json"), &wrong)?;
    dpack.run(&[&build[..], &["--output", "second"]].concat())?.with_status(3)?;
    let podman = project(&address, "team/app:1")?;
    put(&podman.home().join(".config/containers/auth.json"), &right)?;
    podman.run(&build)?.success()?;
    // by repository, as podman allows
    let podman = project(&address, "team/app:1")?;
    put(
        &podman.home().join(".config/containers/auth.json"),
        &credentials(&format!("{address}/team"), "engineer:s3cret:with colon")?,
    )?;
    podman.run(&build)?.success()?;
    let runtime = tempfile::tempdir()?;
    put(&runtime.path().join("containers/auth.json"), &right)?;
    let podman = project(&address, "team/app:1")?;
    let podman = podman.environment("XDG_RUNTIME_DIR", runtime.path().to_str().context("path")?);
    podman.run(&build)?.success()?;

    let file = runtime.path().join("containers/auth.json");
    let file = file.to_str().context("path")?;
    project(&address, "team/app:1")?.run(&[&build[..], &["--authfile", file]].concat())?.success()?;
    project(&address, "team/app:1")?.environment("REGISTRY_AUTH_FILE", file).run(&build)?.success()?;
    let none = dpack
        .run(&[&build[..], &["--authfile", "none.json", "--output", "none"]].concat())?
        .with_status(3)?;
    assert!(none.stderr.starts_with("error: ") && none.stderr.contains("`none.json`"), "{none:?}");

    // no secret in any output
    for output in [dpack.run(&[&build[..], &["--output", "x"]].concat())?, none] {
        assert!(!output.stderr.contains("guess") && !output.stderr.contains("s3cret"), "{output:?}");
    }
    Ok(())
}

#[test]
fn what_is_not_there_is_named() -> Result<()> {
    if !needs(&NEEDS) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let index = serve(&registry, 1000)?;
    let address = registry.address();
    let absent = format!("team/app@sha256:{}", "0".repeat(64));
    for name in ["team/none:1", "team/app:2", &absent] {
        let dpack = project(&address, name)?;
        let error = format!("error: no image `{address}/{name}` in registry `{address}`");
        let hint = format!(
            "hint: check the name and the tag; for an image that is not in a registry use --from {address}/{name}=oci:DIR"
        );
        refuses(&dpack, dpack.run(&BUILD)?, 4, &[&error, &hint])?;
    }

    let dpack = project(&address, "team/app:1")?;
    let error =
        format!("error: image `{address}/team/app:1` has no linux/arm64; it has linux/amd64, linux/arm/v7");
    let output = dpack.run(&["build", "--platform", "linux/amd64,linux/arm64", "compose.yml"])?;
    refuses(&dpack, output, 4, &[&error, "hint: choose with --platform linux/amd64,linux/arm/v7"])?;

    // a blob that the manifest lists and the registry lost
    fs::remove_file(registry.blob_file(&index.blobs[1].digest))?;
    let error = format!(
        "error: registry `{address}` has image `{address}/team/app:1`, but not its blob {}",
        index.blobs[1].digest
    );
    let hint = format!("hint: push `{address}/team/app:1` again");
    refuses(&dpack, dpack.run(&BUILD)?, 4, &[&error, &hint])?;
    Ok(())
}

#[test]
fn nobody_listens() -> Result<()> {
    if !needs(&[Need::Stubs]) {
        return Ok(());
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let dpack = project(&free, "team/app:1")?;
    let output = dpack.run(&BUILD)?.with_status(3)?;
    let lines: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("warning: ")).collect();
    let error = format!(
        "error: image `{free}/team/app:1`: failed to look up a manifest in registry `{free}` after 6 attempts: Connection refused (os error 111)"
    );
    let hint =
        "hint: check the network and the registry's name, and build again: blobs that are complete are kept";
    assert_eq!(lines, [error.as_str(), hint]);
    assert!(!dpack.project().join("dist").exists());
    Ok(())
}

#[test]
fn plain_http_is_for_loopback_and_for_registries_that_are_named() -> Result<()> {
    if !needs(&NEEDS) || !needs(&[Need::Address]) {
        return Ok(());
    }
    let outside = outside_address().context("an address")?;
    let registry = Registry::start()?;
    serve(&registry, 1000)?;
    let proxy = Proxy::start_on(outside, &registry.address(), Mood::Fine)?;
    let address = proxy.address();
    let dpack = project(&address, "team/app:1")?;
    let error = format!(
        "error: registry `{address}` speaks plain http, which is allowed only on loopback or when the registry is named"
    );
    let hint = format!("hint: if you trust the network, add --insecure-registry {address}");
    refuses(&dpack, dpack.run(&BUILD)?, 3, &[&error, &hint])?;
    // naming another one does not help
    let output = dpack.run(&[&BUILD[..], &["--insecure-registry", "example.com:5000"]].concat())?;
    refuses(&dpack, output, 3, &[&error, &hint])?;
    dpack.run(&[&BUILD[..], &["--insecure-registry", &address]].concat())?.success()?;
    Ok(())
}

#[test]
fn a_line_that_breaks_again_and_again_gets_there() -> Result<()> {
    if !needs(&NEEDS) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let index = serve(&registry, 400_000)?;
    let proxy = Proxy::start(&registry.address(), Mood::Cuts(150_000))?;
    let dpack = project(&proxy.address(), "team/app:1")?;
    let output = dpack.run(&BUILD)?.success()?;
    let broken = output.stderr.lines().filter(|line| line.contains("trying again")).count();
    assert!((2..=4).contains(&broken), "{}", output.stderr);
    // it went on where it broke
    let blob = format!("/v2/team/app/blobs/{}", index.blobs[1].digest);
    let requests = registry.requests()?;
    let resumed = requests.iter().filter(|request| **request == format!("GET {blob} 206")).count();
    assert_eq!(resumed, broken, "{requests:#?}");
    assert!(proxy.carried() < 450_000, "{} bytes for a blob of 400 kB", proxy.carried());

    let direct = project(&registry.address(), "team/app:1")?;
    direct.run(&BUILD)?.success()?;
    let layers = |dpack: &Dpack| -> Result<serde_json::Value> {
        let output = dpack.run(&["inspect", "dist/one-amd64", "--format", "json"])?.success()?;
        Ok(serde_json::from_str::<serde_json::Value>(&output.stdout)?["layers"].take())
    };
    assert_eq!(layers(&dpack)?, layers(&direct)?);
    Ok(())
}

#[test]
fn a_registry_that_dies_half_way_leaves_nothing_but_complete_blobs() -> Result<()> {
    if !needs(&NEEDS) {
        return Ok(());
    }
    let registry = Registry::start()?;
    serve(&registry, 400_000)?;
    let proxy = Proxy::start(&registry.address(), Mood::Dies(150_000))?;
    let address = proxy.address();
    let dpack = project(&address, "team/app:1")?;
    let output = dpack.run(&BUILD)?.with_status(3)?;
    let lines: Vec<&str> = output.stderr.lines().collect();
    let (retries, end) = lines.split_at(lines.len() - 2);
    let start = format!(
        "error: image `{address}/team/app:1`: failed to pull a blob from registry `{address}` after 6 attempts: "
    );
    assert!(end[0].starts_with(&start), "{}", output.stderr);
    let hint =
        "hint: check the network and the registry's name, and build again: blobs that are complete are kept";
    assert_eq!(end[1], hint);
    assert_eq!(retries.iter().filter(|line| line.starts_with("warning: ")).count(), 5, "{}", output.stderr);
    assert_eq!(output.stdout, "");
    assert!(!dpack.project().join("dist").exists());
    assert_eq!(fs::read_dir(dpack.cache().join("dpack/tmp"))?.count(), 0);

    proxy.set_mood(Mood::Fine);
    dpack.run(&BUILD)?.success()?;
    Ok(())
}

#[test]
fn a_registry_that_lies_is_found_out() -> Result<()> {
    if !needs(&NEEDS) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let index = serve(&registry, 50_000)?;
    let address = registry.address();
    let image = format!("{address}/team/app:1");
    // blobs of the first platform: config, layer
    let layer = &index.blobs[1];
    let file = registry.blob_file(&layer.digest);
    let name = format!("blob sha256:{}", &layer.digest.hex()[..12]);
    let hint = "hint: the registry, or something on the way to it, served other bytes; pull again or rebuild the image";

    let mut other = layer.content.clone();
    other[1000] ^= 1;
    fs::write(&file, &other)?;
    let dpack = project(&address, "team/app:1")?;
    let error = format!(
        "error: {name} of image `{image}` is not what its manifest says: expected {}, got {}",
        layer.digest,
        dpack_payload::digest::Digest::of(&other)
    );
    refuses(&dpack, dpack.run(&BUILD)?, 4, &[&error, hint])?;

    fs::write(&file, [&layer.content[..], b"more"].concat())?;
    let length = layer.content.len();
    let error = format!(
        "error: {name} of image `{image}` is not what its manifest says: expected {length} bytes, got {} bytes",
        length + 4
    );
    refuses(&dpack, dpack.run(&BUILD)?, 4, &[&error, hint])?;

    // a manifest of the right size and other content
    let manifest = &index.manifests[0].1;
    let mut other = manifest.content.clone();
    let at = other.windows(6).position(|window| window == b"sha256").context("digest")? + 7;
    other[at] = if other[at] == b'0' { b'1' } else { b'0' };
    fs::write(registry.blob_file(&manifest.digest), &other)?;
    let error = format!(
        "error: the manifest of image `{image}` is not what its manifest says: expected {}, got {}",
        manifest.digest,
        dpack_payload::digest::Digest::of(&other)
    );
    let fresh = project(&address, "team/app:1")?;
    let output = fresh.run(&BUILD)?.with_status(4)?;
    assert!(output.stderr.lines().any(|line| line == error), "{output:?}");
    assert!(!fresh.project().join("dist").exists());

    // nothing of all this was kept
    fs::write(registry.blob_file(&manifest.digest), &manifest.content)?;
    fs::write(&file, &layer.content)?;
    dpack.run(&BUILD)?.success()?;
    fresh.run(&BUILD)?.success()?;
    Ok(())
}
