//! Time to build one executable from a registry on loopback, the first time and again.

use anyhow::Result;
use dpack_targets::Target;
use dpack_tests::{Registry, stubs};

use crate::Context;
use crate::application::compose;
use crate::image::{BenchImage, NAME};
use crate::race::{Contender, ROUND, Race, Step};
use crate::report::{Aim, Report, Row, Spread, Unit};

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let peers = &bench.peers;
    let image = BenchImage::host()?;
    let input = std::fs::metadata(image.flat())?.len() as f64;
    let registry = Registry::start()?;
    let reference = registry.serve(NAME, &image.index()?)?;
    let first = build_step(bench, &reference)?;
    let work = peers.work("copy");
    let copy = format!(
        "skopeo --insecure-policy copy -q --src-tls-verify=false docker://{reference} docker-archive:{work}-{ROUND}.tar; \
         zstd -q -9 -T0 {work}-{ROUND}.tar"
    );
    let remove = Step::root(format!("rm -f {work}-{ROUND}.tar*; sync"));
    let contenders = vec![
        Contender::new(first.clone()).before(Step::root("sync")),
        // the cache is that of the same round
        Contender::new(first).before(Step::root("sync")),
        Contender::new(Step::script(copy)).before(Step::root("sync")).after(remove),
    ];
    let samples = peers.run(&Race { rounds: bench.options.rounds(5), contenders })?.samples;
    let [first, second, copy] = &samples[..] else {
        anyhow::bail!("a contender is missing");
    };

    report.add(Row::times("build", first, "skopeo copy + zstd -9 -T0", copy));
    report.add(Row::times("build again", second, "first build", first).aim(Aim::AtMost(0.05)));
    let throughput = first.iter().map(|sample| input / 1e6 / sample.processor_seconds);
    report.add(
        Row::alone("build: input per core and second", Unit::Throughput, Spread::of(throughput))
            .aim(Aim::AtLeast(25.0)),
    );
    Ok(())
}

/// `dpack build` in the peers' root, with cache and output folder of the round.
pub(crate) fn build_step(bench: &Context, reference: &str) -> Result<Step> {
    let peers = &bench.peers;
    let host = Target::host().ok_or_else(|| anyhow::anyhow!("there is no runner for this architecture"))?;
    let dpack = std::env::var_os("DPACK_TEST_BINARY")
        .map_or_else(|| dpack_tests::workspace().join("target/release/dpack"), Into::into);
    let dpack = peers.bring(&dpack, "dpack")?;
    let stub = peers.outside(&peers.work("stubs")).join(host.triple);
    std::fs::create_dir_all(&stub)?;
    std::fs::copy(stubs().join(host.triple).join("dpack-runner"), stub.join("dpack-runner"))?;
    let file = peers.work("compose.yml");
    std::fs::write(peers.outside(&file), compose(reference))?;
    let output = peers.work(&format!("dist-{ROUND}"));
    let line = [
        dpack.as_str(),
        "build",
        "--quiet",
        "--platform",
        host.platform,
        "--output",
        output.as_str(),
        file.as_str(),
    ];
    Ok(Step::user(line)
        .environment("DPACK_STUB_DIR", peers.work("stubs"))
        .environment("XDG_CACHE_HOME", peers.work(&format!("cache-{ROUND}"))))
}
