//! Images that should not be trusted, and Compose files with mistakes: what `dpack build` says, and that it writes nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dpack_payload::digest::Digest;
use dpack_tests::images::{Compression, Image, Index, Layer};
use dpack_tests::{Dpack, Need, Output, Registry, needs};

const BUILD: [&str; 4] = ["build", "--platform", "linux/amd64", "compose.yml"];

/// Builds an application of this one image, served by a real registry.
fn build(registry: &Registry, image: &Image) -> Result<(Dpack, String, Output)> {
    let reference = registry.serve("team/app:1", &Index::new(std::slice::from_ref(image))?)?;
    let compose = format!("name: one\nservices:\n  app:\n    image: {reference}\n");
    let dpack = Dpack::new()?.file("compose.yml", &compose)?;
    let mut command = dpack.command(&BUILD);
    // what a hostile image may make us allocate
    let output = Output::of(&mut limited(&mut command))?;
    Ok((dpack, reference, output))
}

/// The same command with 4 GiB of address space.
fn limited(command: &mut std::process::Command) -> std::process::Command {
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--as=4294967296").arg("--").arg(command.get_program()).args(command.get_args());
    limited.env_clear();
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    limited
}

fn amd64() -> Result<Image> {
    Image::new("linux/amd64")
}

#[test]
fn hostile_layers_are_refused_by_the_name_of_the_entry() -> Result<()> {
    if !needs(&[Need::Stubs, Need::Program("docker-registry")]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let huge = 1_u64 << 62;
    let huge_text = format!("entry `huge` says it has {huge} bytes, more than the layer");
    let cases: [(Layer, &str); 7] = [
        (
            Layer::new().file("../../etc/cron.d/evil", 0o644, b"x"),
            "entry `../../etc/cron.d/evil` leads outside the image by `..`",
        ),
        (Layer::new().file("a/../../b", 0o644, b"x"), "entry `a/../../b` leads outside the image by `..`"),
        (Layer::new().directory("/..", 0o755), "entry `/..` leads outside the image by `..`"),
        (
            Layer::new().file("good", 0o644, b"x").hard_link("shadow", "../../../etc/shadow"),
            "entry `shadow` is a hard link to `../../../etc/shadow`, outside the image",
        ),
        (
            Layer::new().file(&format!("{}../../{}", "a/".repeat(80), "../".repeat(90)), 0o644, b"x"),
            "leads outside the image by `..`",
        ),
        (Layer::new().truncated_file("huge", huge), &huge_text),
        (
            Layer::new().truncated_file("more", 5_000_000),
            "entry `more` says it has 5000000 bytes, more than the layer",
        ),
    ];
    for (layer, reason) in cases {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let start = Instant::now();
            let (dpack, reference, output) =
                build(&registry, &amd64()?.layer_as(layer.clone(), compression))?;
            let output = output.with_status(4).with_context(|| reason.to_owned())?;
            let last = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>();
            let [line] = last[..] else { panic!("{reason}: {}", output.stderr) };
            assert!(line.starts_with(&format!("error: image `{reference}`: layer ")), "{line}");
            assert!(line.ends_with(reason), "{line}\nexpected: {reason}");
            assert!(!dpack.project().join("dist").exists());
            assert!(start.elapsed() < Duration::from_secs(60), "{reason}: {:?}", start.elapsed());
        }
    }
    Ok(())
}

#[test]
fn layers_that_only_look_strange_are_packed_as_they_are() -> Result<()> {
    if !needs(&[Need::Stubs, Need::Program("docker-registry")]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    // the device decides what to do with these; the tar has to come back as it was
    let layer = Layer::new()
        .file("/etc/absolute", 0o644, b"old tools wrote these")
        .symlink("out", "../../../../etc")
        .file("out/through", 0o644, b"x")
        .file("./a/../b", 0o644, b"inside")
        .whiteout("etc/passwd")
        .opaque("var")
        .character_device("dev/mem", 1, 1)
        .fifo("run/pipe", 0o600)
        .attributes(&[("security.capability", b"\x01\0\0\x02")])
        .file("bin/ping", 0o4755, b"")
        .file(&"long/".repeat(60), 0o644, b"")
        .file("zeros", 0o644, &vec![0; 3_000_000])
        .file("zeros", 0o600, b"the same name again");
    let (dpack, _, output) = build(&registry, &amd64()?.layer(layer.clone()).layer(Layer::new()))?;
    output.success()?;
    let extract = ["extract", "dist/one-amd64", "--image", "app", "--compression", "none", "-o", "oci:out"];
    dpack.run(&extract)?.success()?;
    let blob = dpack.project().join("out/blobs/sha256").join(layer.diff_id().hex());
    assert!(std::fs::read(blob)? == layer.to_tar(), "the exact tar comes back");
    Ok(())
}

#[test]
fn images_that_contradict_themselves_are_refused() -> Result<()> {
    if !needs(&[Need::Stubs, Need::Program("docker-registry")]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    let layer = Layer::new().file("data", 0o644, b"content");
    let lie = Digest::of(b"another layer");
    let (dpack, reference, output) = build(&registry, &amd64()?.layer(layer.clone()).false_diff_id(lie))?;
    let output = output.with_status(4)?;
    let start = format!("error: image `{reference}`: layer sha256:");
    let end = format!(" decompresses to {}, but the config says {lie}", layer.diff_id());
    let found = output.stderr.lines().find(|line| line.starts_with("error: ")).context("error")?;
    assert!(found.starts_with(&start) && found.ends_with(&end), "{found}");
    assert!(!dpack.project().join("dist").exists());

    // gzip that ends too early, with a manifest that knows the short blob
    let cut = |compression: &str, length: usize| -> Result<(Dpack, Output)> {
        let index = Index::new(&[amd64()?.layer_as(
            Layer::new().file("data", 0o644, &[7; 100_000]),
            if compression == "zstd" { Compression::Zstd } else { Compression::Gzip },
        )])?;
        let folder = tempfile::tempdir()?;
        index.write_layout(folder.path(), "v1")?;
        truncate_layer(folder.path(), &index, length)?;
        let dpack =
            Dpack::new()?.file("compose.yml", "name: one\nservices: {app: {image: example.com/app}}\n")?;
        let from = format!("example.com/app=oci:{}", folder.path().display());
        let output = dpack.run(&[&BUILD[..], &["--from", &from]].concat())?;
        Ok((dpack, output))
    };
    for (compression, length) in [("gzip", 12), ("gzip", 80), ("zstd", 6), ("zstd", 20), ("gzip", 0)] {
        let (dpack, output) = cut(compression, length)?;
        let output = output.with_status(4).with_context(|| format!("{compression} {length}"))?;
        let found = output.stderr.lines().find(|line| line.starts_with("error: ")).context("error")?;
        assert!(found.contains("image `example.com/app`: layer sha256:"), "{compression} {length}: {found}");
        assert!(!dpack.project().join("dist").exists());
    }
    Ok(())
}

/// Cuts the layer of a one-layer layout to `length` bytes and makes manifest and indexes agree with that.
fn truncate_layer(folder: &std::path::Path, index: &Index, length: usize) -> Result<()> {
    let blobs = folder.join("blobs/sha256");
    let mut old = index.blobs[1].clone();
    let mut content = old.content.clone();
    content.truncate(length);
    let mut replaced = content;
    for parent in [&index.manifests[0].1, &index.root] {
        let new = Digest::of(&replaced);
        std::fs::write(blobs.join(new.hex()), &replaced)?;
        let text = String::from_utf8(parent.content.clone())?
            .replace(&old.digest.to_string(), &new.to_string())
            .replace(&format!("\"size\":{}", old.content.len()), &format!("\"size\":{}", replaced.len()));
        old = parent.clone();
        replaced = text.into_bytes();
    }
    let new = Digest::of(&replaced);
    std::fs::write(blobs.join(new.hex()), &replaced)?;
    let path = folder.join("index.json");
    let text = std::fs::read_to_string(&path)?
        .replace(&old.digest.to_string(), &new.to_string())
        .replace(&format!("\"size\":{}", old.content.len()), &format!("\"size\":{}", replaced.len()));
    Ok(std::fs::write(path, text)?)
}

#[test]
fn a_layer_of_zeros_costs_next_to_nothing() -> Result<()> {
    if !needs(&[Need::Stubs, Need::Program("docker-registry")]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    // 192 MiB in a few kilobytes
    let zeros = Layer::new().file("zeros", 0o644, &vec![0; 192 << 20]);
    let image = amd64()?.layer_as(zeros, Compression::Zstd);
    let (dpack, _, output) = build(&registry, &image)?;
    output.success()?;
    let stub = std::fs::metadata(dpack_tests::stubs().join("x86_64-unknown-linux-musl/dpack-runner"))?.len();
    let built = std::fs::metadata(dpack.project().join("dist/one-amd64"))?.len();
    assert!(built < stub + 500_000, "{built} bytes with a runner of {stub}");
    Ok(())
}

#[test]
fn mistakes_in_compose_files_have_a_place_and_a_remedy() -> Result<()> {
    let service = |line: &str| format!("services:\n  web:\n    image: nginx\n    {line}\n");
    let cases: &[(String, &[&str])] = &[
        (
            service("prots: []"),
            &["error: compose.yml:4:5: services.web.prots: unknown key", "hint: did you mean `ports`?"],
        ),
        (
            service("hostname: 12"),
            &[
                "error: compose.yml:4:15: services.web.hostname: expected a string, found a number",
                "hint: put it in quotes: \"12\"",
            ],
        ),
        (
            service("volumes: [data:/data]"),
            &[
                "error: compose.yml:4:15: services.web.volumes[0]: there is no volume `data`",
                "hint: define it under the top-level `volumes:`",
            ],
        ),
        (
            "servces:\n  web:\n    image: nginx\n".to_owned(),
            &["error: compose.yml:1:1: servces: unknown key", "hint: did you mean `services`?"],
        ),
    ];
    for (text, lines) in cases {
        let dpack = Dpack::new()?.file("compose.yml", text)?;
        let output = dpack.run(&BUILD)?.with_status(4)?;
        assert_eq!(output.stderr.lines().collect::<Vec<_>>(), *lines);
        assert_eq!(output.stdout, "");
        assert_eq!(dpack.run(&["config", "compose.yml"])?.stderr, output.stderr, "`config` says the same");
        assert!(!dpack.project().join("dist").exists() && !dpack.cache().exists(), "nothing was begun");
    }
    Ok(())
}

#[test]
fn every_mistake_is_listed_with_the_file_it_is_in() -> Result<()> {
    let dpack = Dpack::new()?
        .file("compose.yml", "services:\n  web:\n    image: nginx\n    prots: []\n    hostname: 12\n")?
        .file("more/override.yml", "services:\n  web:\n    imagge: x\n")?;
    let output = dpack.run(&["build", "-f", "compose.yml"])?.with_status(4)?;
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(
        errors,
        [
            "error: compose.yml:4:5: services.web.prots: unknown key",
            "error: compose.yml:5:15: services.web.hostname: expected a string, found a number",
        ]
    );
    let valid = dpack.file("compose.yml", "services:\n  web:\n    image: nginx\n")?;
    let output = valid.run(&["build", "-f", "compose.yml", "-f", "more/override.yml"])?.with_status(4)?;
    let error =
        "error: more/override.yml:3:5: services.web.imagge: unknown key\nhint: did you mean `image`?\n";
    assert_eq!(output.stderr, error);

    // YAML that is none
    let broken = valid.file("compose.yml", "services:\n  web: [\n")?;
    let output = broken.run(&BUILD)?.with_status(4)?;
    assert!(output.stderr.starts_with("error: compose.yml:"), "{}", output.stderr);
    let output = broken.run(&["build", "none.yml"])?.with_status(4)?;
    assert_eq!(output.stderr, "error: none.yml: failed to read: No such file or directory (os error 2)\n");
    let empty = Dpack::new()?;
    let output = empty.run(&["build"])?.with_status(4)?;
    let start = format!("error: {}: no Compose file here or in a folder above, ", empty.project().display());
    assert!(output.stderr.starts_with(&start), "{}", output.stderr);
    assert!(output.stderr.ends_with("\nhint: name one with `-f FILE`\n"), "{}", output.stderr);
    Ok(())
}

#[test]
fn what_the_runner_cannot_do_is_refused_by_name() -> Result<()> {
    let text = "services:\n  web:\n    image: nginx\n    gpus: all\n    oom_kill_disable: true\n";
    let dpack = Dpack::new()?.file("compose.yml", text)?;
    let output = dpack.run(&BUILD)?.with_status(4)?;
    for place in [
        "error: compose.yml:4:5: services.web.gpus: ",
        "error: compose.yml:5:5: services.web.oom_kill_disable: ",
    ] {
        assert!(output.stderr.lines().any(|line| line.starts_with(place)), "{place}\n{}", output.stderr);
    }
    Ok(())
}
