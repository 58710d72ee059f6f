//! What it costs to be without overlayfs: each container gets a copy of its image. The same executable with either driver, as
//! a start and as work on many files in a container of its own.

use anyhow::Result;

use crate::Context;
use crate::application::{ALONE, Application};
use crate::image::BenchImage;
use crate::race::{Contender, Race, Step};
use crate::report::{Report, Row};

/// Reads everything that the image has under `/usr`, then makes, changes and removes a tree of files.
const WORK: &str = "find /usr -xdev -type f -exec cat {} + >/dev/null; cp -r /etc /var/tmp/etc; \
    find /var/tmp/etc -type f -exec chmod 600 {} +; find /usr -xdev -name '*.py' -exec touch {} +; rm -rf /var/tmp/etc";

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let peers = &bench.peers;
    let application = Application::install(bench, &BenchImage::host()?)?;
    let step = |driver: &str, command: &[&str]| {
        let data = peers.work(&format!("storage-{driver}"));
        let line = [&["run", "--rm", "--no-deps", "-T", ALONE], command].concat();
        application.step(&data, &line).environment("DPACK_STORAGE_DRIVER", driver)
    };
    let work = |driver: &str| Contender::new(step(driver, &["/bin/sh", "-c", WORK]));
    let start = |driver: &str| Contender::new(step(driver, &["/bin/true"]));
    // The layers are extracted once.
    peers.steps(["overlay", "copy"].map(|driver| step(driver, &["/bin/true"])))?;
    let contenders = vec![start("overlay"), start("copy"), work("overlay"), work("copy")];
    let samples = peers.run(&Race { rounds: bench.options.rounds(7), contenders })?.samples;
    let folders = ["overlay", "copy"].map(|driver| peers.work(&format!("storage-{driver}")));
    peers.steps([Step::root(format!("rm -rf {}", folders.join(" ")))])?;
    let [start_overlay, start_copy, work_overlay, work_copy] = &samples[..] else {
        anyhow::bail!("a contender is missing");
    };
    report.add(Row::times("start, driver copy", start_copy, "driver overlay", start_overlay));
    report.add(Row::times("start and work on files, driver copy", work_copy, "driver overlay", work_overlay));
    Ok(())
}
