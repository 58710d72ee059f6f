//! The support library against the real thing: what every other test builds on.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use dpack_targets::TARGETS;
use dpack_tests::images::{self, Format, Image, Index, Layer};
use dpack_tests::{DataDisk, Device, Need, Output, Registry, Vm, needs, probe, wait_until};
use serde_json::Value;

fn skopeo(arguments: &[&str]) -> Result<Output> {
    Output::of(Command::new("skopeo").args(arguments))
}

fn hello(format: Format) -> Result<Index> {
    let image = |platform| Ok(Image::new(platform)?.layer(Layer::new().file("hello", 0o755, b"hello")));
    let images = TARGETS.iter().map(|target| image(target.platform)).collect::<Result<Vec<_>>>()?;
    Index::in_format(format, &images)
}

#[test]
fn registry_serves_both_formats_for_every_platform() -> Result<()> {
    if !needs(&[Need::Program("docker-registry"), Need::Program("skopeo")]) {
        return Ok(());
    }
    let registry = Registry::start()?;
    for (name, format) in [("docker/hello:1", Format::Docker), ("oci/hello:1", Format::Oci)] {
        let index = hello(format)?;
        let reference = format!("docker://{}", registry.serve(name, &index)?);
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &reference])?.success()?;
        assert_eq!(raw.stdout.as_bytes(), index.root.content);
        for architecture in ["amd64", "arm64", "arm"] {
            let found =
                skopeo(&["--override-arch", architecture, "inspect", "--tls-verify=false", &reference])?;
            let found: Value = serde_json::from_str(&found.success()?.stdout)?;
            assert_eq!(found["Architecture"], architecture);
        }
    }
    let requests = registry.requests()?;
    assert!(requests.contains(&"GET /v2/oci/hello/manifests/1 200".to_owned()), "{requests:#?}");
    Ok(())
}

#[test]
fn registry_with_tls_and_password_lets_only_those_in_who_know_both() -> Result<()> {
    if !needs(&["docker-registry", "skopeo", "openssl", "htpasswd"].map(Need::Program)) {
        return Ok(());
    }
    let registry = Registry::with_tls().with_htpasswd("engineer", "secret").start()?;
    let reference = format!("docker://{}", registry.serve("private:1", &hello(Format::Oci)?)?);
    let authority = registry.certificate_authority().unwrap();
    let certificates = tempfile::tempdir()?;
    std::fs::copy(authority, certificates.path().join("ca.crt"))?;
    let certificates = format!("--cert-dir={}", certificates.path().display());

    let inspect = |more: &[&str]| skopeo(&[&["inspect", "--raw", &reference], more].concat());
    inspect(&[&certificates, "--creds=engineer:secret"])?.success()?;
    let stranger = inspect(&[&certificates, "--no-creds"])?;
    assert!(stranger.stderr.contains("authentication required"), "{stranger:?}");
    let trusting = inspect(&["--creds=engineer:secret"])?;
    assert!(trusting.stderr.contains("certificate"), "{trusting:?}");
    Ok(())
}

/// The names of every file in the layers of an image.
fn names(index: &Index) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for blob in index.blobs.iter().filter(|blob| blob.content.starts_with(&[0x1f, 0x8b])) {
        let mut layer = tar::Archive::new(flate2::read::GzDecoder::new(&blob.content[..]));
        for entry in layer.entries()? {
            names.push(String::from_utf8_lossy(&entry?.path_bytes()).into_owned());
        }
    }
    Ok(names)
}

#[test]
fn real_images_have_their_program_for_every_platform() -> Result<()> {
    if !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let programs = [
        (images::busybox()?, "usr/bin/sh"),
        (images::redis()?, "usr/bin/redis-server"),
        (images::nginx()?, "usr/sbin/nginx"),
    ];
    for (image, program) in programs {
        let found = names(&image)?.iter().filter(|name| *name == program).count();
        assert_eq!(found, TARGETS.len(), "{program}");
    }
    Ok(())
}

#[test]
fn device_is_an_ordinary_user_with_nothing() -> Result<()> {
    if !needs(&[Need::Probe, Need::Program("newuidmap")]) {
        return Ok(());
    }
    let Some(host) = dpack_targets::Target::host() else { return Ok(()) };
    let device = Device::host()?;
    let installed = device.install(&probe(host))?;
    let report: Value = serde_json::from_str(&device.run(&[&installed])?.success()?.stdout)?;
    assert_ne!(report["uid"][0], 0);
    assert_eq!(report["capabilities"]["effective"], "0000000000000000");
    assert_eq!(report["environment"]["HOME"], device.home().to_str().unwrap());

    let mut child = device.spawn(&[&installed, "wait"])?;
    // until setpriv has become the user, the process is root's and none of the device's
    wait_until("the process is the device's", Duration::from_secs(20), || {
        device.processes() == [child.id()]
    })?;
    drop(device);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait()?), Some(9));
    Ok(())
}

#[test]
fn device_without_subordinate_ids_cannot_map_a_second_user() -> Result<()> {
    if !needs(&[Need::Root, Need::Program("newuidmap")]) {
        return Ok(());
    }
    let try_to_map = |device: &Device| device.run(&["unshare", "--map-root-user", "--map-auto", "true"]);
    try_to_map(&Device::host()?)?.success()?;
    assert_ne!(try_to_map(&Device::host_without_subordinate_ids()?)?.status, 0);
    Ok(())
}

fn boots(vm: Vm, platform: &str) -> Result<()> {
    if !needs(&[Need::Probe, Need::DebianPackages]) {
        return Ok(());
    }
    let Some(target) = dpack_targets::Target::for_platform(platform) else {
        panic!("no target for {platform}")
    };
    let script = "/in/probe && cat /sys/fs/cgroup/user.slice/user-1000/cgroup.controllers >&2 && exit 7";
    let output = vm.user().file(&probe(target)).run(script)?.with_status(7)?;
    let report: Value = serde_json::from_str(&output.stdout)?;
    assert_eq!(report["uid"][0], 1000);
    assert_eq!(report["hostname"], "device");
    assert_eq!(report["mounts"]["/home"]["type"], "ext4");
    assert_eq!(report["control_group"], "0::/user.slice/user-1000/session\n");
    assert!(output.stderr.contains("memory") && output.stderr.contains("pids"), "{}", output.stderr);
    Ok(())
}

#[test]
fn amd64_kernel_boots() -> Result<()> {
    boots(Vm::amd64(), "linux/amd64")
}

#[test]
fn arm64_kernel_boots() -> Result<()> {
    boots(Vm::arm64(), "linux/arm64")
}

#[test]
fn armv7_kernel_boots() -> Result<()> {
    boots(Vm::armv7(), "linux/arm/v7")
}

#[test]
fn power_cut_keeps_what_was_synced() -> Result<()> {
    if !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let disk = DataDisk::new(64)?;
    let mut machine = Vm::amd64()
        .user()
        .disk(&disk)
        .time_limit(Duration::from_secs(120))
        .start("echo kept > kept; sync; echo lost > lost; echo written; sleep 1000")?;
    machine.wait_for("written")?;
    machine.power_cut()?;
    let after = Vm::amd64().user().disk(&disk).run("cat kept; cat lost 2>&1; id -u")?.success()?;
    assert!(after.stdout.starts_with("kept\n") && after.stdout.ends_with("1000\n"), "{after:?}");
    assert!(!after.stdout.contains("\nlost\n"), "{after:?}");
    Ok(())
}

#[test]
fn newuidmap_is_on_the_machine_when_asked_for() -> Result<()> {
    if !needs(&[Need::DebianPackages]) {
        return Ok(());
    }
    let script = "unshare -U sleep 5 & sleep 1; newuidmap $! 0 1000 1 1 100000 65536 && cat /proc/$!/uid_map";
    let with = Vm::amd64().user().newuidmap().run(script)?.success()?;
    let map: Vec<Vec<&str>> = with.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(map, [["0", "1000", "1"], ["1", "100000", "65536"]]);
    assert_eq!(Vm::amd64().user().run("command -v newuidmap")?.status, 127);
    Ok(())
}
