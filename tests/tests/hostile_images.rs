//! Images made to harm the device that runs them. The builder would refuse some; here their layers are written into
//! executables as they are, since an executable may come from anybody.
//!
//! A canary sits in the user's home folder, where everything that the user may write can be written. Whatever an image
//! does, nothing about the canary changes, and nothing of it is seen inside.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use applications::{Installed, can_build, entries, host};
use dpack_payload::digest::DiffId;
use dpack_payload::write::{Level, PayloadWriter, StubHead};
use dpack_tests::images::Layer;
use dpack_tests::{Device, Handmade, Output, stubs};
use serde_json::{Value, json};

/// What the user would not like to lose.
const SECRET: &str = "the user's own words\n";

/// A user's home folder with a canary in it.
struct Victim {
    device: Device,
}

impl Victim {
    fn new() -> Result<Self> {
        let device = Device::host()?;
        let line = "mkdir canary && cat >canary/precious && chmod 600 canary/precious && mkdir canary/empty";
        device.run(&["sh", "-c", &format!("printf %s \"{SECRET}\" | {{ {line}; }}")])?.success()?;
        Ok(Self { device })
    }

    /// The canary's folder, as an absolute path.
    fn canary(&self) -> String {
        self.device.home().join("canary").to_string_lossy().into_owned()
    }

    /// Path, kind, owner, date and content of everything about the canary, and the names beside it.
    fn state(&self) -> Result<BTreeMap<PathBuf, String>> {
        let home = self.device.home();
        let mut state = BTreeMap::new();
        for path in [&home.join("canary"), &home.join("canary/precious"), &home.join("canary/empty")] {
            let metadata = fs::symlink_metadata(path)?;
            let content =
                if metadata.is_file() { fs::read_to_string(path)? } else { entries(path).join(" ") };
            let (mode, owner, date) = (metadata.mode(), metadata.uid(), metadata.mtime_nsec());
            state.insert(path.clone(), format!("{mode:o} {owner} {date} {} {content}", metadata.nlink()));
        }
        for folder in [home.as_path(), home.parent().context("a folder")?, Path::new("/tmp"), Path::new("/")]
        {
            let strange = entries(folder).into_iter().filter(|name| name.contains("stolen"));
            state.insert(folder.to_owned(), strange.collect());
        }
        Ok(state)
    }

    /// Runs a command in a container of the image; the canary has to be as it was, and nothing may be left half done.
    fn runs(&self, image: &Hostile, command: &str) -> Result<Output> {
        let before = self.state()?;
        let file = image.executable()?;
        let executable = self.device.install(file.path())?;
        let output = self.device.run(&[&*executable, "run", "--rm", "it", "sh", "-c", command])?;
        let down = self.device.run(&[&*executable, "down", "-v"])?;
        ensure!(down.status == 0 || output.status != 0, "down: {down:?}");
        assert_eq!(self.state()?, before, "the canary was touched: {output:?}");
        assert!(!output.stdout.contains(SECRET.trim()), "the canary was seen: {output:?}");
        let store = self.device.home().join(".local/share/dpack/layers/full");
        let half: Vec<String> = entries(&store).into_iter().filter(|name| name.starts_with("tmp.")).collect();
        assert_eq!(half, Vec::<String>::new());
        Ok(output)
    }

    /// The image is refused with these words, on one line.
    fn refuses(&self, image: &Hostile, words: &str) -> Result<()> {
        let output = self.runs(image, "echo it runs")?;
        assert!(output.status == 4 && output.stdout.is_empty(), "it was not refused: {output:?}");
        let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(words), "no `{words}` in {}", output.stderr);
        Ok(())
    }
}

/// An application of one service, `it`.
struct Hostile {
    layers: Vec<Layer>,
    config: Value,
    service: Value,
    lie: Option<DiffId>,
}

impl Hostile {
    /// BusyBox, with a layer on top.
    fn layer(layer: Layer) -> Self {
        Self { layers: vec![layer], config: json!({}), service: json!({}), lie: None }
    }

    fn and_layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// A field of the image's `config`.
    fn config(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// A field of the service.
    fn service(mut self, field: &str, value: Value) -> Self {
        self.service[field] = value;
        self
    }

    /// The top layer is said to have this diff ID.
    fn false_diff_id(mut self, lie: DiffId) -> Self {
        self.lie = Some(lie);
        self
    }

    /// The executable, as a builder without scruples would write it.
    fn executable(&self) -> Result<tempfile::NamedTempFile> {
        self.handmade().executable(host()?)
    }

    fn handmade(&self) -> Handmade {
        let mut service = self.service.clone();
        service["network_mode"] = json!("none");
        let mut made = Handmade::new("hostile", json!({"it": service}));
        for layer in &self.layers {
            made = made.layer(layer.clone());
        }
        for (field, value) in self.config.as_object().into_iter().flatten() {
            made = made.config(field, value.clone());
        }
        if let Some(lie) = self.lie {
            made = made.false_diff_id(lie);
        }
        made
    }
}

/// As many `..` as lead from anywhere to the root.
fn up(path: &str) -> String {
    format!("{}{path}", "../".repeat(40))
}

// ---- paths

#[test]
fn absolute_and_climbing_paths_stay_inside() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let canary = victim.canary();
    for path in [
        format!("{canary}/precious"),
        up(&format!("{canary}/precious")),
        format!("tmp/../..{canary}/precious"),
    ] {
        let image = Hostile::layer(Layer::new().file(&path, 0o644, b"hostile"));
        // either is right: refused, or meant from the image's own root
        let output = victim.runs(&image, &format!("cat {canary}/precious"))?;
        assert!(output.status == 4 || output.stdout == "hostile", "{path}: {output:?}");
    }
    for path in [up("tmp/stolen"), "/stolen".to_owned(), up("stolen"), "../stolen".to_owned()] {
        victim
            .runs(&Hostile::layer(Layer::new().file(&path, 0o777, b"x").directory(&path, 0o777)), "true")?;
    }
    Ok(())
}

#[test]
fn nothing_is_written_through_links_that_lead_outside() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let canary = victim.canary();
    for target in [canary.clone(), up(&canary), format!("/proc/self/root{canary}")] {
        let link = Layer::new().symlink("out", &target);
        let write = |layer: Layer| {
            layer
                .file("out/precious", 0o644, b"hostile")
                .file("out/stolen", 0o644, b"hostile")
                .whiteout("out/empty")
        };
        victim.runs(&Hostile::layer(write(link.clone())), "cat out/precious; ls out")?;
        victim
            .runs(&Hostile::layer(link.clone()).and_layer(write(Layer::new())), "cat out/precious; ls out")?;
        let through = link.clone().directory("out", 0o777).opaque("out");
        victim.runs(&Hostile::layer(link.clone()).and_layer(through), "ls out")?;
        let file = Layer::new().symlink("out", &format!("{target}/precious")).file("out", 0o644, b"hostile");
        let output = victim.runs(&Hostile::layer(file), "cat out")?;
        assert_eq!(output.stdout, "hostile", "the file takes the link's place: {output:?}");
        // and at run time, by the image's own program
        victim.runs(
            &Hostile::layer(link),
            "echo hostile >>out/precious; rm -rf out/; touch out/stolen; true",
        )?;
    }
    Ok(())
}

#[test]
fn hard_links_reach_nothing_outside() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let precious = format!("{}/precious", victim.canary());
    for target in [precious.clone(), up(&precious), format!("out{}", &precious)] {
        let layer =
            Layer::new().symlink("out", "/").hard_link("taken", &target).file("taken", 0o644, b"hostile");
        let output = victim.runs(&Hostile::layer(layer), "cat taken")?;
        let named = output.stderr.contains("hard link `taken`") && output.stderr.contains("not in the layer");
        assert!(output.status == 4 && named && output.stdout.is_empty(), "{target}: {output:?}");
    }
    // a second name of a symbolic link is a symbolic link
    let layer =
        Layer::new().symlink("out", &precious).hard_link("taken", "out").file("taken", 0o644, b"hostile");
    let output = victim.runs(&Hostile::layer(layer), "cat taken")?;
    assert!(output.status == 4 || output.stdout == "hostile", "{output:?}");
    Ok(())
}

#[test]
fn whiteouts_remove_what_the_image_has_and_nothing_else() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let canary = victim.canary();
    for path in [
        up(&canary),
        format!("{canary}/precious"),
        "out/precious".to_owned(),
        "..".to_owned(),
        ".".to_owned(),
    ] {
        let layer = Layer::new().symlink("out", &canary).whiteout(&path);
        victim.runs(&Hostile::layer(layer), "true")?;
    }
    // an image that has removed its own root
    let everything = ["bin", "usr", "etc", "lib", "sbin", "lib64", "dev", "proc", "sys", "tmp"];
    let bare = everything.iter().fold(Layer::new(), |layer, name| layer.whiteout(name));
    for layer in [bare, Layer::new().file(".wh..wh..opq", 0o644, b"")] {
        let output = victim.runs(&Hostile::layer(layer), "true")?;
        assert_eq!(output.status, 127, "{output:?}");
        assert!(output.stderr.contains("sh"), "{output:?}");
    }
    Ok(())
}

// ---- kinds of files

#[test]
fn device_nodes_of_the_image_give_no_access() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    // /dev/mem, /dev/kmsg, and one under a name that the runtime makes itself
    let layer = Layer::new()
        .character_device("evil", 1, 1)
        .character_device("log", 1, 11)
        .character_device("dev/null", 1, 1);
    let output = victim.runs(
        &Hostile::layer(layer),
        "head -c 1 /evil; head -c 1 /log; echo x >/dev/null && echo discarded",
    )?;
    assert!(output.status == 4 || output.stdout == "discarded\n", "{output:?}");
    let output = victim.runs(&Hostile::layer(Layer::new()), "mknod /evil c 1 1 && echo made; true")?;
    assert_eq!(output.stdout, "", "{output:?}");
    Ok(())
}

#[test]
fn odd_files_are_what_they_are() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let layer = Layer::new()
        .fifo("pipe", 0o600)
        .file("setuid", 0o4755, b"#!/bin/sh\n")
        .file("new\nline", 0o644, b"")
        .file(&"deep/".repeat(60), 0o644, b"");
    let output = victim.runs(&Hostile::layer(layer), "stat -c %F,%a /pipe /setuid")?;
    assert_eq!(output.stdout, "fifo,600\nregular file,4755\n", "{output:?}");
    Ok(())
}

// ---- lies

#[test]
fn a_file_larger_than_its_archive_is_refused() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    for size in [1 << 20, 1 << 32, (1 << 33) - 1, u64::MAX >> 1] {
        let layer = Layer::new().truncated_file("huge", size);
        victim.refuses(&Hostile::layer(layer), "cannot be extracted")?;
    }
    Ok(())
}

#[test]
fn a_layer_that_is_not_the_one_it_is_said_to_be_is_found() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let image =
        Hostile::layer(Layer::new().file("file", 0o644, b"x")).false_diff_id(DiffId::of(b"something else"));
    let file = image.executable()?;
    let executable = victim.device.install(file.path())?;
    let verify = victim.device.run(&[&*executable, "verify"])?.with_status(4)?;
    assert!(format!("{verify:?}").contains("its tar has another SHA-256"), "{verify:?}");
    Ok(())
}

// ---- what the runner itself does in a container's root

#[test]
fn the_runner_follows_no_link_of_the_image_to_the_outside() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let canary = victim.canary();
    for target in [canary.clone(), up(&canary)] {
        // it mounts on these, and makes files and folders in them
        for folder in ["etc", "proc", "dev", "sys", "dev/shm", "dev/pts"] {
            let links = Layer::new().whiteout(folder);
            let layer = Hostile::layer(links).and_layer(Layer::new().symlink(folder, &target));
            victim.runs(&layer, "echo started; ls -la /etc /proc /dev")?;
        }
        for file in ["etc/hosts", "etc/resolv.conf", "etc/hostname", "etc/passwd", "etc/group"] {
            let layer = Layer::new().symlink(file, &format!("{target}/precious"));
            victim.runs(&Hostile::layer(layer), &format!("cat /{file}; echo hostile >>/{file}; true"))?;
        }
    }
    Ok(())
}

#[test]
fn volumes_and_working_folders_behind_links_stay_inside() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let canary = victim.canary();
    for target in [canary.clone(), up(&canary)] {
        let link = || Hostile::layer(Layer::new().symlink("data", &target));
        let look = "pwd; ls -R /data /data/; cat /data/* /data/deep/*; echo hostile >/data/precious; true";
        victim.runs(&link().service("volumes", json!(["kept:/data"])), look)?;
        victim.runs(&link().service("volumes", json!(["kept:/data/deep"])), look)?;
        victim.runs(&link().service("tmpfs", json!(["/data"])), look)?;
        victim.runs(&link().config("Volumes", json!({"/data": {}})), look)?;
        victim.runs(&link().config("WorkingDir", json!("/data/stolen/made")), look)?;
        victim.runs(&link().service("working_dir", json!("/data/../../..")), look)?;
        // copy-up: a volume gets what the image has at its place, and links in it stay links
        let inside =
            Layer::new().directory("data", 0o755).symlink("data/link", &format!("{target}/precious"));
        let copied = Hostile::layer(inside).service("volumes", json!(["kept:/data"]));
        let output = victim.runs(&copied, "cat /data/link; readlink /data/link")?;
        assert!(output.stdout.contains(&target), "the volume has the link itself: {output:?}");
    }
    Ok(())
}

#[test]
fn names_in_the_index_lead_nowhere() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let victim = Victim::new()?;
    let image = Hostile::layer(Layer::new());
    for (name, service) in [("../../canary", "it"), ("hostile", "../../../../canary")] {
        let before = victim.state()?;
        let mut application = image.handmade().application(host()?.platform.parse()?, Vec::new());
        application.name = name.to_owned();
        application.compose["folder"] = json!(name);
        application.compose["layers"][0]["content"]["name"] = json!(name);
        application.compose["layers"][0]["content"]["services"] = json!({service: {"image": "hostile"}});
        let stub = fs::read(stubs().join(host()?.triple).join("dpack-runner"))?;
        let head = StubHead::new(&stub, host()?.elf.machine)?;
        let writer = PayloadWriter::new(Cursor::new(Vec::new()), Some(head), Level::default())?;
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), writer.finish(&application)?.0.into_inner())?;
        let installed = Installed::on(Device::host()?, file.path())?;
        let run = installed.run(&["up", "-d"])?;
        assert_ne!(run.status, 0, "{run:?}");
        assert_eq!(run.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{run:?}");
        assert_eq!(victim.state()?, before);
    }
    File::open(victim.device.home().join("canary/precious"))?;
    Ok(())
}
