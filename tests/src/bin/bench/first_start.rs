//! First start of an image that the device has never seen.
//!
//! Each turn gets an empty ext4 of its own: a file system that was just emptied looks for its deleted inodes, and what the
//! turn before wrote would still be on its way to the disk. What is read lies in the page cache for everybody.

use std::process::Command;

use anyhow::Result;
use dpack_tests::Output;

use crate::Context;
use crate::application::{ALONE, Application, NETWORKED};
use crate::image::{BenchImage, NAME};
use crate::race::{Contender, ROUND, Race, Step};
use crate::report::{Aim, Report, Row};
use crate::start::{bring_archive, forget_podman};

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let peers = &bench.peers;
    let image = BenchImage::host()?;
    let application = Application::install(bench, &image)?;
    let archive = bring_archive(bench, &image)?;
    let pristine = peers.work("pristine.img");
    let file = peers.outside(&pristine);
    std::fs::File::create(&file)?.set_len(2 << 30)?;
    Output::of(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&file))?.success()?;

    let fresh = |name: &str, command: &dyn Fn(&str) -> Step, clean: &dyn Fn(&str) -> Step| {
        let disk = peers.work(&format!("first-{name}-{ROUND}"));
        Contender::new(command(&disk))
            .before(Step::root(format!(
                "mkdir {disk}; cp --sparse=always {pristine} {disk}.img; mount -o loop,noinit_itable {disk}.img {disk}; \
                 chown dev: {disk}; sync"
            )))
            .after(clean(&disk))
            .after(Step::root(format!("umount -l {disk}; rm -f {disk}.img")))
    };
    let up = |service: &'static str| {
        let application = &application;
        fresh(service, &|disk| application.step(disk, &["up", "-d", service]), &|disk| {
            application.step(disk, &["down", "-v"])
        })
    };
    let podman = |disk: &str| format!("podman --root {disk}/root --runroot {disk}/run");
    let load = |disk: &str| format!("{} load -q -i {archive}", podman(disk));
    let start = |disk: &str| format!("{} run -d --network=none {NAME} sleep 1000", podman(disk));
    let remove = |disk: &str| Step::script(format!("{} rm -a -f -t 0", podman(disk)));
    let contenders = vec![
        up(ALONE),
        fresh("load", &|disk| Step::script(load(disk)), &remove),
        fresh("run", &|disk| Step::script(format!("{}; {}", load(disk), start(disk))), &remove),
        up(NETWORKED),
    ];
    peers.steps([forget_podman()])?;
    let samples = peers.run(&Race { rounds: bench.options.rounds(7), contenders })?.samples;
    let [alone, load, load_and_run, networked] = &samples[..] else {
        anyhow::bail!("a contender is missing");
    };

    report.add(Row::times("first start, no network", alone, "podman load", load).aim(Aim::Below(1.0)));
    report.add(Row::times("first start, no network", alone, "podman load + run", load_and_run));
    report
        .add(Row::times("first start, default network", networked, "podman load", load).aim(Aim::Below(1.0)));
    Ok(())
}
