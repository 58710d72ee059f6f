//! Start and stop of many services: a chain, in which each waits for the one before, and a crowd, in which none does. The time
//! for each service, and how it grows with their number; beside Docker Compose where the peers' root has a Docker Engine.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use dpack_tests::workspace;

use crate::Context;
use crate::application::{Application, Project};
use crate::image::{BenchImage, NAME};
use crate::race::{Contender, Race, Sample, Step};
use crate::report::{Report, Row, Spread, Unit};
use crate::start::bring_archive;

/// Names and numbers of services; whether each waits for the one before.
const PROJECTS: [(&str, usize, bool); 4] = [
    ("chain of 10", 10, true),
    ("chain of 50", 50, true),
    ("50 side by side", 50, false),
    ("200 side by side", 200, false),
];

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let image = BenchImage::host()?;
    let docker = Docker::start(bench, &image)?;
    let mut measured = Ok(());
    for (name, count, chained) in PROJECTS {
        measured = one(bench, report, &image, docker.as_ref(), (name, count, chained));
        if measured.is_err() {
            break;
        }
    }
    if let Some(docker) = docker {
        docker.stop(bench)?;
    }
    measured
}

fn one(
    bench: &Context,
    report: &mut Report,
    image: &BenchImage,
    docker: Option<&Docker>,
    (name, count, chained): (&str, usize, bool),
) -> Result<()> {
    let text = compose(count, chained);
    let application = Application::install_project(bench, image, &Project::with(&text)?)?;
    let data = bench.peers.work(&format!("many-{count}-{chained}"));
    let up = application.step(&data, &["up", "-d"]);
    let down = application.step(&data, &["down", "-t", "0"]);
    // Extracts the image, which is not what is measured.
    bench.peers.steps([up.clone(), down.clone()])?;
    let mut contenders =
        vec![Contender::new(up.clone()).after(down.clone()), Contender::new(down).before(up)];
    if let Some(docker) = docker {
        let folder = bench.peers.work(&format!("many-{count}-{chained}-compose"));
        fs::create_dir_all(bench.peers.outside(&folder))?;
        fs::write(bench.peers.outside(&folder).join("compose.yml"), &text)?;
        let (up, down) = (docker.compose(&folder, "up -d"), docker.compose(&folder, "down -t 0"));
        contenders.push(Contender::new(up.clone()).after(down.clone()));
        contenders.push(Contender::new(down).before(up));
    }
    let samples = bench.peers.run(&Race { rounds: bench.options.rounds(3), contenders })?.samples;
    for (verb, number) in [("up", 0), ("down", 1)] {
        let what = format!("{verb}, {name}, per service");
        let each = |samples: &[Sample]| -> Vec<Sample> {
            samples.iter().map(|sample| sample.shared(count)).collect()
        };
        let (ours, theirs) = (samples.get(number), samples.get(number + 2));
        let ours = each(ours.map(Vec::as_slice).unwrap_or_default());
        match theirs {
            Some(theirs) => report.add(Row::times(&what, &ours, "docker compose", &each(theirs))),
            None => report.add(Row::alone(&what, Unit::Seconds, Spread::seconds(&ours))),
        }
    }
    Ok(())
}

fn compose(count: usize, chained: bool) -> String {
    let mut text = "name: many\nservices:\n".to_owned();
    for number in 0..count {
        let needs = match number.checked_sub(1).filter(|_| chained) {
            Some(before) => format!(", depends_on: [s{before:03}]"),
            None => String::new(),
        };
        let service =
            format!("image: {NAME}, command: [sleep, \"1000\"], network_mode: none, stop_grace_period: 0s");
        let _ = writeln!(text, "  s{number:03}: {{{service}{needs}}}");
    }
    text
}

/// A Docker Engine of our own in the peers' root.
struct Docker {
    folder: String,
}

impl Docker {
    /// Starts one, if it is installed there, and loads the image.
    fn start(bench: &Context, image: &BenchImage) -> Result<Option<Self>> {
        if !bench.peers.outside("/usr/sbin/dockerd").exists() {
            eprintln!(
                "bench: no Docker Engine in the peers' root, which {} makes",
                workspace().join("ci/peers.sh").display()
            );
            return Ok(None);
        }
        let archive = bring_archive(bench, image)?;
        let folder = bench.peers.work("docker");
        let script = format!(
            "mkdir -p {folder}; setsid dockerd --data-root {folder}/data --exec-root {folder}/exec -p {folder}/pid \
             -H unix://{folder}/sock >{folder}/log 2>&1 </dev/null &\n\
             for i in $(seq 100); do docker -H unix://{folder}/sock version >/dev/null 2>&1 && break; sleep 0.2; done\n\
             docker -H unix://{folder}/sock load -q -i {archive} >/dev/null"
        );
        bench.peers.steps([Step::root(script)])?;
        Ok(Some(Self { folder }))
    }

    fn compose(&self, project: &str, line: &str) -> Step {
        let command =
            format!("cd {project}; docker -H unix://{}/sock compose {line} >/dev/null 2>&1", self.folder);
        Step::root(command)
    }

    fn stop(self, bench: &Context) -> Result<()> {
        let pid = format!("{}/pid", self.folder);
        let script =
            format!("pid=$(cat {pid}); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done");
        bench.peers.steps([Step::root(script)])
    }
}
