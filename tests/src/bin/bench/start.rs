//! Start of `/bin/true` in a container whose image is there already.
//!
//! crun is the yardstick: it is given an unpacked root file system and a finished bundle, and has nothing to find out. Once that is
//! the bundle of the same service, so that both confine alike: all IDs of the user, filter, masks. Once it is what `crun spec` makes,
//! which has one ID and no filter. bubblewrap makes the same namespaces, with one ID, and has neither filter nor image nor
//! record.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::Context;
use crate::application::{ALONE, Application, NETWORKED};
use crate::image::{BenchImage, NAME};
use crate::race::{Contender, ROUND, Race, Sample, Step};
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

    let (bundle, plain) = (peers.work("bundle"), peers.work("plain-bundle"));
    peers.steps([application.step(&data, &["bundle", ALONE, "-o", &bundle])])?;
    runs_true(bench, &bundle)?;
    plain_bundle(bench, &image, &plain)?;
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
    let crun = |bundle: &str| Contender::new(Step::user(["crun", "run", "--bundle", bundle, id.as_str()]));
    let contenders = vec![
        Contender::new(run(&data, ALONE)).before(Step::root(TUN)),
        crun(&bundle),
        crun(&plain),
        Contender::new(run(&data_up, ALONE)),
        Contender::new(run(&data, NETWORKED)),
        Contender::new(run(&data_up, NETWORKED)),
        Contender::new(Step::user(podman_run.split(' '))),
        Contender::new(Step::script(podman(&format!("run --rm {NAME} /bin/true")))),
        Contender::new(bubblewrap(&plain)),
    ];
    let raced = peers.run(&Race { rounds: bench.options.rounds(40), contenders });
    peers.steps([application.step(&data_up, &["down", "-v"])])?;
    let samples = raced?.samples;
    let [alone, crun, crun_plain, alone_up, networked, networked_up, podman_none, podman_default, bubblewrap] =
        &samples[..]
    else {
        anyhow::bail!("a contender is missing");
    };

    report.add(Row::times("start, no network", alone, "crun, same bundle", crun).aim(Aim::AtMost(1.2)));
    report.add(Row::times("start, no network", alone, "crun, one ID, no filter", crun_plain));
    report.add(Row::times("start, no network", alone, "bwrap", bubblewrap));
    report.add(Row::times("start, no network", alone, "podman run", podman_none));
    report.add(Row::times("start, no network, project is up", alone_up, "crun, same bundle", crun));
    report.add(Row::times("start, default network", networked, "podman run", podman_default));
    report.add(Row::times(
        "start, default network, project is up",
        networked_up,
        "podman run",
        podman_default,
    ));
    many_at_once(bench, report, (&run(&data, ALONE), &bundle))
}

/// How many containers at once.
const MANY: usize = 100;

/// The time of many starts at once, for each.
fn many_at_once(bench: &Context, report: &mut Report, (run, bundle): (&Step, &str)) -> Result<()> {
    let id = format!("exec crun run --bundle {bundle} many-{}-{ROUND}-$NUMBER", std::process::id());
    let contenders =
        [run.clone(), Step::script(id)].map(|step| Contender::new(step.at_once(MANY))).into_iter().collect();
    let samples = bench.peers.run(&Race { rounds: bench.options.rounds(5), contenders })?.samples;
    let [ours, crun] = &samples[..] else { anyhow::bail!("a contender is missing") };
    let each = |samples: &[Sample]| samples.iter().map(|sample| sample.shared(MANY)).collect::<Vec<_>>();
    let what = format!("{MANY} starts at once, each");
    report.add(Row::times(&what, &each(ours), "crun, same bundle", &each(crun)));
    Ok(())
}

/// Confined as far as bubblewrap does it by itself.
fn bubblewrap(bundle: &str) -> Step {
    let rootfs = format!("{bundle}/rootfs");
    let line = ["bwrap", "--unshare-all", "--bind", &rootfs, "/", "--proc", "/proc", "--dev", "/dev"];
    Step::user(line.into_iter().chain(["--cap-drop", "ALL", "/bin/true"]))
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
fn plain_bundle(bench: &Context, image: &BenchImage, bundle: &str) -> Result<()> {
    let tar = bench.peers.bring(&image.flat(), "flat.tar")?;
    bench.peers.steps([Step::script(format!(
        "mkdir -p {bundle}/rootfs; cd {bundle}; tar -x -C rootfs -f {tar} --no-same-owner; crun spec --rootless"
    ))])?;
    runs_true(bench, bundle)
}

/// What a bundle runs becomes what the others run.
fn runs_true(bench: &Context, bundle: &str) -> Result<()> {
    let file = bench.peers.outside(bundle).join("config.json");
    let mut configuration: Value = serde_json::from_slice(&fs::read(&file)?)?;
    configuration["process"]["args"] = serde_json::json!(["/bin/true"]);
    configuration["process"]["terminal"] = serde_json::json!(false);
    Ok(fs::write(&file, serde_json::to_vec(&configuration)?)?)
}
