//! What `dpack build` wrote, judged by readelf, file, objcopy and strip; and damaged in every place.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use dpack_targets::{TARGETS, Target};
use dpack_tests::images::{Image, Index, Layer};
use dpack_tests::{Dpack, Need, Output, needs, stubs};
use serde_json::Value;

/// An application of two services for every platform, from an OCI layout.
struct Site {
    dpack: Dpack,
}

const COMPOSE: &str = "\
name: shop
services:
  web:
    image: example.com/web:1
    command: [serve]
  store:
    image: example.com/store:1
";

impl Site {
    fn build(platforms: &[&str]) -> Result<Self> {
        let mut images = [Vec::new(), Vec::new()];
        for target in TARGETS {
            let base = Layer::new().directory("etc", 0o755).file("etc/os", 0o644, &text(20_000));
            for (number, list) in images.iter_mut().enumerate() {
                let own = Layer::new()
                    .file("own", 0o755, format!("{number} {}", target.platform).repeat(3000).as_bytes())
                    .symlink("link", "own")
                    .hard_link("again", "own");
                list.push(Image::new(target.platform)?.layer(base.clone()).layer(own));
            }
        }
        let dpack = Dpack::new()?.file("compose.yml", COMPOSE)?;
        let mut arguments = vec!["build".to_owned(), "--platform".to_owned(), platforms.join(",")];
        for (name, images) in ["web", "store"].iter().zip(images) {
            Index::new(&images)?.write_layout(&dpack.project().join(name), "v1")?;
            arguments.extend(["--from".to_owned(), format!("example.com/{name}:1=oci:{name}:v1")]);
        }
        dpack.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?.success()?;
        Ok(Self { dpack })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dpack.project().join(name)
    }

    fn executable(&self, target: &Target) -> PathBuf {
        self.path("dist").join(format!("shop-{}", target.suffix))
    }

    fn inspect(&self, file: &Path) -> Result<Output> {
        self.dpack.run(&["inspect", file.to_str().context("path")?, "--format", "json"])
    }

    /// The inspection without what tells one file from another with the same payload.
    fn payload_of(&self, file: &Path) -> Result<Value> {
        let mut inspected: Value = serde_json::from_str(&self.inspect(file)?.success()?.stdout)?;
        for field in ["file", "size", "runner_size"] {
            inspected[field] = Value::Null;
        }
        Ok(inspected)
    }

    fn extract(&self, file: &Path, folder: &str) -> Result<Output> {
        let file = file.to_str().context("path")?;
        let output = format!("oci:{folder}");
        self.dpack.run(&["extract", file, "--image", "web", "--compression", "none", "-o", &output])
    }
}

const BINUTILS: [Need; 3] = [
    Need::Program("x86_64-linux-gnu-objcopy"),
    Need::Program("aarch64-linux-gnu-objcopy"),
    Need::Program("arm-linux-gnueabihf-objcopy"),
];

fn text(length: usize) -> Vec<u8> {
    let words = (0_u64..).map(|number| format!("{} ", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    words.flat_map(String::into_bytes).take(length).collect()
}

fn tool(program: &str, arguments: &[&str], file: &Path) -> Result<String> {
    Ok(Output::of(Command::new(program).args(arguments).arg(file))?.success()?.stdout)
}

#[test]
fn readelf_file_and_objcopy_see_a_static_program_with_a_section() -> Result<()> {
    if !needs(&[Need::Stubs, Need::Program("readelf"), Need::Program("file")]) || !needs(&BINUTILS) {
        return Ok(());
    }
    let site = Site::build(&["linux/amd64", "linux/arm64", "linux/arm/v7"])?;
    for (target, machine) in TARGETS.iter().zip(["X86-64", "AArch64", "ARM"]) {
        let path = site.executable(target);
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, 0o755);

        let header = tool("readelf", &["-hW"], &path)?;
        let found = header.lines().find(|line| line.trim().starts_with("Machine:")).context("machine")?;
        assert!(found.ends_with(machine), "{found}");
        let sections = tool("readelf", &["-SW"], &path)?;
        assert_eq!(sections.matches(" .dpack ").count(), 1, "{sections}");
        let segments = tool("readelf", &["-lW"], &path)?;
        assert!(!segments.contains("INTERP"), "{segments}");
        assert!(!tool("readelf", &["-dW"], &path)?.contains("NEEDED"));
        // readelf complains on standard error when something does not fit
        let complaints = Output::of(Command::new("readelf").args(["-aW"]).arg(&path))?;
        assert_eq!(complaints.stderr, "", "{}", target.platform);
        let described = tool("file", &["--brief"], &path)?;
        assert!(described.starts_with("ELF ") && !described.contains("interpreter"), "{described}");
        assert!(
            described.contains("statically linked") || described.contains("static-pie linked"),
            "{described}"
        );

        // the head of the file is the runner, but for the headers that find sections
        let stub = fs::read(stubs().join(target.triple).join("dpack-runner"))?;
        let built = fs::read(&path)?;
        let same = stub.iter().zip(&built).filter(|(a, b)| a == b).count();
        assert!(same * 100 >= stub.len() * 99, "{same} of {} bytes", stub.len());

        let payload = site.path(&format!("payload-{}", target.suffix));
        let dump = format!(".dpack={}", payload.display());
        let copy = site.path("copy");
        let mut objcopy = Command::new(format!("{}-objcopy", gnu(target)));
        Output::of(objcopy.args(["--dump-section", &dump]).arg(&path).arg(&copy))?.success()?;
        assert!(built.ends_with(&fs::read(&payload)?), "the section is the end of the file");
        assert_eq!(site.payload_of(&payload)?, site.payload_of(&path)?);
        // objcopy wrote the file anew, section headers last
        assert_eq!(site.payload_of(&copy)?, site.payload_of(&path)?);
    }
    Ok(())
}

#[test]
fn a_stripped_executable_still_opens_and_runs() -> Result<()> {
    if !needs(&[Need::Stubs]) || !needs(&BINUTILS) {
        return Ok(());
    }
    let site = Site::build(&["linux/amd64", "linux/arm64", "linux/arm/v7"])?;
    for target in TARGETS {
        let path = site.executable(target);
        let stripped = site.path(&format!("stripped-{}", target.suffix));
        let mut strip = Command::new(format!("{}-strip", gnu(target)));
        Output::of(strip.args(["-s", "-o"]).arg(&stripped).arg(&path))?.success()?;
        assert_eq!(site.payload_of(&stripped)?, site.payload_of(&path)?, "{}", target.platform);
        site.extract(&stripped, &format!("layout-{}", target.suffix))?.success()?;

        if Target::host() == Some(target) {
            let home = tempfile::tempdir()?;
            for file in [&path, &stripped] {
                let run = |command: &str| {
                    Output::of(Command::new(file).arg(command).env_clear().env("HOME", home.path()))
                };
                let version = run("version")?.success()?.stdout;
                assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
                let inspected = run("inspect")?.success()?.stdout;
                assert!(inspected.contains("example.com/web:1"), "{inspected}");
                run("verify")?.success()?;
            }
        }
    }
    Ok(())
}

/// GNU's name of a target, which its binutils begin with: each knows one architecture.
fn gnu(target: &Target) -> &'static str {
    match target.debian {
        "arm64" => "aarch64-linux-gnu",
        "armhf" => "arm-linux-gnueabihf",
        _ => "x86_64-linux-gnu",
    }
}

/// Where the payload's parts are, from its trailer (FORMAT.md, "Trailer").
fn parts(file: &[u8]) -> Result<(usize, usize, usize)> {
    let trailer = file.len() - 176;
    let number = |offset: usize| -> Result<usize> {
        let at = trailer + offset;
        Ok(usize::try_from(u64::from_le_bytes(file[at..at + 8].try_into()?))?)
    };
    let payload = file.len() - number(32)?;
    Ok((payload, payload + number(40)?, trailer))
}

#[test]
fn a_flipped_bit_anywhere_in_the_payload_is_found() -> Result<()> {
    if !needs(&[Need::Stubs]) {
        return Ok(());
    }
    let site = Site::build(&["linux/arm64"])?;
    let good = fs::read(site.path("dist/shop-arm64"))?;
    let (payload, index, trailer) = parts(&good)?;
    let damaged = site.path("damaged");
    fs::write(&damaged, &good)?;
    fs::set_permissions(&damaged, fs::Permissions::from_mode(0o755))?;
    let file = File::options().write(true).open(&damaged)?;

    // both ends of each part and some places between them, spread over the bits of a byte
    let spread = |from: usize, to: usize| (0..8).map(move |n| from + (to - 1 - from) * n / 7);
    let offsets: BTreeSet<usize> =
        spread(payload, index).chain(spread(index, trailer)).chain(spread(trailer, good.len())).collect();
    for (number, &offset) in offsets.iter().enumerate() {
        file.write_all_at(&[good[offset] ^ (1 << (number % 8))], offset as u64)?;
        let name = format!("out-{offset}");
        let output = site.extract(&damaged, &name)?;
        assert_eq!(output.status, 4, "offset {offset}: {output:?}");
        assert_eq!(output.stdout, "");
        let lines: Vec<&str> = output.stderr.lines().collect();
        let [error, hint] = lines[..] else { panic!("offset {offset}: {lines:?}") };
        assert!(error.starts_with("error: ") && hint.starts_with("hint: "), "{lines:?}");
        assert!(!site.path(&name).exists(), "nothing was extracted");
        // inspect reads no frame; everything it reads is checked
        let inspected = site.inspect(&damaged)?;
        assert_eq!(inspected.status, if offset < index { 0 } else { 4 }, "offset {offset}: {inspected:?}");
        file.write_all_at(&[good[offset]], offset as u64)?;
    }
    site.extract(&damaged, "repaired")?.success()?;
    Ok(())
}

#[test]
fn a_truncated_or_extended_executable_is_refused() -> Result<()> {
    if !needs(&[Need::Stubs]) {
        return Ok(());
    }
    let site = Site::build(&["linux/arm/v7"])?;
    let good = fs::read(site.path("dist/shop-armv7"))?;
    let (payload, index, trailer) = parts(&good)?;
    let damaged = site.path("damaged");
    let lengths =
        [0, 1, 64, payload / 2, payload, payload + 1, (payload + index) / 2, index, trailer, trailer + 175];
    let mut contents: Vec<Vec<u8>> = lengths.iter().map(|&length| good[..length].to_vec()).collect();
    contents.push([&good[..], b"\n"].concat());
    contents.push(good[payload + 1..].to_vec());
    // a hole in the middle, as a broken download leaves it
    let mut hole = good.clone();
    hole[index..trailer].fill(0);
    contents.push(hole);
    for content in &contents[..] {
        fs::write(&damaged, content)?;
        let length = content.len();
        let output = site.inspect(&damaged)?;
        // one byte too many: the section headers still lead to the payload, which is intact
        if length == good.len() + 1 {
            output.success()?;
            continue;
        }
        let output = output.with_status(4).with_context(|| format!("length {length}"))?;
        let start = format!("error: `{}` is not an intact dpack executable: ", damaged.display());
        assert!(output.stderr.starts_with(&start), "length {length}: {}", output.stderr);
        assert!(output.stderr.contains("\nhint: "), "length {length}: {}", output.stderr);
        assert_eq!(site.extract(&damaged, "never")?.status, 4);
        assert!(!site.path("never").exists());
    }
    Ok(())
}

#[test]
fn extract_says_what_there_is() -> Result<()> {
    if !needs(&[Need::Stubs]) {
        return Ok(());
    }
    let site = Site::build(&["linux/amd64"])?;
    let run = |arguments: &[&str]| site.dpack.run(&[&["extract", "dist/shop-amd64"], arguments].concat());
    let output = run(&["--image", "nginx", "-o", "oci:x"])?.with_status(2)?;
    let expected =
        "error: no image `nginx` in this executable; it has example.com/store:1, example.com/web:1\n";
    assert!(output.stderr.starts_with(expected), "{}", output.stderr);
    let output = run(&["--image", "web", "--platform", "linux/arm64", "-o", "oci:x"])?.with_status(2)?;
    let expected = "error: image `web` is there for linux/amd64\nhint: choose one with --platform\n";
    assert_eq!(output.stderr, expected);
    let output = run(&["--image", "web", "-o", "x"])?.with_status(2)?;
    assert_eq!(output.stderr, "error: `x` is not a place for an image\nhint: write it as -o oci:DIR[:REF]\n");
    let output = run(&["--image", "web", "-o", "oci:dist"])?.with_status(2)?;
    let expected =
        "error: `dist` is there already and not empty\nhint: name a folder that is not there yet\n";
    assert_eq!(output.stderr, expected);
    assert!(!site.path("x").exists());
    Ok(())
}
