//! Start of `/bin/true` in a container whose image is there already.
//!
//! crun is the yardstick: it is given an unpacked root file system and a finished bundle, and has nothing to find out.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::Context;
use crate::application::{ALONE, Application, NETWORKED};
use crate::image::{BenchImage, NAME};
use crate::race::{Contender, ROUND, Race, Step};
use crate::report::{Aim, Report, Row};

/// podman's default network needs the TUN device, which ordinary users may open on most machines and not on all.
pub(crate) const TUN: &str = "[ -e /dev/net/ours ] || \
    { mount -t tmpfs none /dev/net; mknod -m 666 /dev/net/tun c 10 200; touch /dev/net/ours; }";

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let peers = &bench.peers;
    let image = BenchImage::host()?;
    let (data, data_up) = (peers.work("start-data"), peers.work("start-data-up"));
    let application = Application::install(bench, &image)?;
    let run = |data: &str, service: &str| {
        application.step(data, &["run", "--rm", "--no-deps", "-T", service, "/bin/true"])
    };

    let bundle = peers.work("bundle");
    prepare_crun(bench, &image, &bundle)?;
    let podman =
        |line: &str| format!("podman --root {} --runroot {} {line}", peers.work("p"), peers.work("pr"));
    let archive = bring_archive(bench, &image)?;
    peers.steps([
        Step::script(podman(&format!("load -q -i {archive}"))),
        forget_podman(),
        application.step(&data_up, &["up", "-d"]),
        run(&data, ALONE),
    ])?;

    let id = format!("bench-{}-{ROUND}", std::process::id());
    let podman_run = podman(&format!("run --rm --network=none {NAME} /bin/true"));
    let contenders = vec![
        Contender::new(run(&data, ALONE)).before(Step::root(TUN)),
        Contender::new(Step::user(["crun", "run", "--bundle", bundle.as_str(), id.as_str()])),
        Contender::new(run(&data_up, ALONE)),
        Contender::new(run(&data, NETWORKED)),
        Contender::new(run(&data_up, NETWORKED)),
        Contender::new(Step::user(podman_run.split(' '))),
        Contender::new(Step::script(podman(&format!("run --rm {NAME} /bin/true")))),
    ];
    let raced = peers.run(&Race { rounds: bench.options.rounds(40), contenders });
    peers.steps([application.step(&data_up, &["down", "-v"])])?;
    let samples = raced?.samples;
    let [alone, crun, alone_up, networked, networked_up, podman_none, podman_default] = &samples[..] else {
        anyhow::bail!("a contender is missing");
    };

    report.add(Row::times("start, no network", alone, "crun run", crun).aim(Aim::AtMost(2.0)));
    report.add(Row::times("start, no network", alone, "podman run", podman_none));
    report.add(Row::times("start, no network, project is up", alone_up, "crun run", crun));
    report.add(Row::times("start, default network", networked, "podman run", podman_default));
    report.add(Row::times(
        "start, default network, project is up",
        networked_up,
        "podman run",
        podman_default,
    ));
    Ok(())
}

/// Ends podman's pause process. The next podman starts one in the mount namespace of its own race; joining one from before,
/// it would see neither that race's devices nor its disks.
pub(crate) fn forget_podman() -> Step {
    Step::script("podman system migrate")
}

/// The image as `docker save` writes it, and every `podman load` reads it.
pub(crate) fn bring_archive(bench: &Context, image: &BenchImage) -> Result<String> {
    let archive = bench.peers.work("image.tar");
    if !bench.peers.outside(&archive).exists() {
        let layout = bring_layout(bench, image)?;
        let to = format!("docker-archive:{archive}:{NAME}");
        let policy = "--insecure-policy";
        let from = format!("oci:{layout}:latest");
        bench.peers.steps([Step::user(["skopeo", policy, "copy", "-q", from.as_str(), to.as_str()])])?;
    }
    Ok(archive)
}

fn bring_layout(bench: &Context, image: &BenchImage) -> Result<String> {
    let inside = bench.peers.work("layout");
    let outside = bench.peers.outside(&inside);
    fs::create_dir_all(outside.join("blobs/sha256"))?;
    for file in ["oci-layout", "index.json"] {
        fs::copy(image.layout().join(file), outside.join(file))?;
    }
    for blob in fs::read_dir(image.layout().join("blobs/sha256"))? {
        let blob = blob?;
        fs::copy(blob.path(), outside.join("blobs/sha256").join(blob.file_name()))?;
    }
    Ok(inside)
}

/// A bundle as `crun spec --rootless` makes it, with the image unpacked by its user.
fn prepare_crun(bench: &Context, image: &BenchImage, bundle: &str) -> Result<()> {
    let tar = bench.peers.bring(&image.flat(), "flat.tar")?;
    bench.peers.steps([Step::script(format!(
        "mkdir -p {bundle}/rootfs; cd {bundle}; tar -x -C rootfs -f {tar} --no-same-owner; crun spec --rootless"
    ))])?;
    let file = bench.peers.outside(bundle).join("config.json");
    let mut configuration: Value = serde_json::from_slice(&fs::read(&file)?)?;
    configuration["process"]["args"] = serde_json::json!(["/bin/true"]);
    configuration["process"]["terminal"] = serde_json::json!(false);
    Ok(fs::write(&file, serde_json::to_vec(&configuration)?)?)
}
