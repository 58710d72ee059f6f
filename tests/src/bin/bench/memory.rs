//! Memory: the builder's peak, and what each process of a running application keeps for itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use dpack_tests::Registry;

use crate::Context;
use crate::application::{Application, NETWORKED};
use crate::build::build_step;
use crate::image::{BenchImage, NAME};
use crate::race::{Contender, Race, Step};
use crate::report::{Report, Row};
use crate::start::bring_archive;

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let image = BenchImage::host()?;
    let registry = Registry::start()?;
    let reference = registry.serve(NAME, &image.index()?)?;
    let folders = [bench.peers.work("cache-0"), bench.peers.work("dist-0")];
    bench.peers.steps([Step::root(format!("rm -rf {}", folders.join(" ")))])?;
    let build = Contender::new(build_step(bench, &reference)?);
    let outcome = bench.peers.run(&Race { rounds: 1, contenders: vec![build] })?;
    report.add(Row::size("memory of a build, peak", outcome.peak_memory));

    let application = Application::install(bench, &image)?;
    let data = bench.peers.work("memory-data");
    bench.peers.steps([application.step(&data, &["up", "-d", NETWORKED])])?;
    let roles = roles(&data);
    bench.peers.steps([application.step(&data, &["down", "-v"])])?;
    let roles = roles?;
    if roles.is_empty() {
        bail!("no process of the application was found");
    }
    for (role, private) in &roles {
        report.add(Row::size(&format!("memory of the {role}, private"), *private));
    }
    let monitor = monitor(bench, &image)?;
    let shim = *roles.get("shim").context("no shim was found")?;
    let beside = |what: &str, ours: u64| Row::sizes(what, ours, "conmon", monitor);
    report.add(beside("memory of the shim, private", shim));
    report.add(beside("memory of all processes for one container, private", roles.values().sum()));
    Ok(())
}

/// What stays beside a container of podman's: it has one such process for each.
fn monitor(bench: &Context, image: &BenchImage) -> Result<u64> {
    let peers = &bench.peers;
    let podman =
        format!("podman --root {} --runroot {}", peers.work("memory-podman"), peers.work("memory-run"));
    let archive = bring_archive(bench, image)?;
    let run = format!(
        "{podman} load -q -i {archive}; {podman} run -d --name watched --network=none {NAME} sleep 1000"
    );
    peers.steps([Step::script(run)])?;
    let found = fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).find(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        line.windows(4).any(|word| word == b"mon\0")
            && String::from_utf8_lossy(&line).contains(&peers.work("memory-run"))
    });
    let private = found.context("no conmon was found").and_then(|process| private(&process));
    peers.steps([Step::script(format!("{podman} rm -f -t 0 watched"))])?;
    private
}

/// Private resident bytes of our processes with this data folder, by role. The network process does not know the folder: it is
/// a child of the supervisor, which does.
pub(crate) fn roles(data: &str) -> Result<BTreeMap<String, u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        // a process may end while we look at it
        let Ok(line) = fs::read(process.join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // the runner's processes are called by their role: `dpack-supervisor {"paths":{"data":…`
        if let Some((role, rest)) = line.split_once(' ')
            && let Some(role) = role.strip_prefix("dpack-")
        {
            found.push((process, role.to_owned(), rest.contains(data)));
        }
    }
    let is_child = |process: &Path| {
        let parent = parent(process);
        found
            .iter()
            .any(|(other, _, is_ours)| *is_ours && parent.is_some() && other.file_name() == parent.as_deref())
    };
    let ours = found.iter().filter(|(process, _, is_ours)| *is_ours || is_child(process));
    Ok(ours.filter_map(|(process, role, _)| Some((role.clone(), private(process).ok()?))).collect())
}

/// The process ID of a process's parent.
fn parent(process: &Path) -> Option<OsString> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().into())
}

/// The sum of `Private_Clean` and `Private_Dirty` (proc_pid_smaps(5)).
fn private(process: &Path) -> Result<u64> {
    let text = fs::read_to_string(process.join("smaps_rollup"))?;
    let mut sum = 0;
    for line in
        text.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"))
    {
        let kib: u64 = line.split_whitespace().nth(1).context("a line without a number")?.parse()?;
        sum += kib * 1024;
    }
    Ok(sum)
}
