//! The network: published ports beside rootlesskit's builtin driver and pasta, the way out beside pasta and slirp4netns, as root
//! the kernel's beside the relayed one, two containers beside a bare veth. podman's published ports are pasta's by default, and
//! rootlesskit's on its bridges.
//!
//! ```text
//!   remote namespace 198.18.77.2 ── veth ── device 198.18.77.1 ── iperf3, our clients
//!      │                                      ├── app: containers `one` and `two`, each with iperf3 and our server
//!      │                                      ├── rootlesskit: the same
//!      │                                      └── pasta: the same
//!   198.18.79.2 ── veth ── a device of root's own 198.18.79.1 ── app: container `two`
//! ```
//!
//! All have the same clients and servers, links of the same MTU, and every processor of the machine: nobody is pinned. What is
//! measured writes its number into a file: starting a process is no part of it.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Context;
use crate::application::{Application, Project};
use crate::image::{BenchImage, NAME};
use crate::load::LOAD;
use crate::memory;
use crate::race::{Contender, ROUND, Race, Step};
use crate::report::{Aim, Report, Row, Spread, Unit};
use crate::start::TUN;

const REMOTE: &str = "198.18.77.2";
const DEVICE: &str = "198.18.77.1";
/// The same for root's device.
const REMOTE_OF_ROOT: &str = "198.18.79.2";
const DEVICE_OF_ROOT: &str = "198.18.79.1";
/// The far end of a bare veth.
const VETH: &str = "198.18.78.2";
/// Where iperf3 and our server listen, inside containers and on the remote side.
const IPERF: u16 = 5201;
const SERVER: u16 = 5202;
/// The first of two published ports of each contender.
const OURS: u16 = 25_201;
const ROOTLESSKIT: u16 = 25_211;
const PASTA: u16 = 25_221;
/// MTU of usual links, and what slirp4netns and pasta are fastest with.
const USUAL: u32 = 1500;
const WIDE: u32 = 65_520;
/// Idle connections whose memory is told.
const HELD: u64 = 1000;
/// Containers that are set up at once.
const CROWD: usize = 100;

pub(crate) fn run(bench: &Context, report: &mut Report) -> Result<()> {
    let image = BenchImage::host()?;
    let ours = Ours::start(bench, &image)?;
    let measured = Stage::set_up(bench, ours.one).and_then(|stage| {
        let measured = measure(bench, report, &stage, &ours);
        // the application goes before the namespace that it has changed
        let down = stage.as_root(&ours.application, &["down", "-v", "-t", "0"]);
        let down = bench.peers.steps([Step::root(down)]);
        stage.tear_down(bench)?;
        measured.and(down)
    });
    bench.peers.steps([ours.application.step(&ours.data, &["down", "-v", "-t", "0"])])?;
    measured?;
    crowd(bench, report, &image)
}

fn measure(bench: &Context, report: &mut Report, stage: &Stage, ours: &Ours) -> Result<()> {
    published_ports(bench, report, stage)?;
    way_out(bench, report, stage, ours)?;
    between_containers(bench, report, stage, ours)?;
    held(bench, report)
}

/// The application: `one` publishes ports, `two` is on the same network, `wide` on one whose links carry more.
struct Ours {
    application: Application,
    data: String,
    /// First processes.
    one: i64,
    two: i64,
    wide: i64,
    /// That of `one`.
    address: String,
}

impl Ours {
    fn start(bench: &Context, image: &BenchImage) -> Result<Self> {
        let service = format!("image: {NAME}, command: [sleep, \"10000\"], stop_grace_period: 0s");
        let (iperf, server) = (OURS, OURS + 1);
        let compose = format!(
            "name: net\nservices:\n  one: {{{service}, ports: [\"127.0.0.1:{iperf}:{IPERF}\", \
             \"127.0.0.1:{server}:{SERVER}\"]}}\n  two: {{{service}}}\n  wide: {{{service}, networks: [wide]}}\n\
             networks:\n  wide: {{driver_opts: {{com.docker.network.driver.mtu: {WIDE}}}}}\n"
        );
        let application = Application::install_project(bench, image, &Project::with(&compose)?)?;
        let data = bench.peers.work("network-data");
        bench.peers.steps([application.step(&data, &["up", "-d"])])?;
        let init = |service: &str| first_process(bench, &data, service);
        let hosts = file_of(bench, &data, "one", "etc/hosts")?;
        let own = hosts.lines().filter_map(|line| line.split_whitespace().next());
        let address =
            own.filter(|address| address.contains('.')).find(|address| !address.starts_with("127."));
        let address = address.with_context(|| format!("no address in {hosts:?}"))?.to_owned();
        let (one, two, wide) = (init("one")?, init("two")?, init("wide")?);
        Ok(Self { one, two, wide, address, application, data })
    }
}

/// What lies in the folder of a service's only container.
fn file_of(bench: &Context, data: &str, service: &str, name: &str) -> Result<String> {
    let file = format!("{data}/projects/net/containers/net-{service}-1/{name}");
    fs::read_to_string(bench.peers.outside(&file)).with_context(|| format!("failed to read `{file}`"))
}

fn first_process(bench: &Context, data: &str, service: &str) -> Result<i64> {
    let running: Value = serde_json::from_str(&file_of(bench, data, service, "running.json")?)?;
    running["init"]["pid"].as_i64().with_context(|| format!("no process in {running}"))
}

/// Everything besides the application that is there while it is measured.
struct Stage {
    program: String,
    output: String,
    /// The data folder of root's application.
    data_of_root: String,
}

impl Stage {
    fn set_up(bench: &Context, one: i64) -> Result<Self> {
        let work = |name| bench.peers.work(name);
        let (program, output, data_of_root) =
            (work("bench"), work("network-output"), work("network-data-of-root"));
        let stage = Self { program, output, data_of_root };
        let Self { program, output, .. } = &stage;
        let servers = format!("iperf3 -s -p {IPERF} >/dev/null 2>&1 & exec {program} {LOAD} serve {SERVER}");
        let background = |name: &str, line: &str| {
            format!("setsid {line} >{output}/{name}.log 2>&1 </dev/null & echo $! >{output}/{name}.pid")
        };
        let remote = format!(
            "mkdir -p {output}; chmod 777 {output}\n{}\nsleep 0.3\n\
             ip link add bench0 mtu 65520 type veth peer name bench1 mtu 65520 netns $(cat {output}/remote.pid)\n\
             ip addr add {DEVICE}/30 dev bench0; ip link set bench0 up\n\
             nsenter -n -t $(cat {output}/remote.pid) sh -ec 'ip addr add {REMOTE}/30 dev bench1; ip link set bench1 up; \
             ip link set lo up'",
            background("remote", &format!("unshare -n sh -c 'sleep 1; {servers}'")),
        );
        let inside = background("ours", &format!("nsenter -n -t {one} sh -c '{servers}'"));
        let ports = |first: u16| (first, first + 1);
        let (iperf, server) = ports(ROOTLESSKIT);
        let rootlesskit = background(
            "rootlesskit",
            &format!(
                "rootlesskit --state-dir={output}/rk --net=slirp4netns --disable-host-loopback --copy-up=/etc \
                 --port-driver=builtin -p 127.0.0.1:{iperf}:{IPERF}/tcp -p 127.0.0.1:{server}:{SERVER}/tcp sh -c '{servers}'"
            ),
        );
        let (iperf, server) = ports(PASTA);
        let pasta = background(
            "pasta",
            &format!(
                "pasta -f --config-net -t 127.0.0.1/{iperf}:{IPERF} -t 127.0.0.1/{server}:{SERVER} -- sh -c '{servers}'"
            ),
        );
        let (one_end, other_end) = (
            background("veth0", "unshare -n sleep 10000"),
            background("veth1", &format!("unshare -n sh -c 'sleep 1; {servers}'")),
        );
        let veth = format!(
            "{one_end}\n{other_end}\nsleep 0.3\na=$(cat {output}/veth0.pid); b=$(cat {output}/veth1.pid)\n\
             nsenter -n -t $a ip link add v0 type veth peer name v1 netns $b\n\
             nsenter -n -t $a sh -ec 'ip addr add 198.18.78.1/30 dev v0; ip link set v0 up'\n\
             nsenter -n -t $b sh -ec 'ip addr add {VETH}/30 dev v1; ip link set v1 up; ip link set lo up'"
        );
        let of_root = format!(
            "{}\nsleep 0.3\nr=$(cat {output}/root.pid)\n\
             nsenter -n -t $r ip link add bench2 mtu 65520 type veth peer name bench3 mtu 65520 netns $(cat {output}/remote.pid)\n\
             nsenter -n -t $r sh -ec 'ip link set lo up; ip addr add {DEVICE_OF_ROOT}/30 dev bench2; ip link set bench2 up; \
             echo 0 >/proc/sys/net/ipv4/ip_forward'\n\
             nsenter -n -t $(cat {output}/remote.pid) sh -ec 'ip addr add {REMOTE_OF_ROOT}/30 dev bench3; ip link set bench3 up'",
            background("root", "unshare -n sleep 10000")
        );
        bench.peers.steps([
            Step::root(TUN),
            Step::root(remote),
            Step::root(of_root),
            Step::root(inside),
            Step::root(veth),
            Step::script(rootlesskit),
            Step::script(pasta),
            Step::root("sleep 3"),
        ])?;
        Ok(stage)
    }

    /// A line of root's own device.
    fn as_root(&self, application: &Application, arguments: &[&str]) -> String {
        let device = format!("nsenter -n -t $(cat {}/root.pid)", self.output);
        format!(
            "{device} env -u XDG_RUNTIME_DIR HOME=/root {}",
            application.line(&self.data_of_root, arguments)
        )
    }

    /// Without asking: what pasta runs is the first process of a PID namespace, which other signals do not reach.
    fn tear_down(&self, bench: &Context) -> Result<()> {
        let script = format!(
            "for file in {0}/*.pid; do kill -9 -$(cat $file) 2>/dev/null || kill -9 $(cat $file) 2>/dev/null || true; done\n\
             ip link delete bench0 2>/dev/null || true",
            self.output
        );
        bench.peers.steps([Step::root(script)])
    }

    /// A race of scripts that print what they measured: the last word of each, by contender and round.
    fn race(&self, bench: &Context, rounds: u32, contenders: &[(&str, Step)]) -> Result<Vec<Vec<String>>> {
        let race = contenders.iter().map(|(_, step)| Contender::new(step.clone()).before(Step::root(TUN)));
        bench.peers.run(&Race { rounds, contenders: race.collect() })?;
        let told = |name: &str, round: u32| -> Result<String> {
            let file = bench.peers.outside(&format!("{}/{name}-{round}", self.output));
            fs::read_to_string(&file).with_context(|| format!("`{name}` told nothing"))
        };
        contenders.iter().map(|(name, _)| (0..rounds).map(|round| told(name, round)).collect()).collect()
    }

    /// A line whose output is kept for [`Stage::race`].
    fn keep(&self, name: &str, line: &str) -> String {
        format!("{line} >{}/{name}-{ROUND}", self.output)
    }
}

/// iperf3's client: bits a second of all streams, as JSON.
fn iperf(address: &str, port: u16, streams: u32) -> String {
    format!("iperf3 -c {address} -p {port} -t 2 -P {streams} -J")
}

/// Bytes a second that iperf3 told.
fn speed(text: &String) -> Result<f64> {
    let told: Value = serde_json::from_str(text).with_context(|| format!("iperf3 said {text:?}"))?;
    let bits = told["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 measured nothing: {}", told["error"]))? / 8.0)
}

fn numbers(texts: &[String]) -> Result<Vec<f64>> {
    texts.iter().map(|text| Ok(text.split_whitespace().next().unwrap_or_default().parse()?)).collect()
}

fn published_ports(bench: &Context, report: &mut Report, stage: &Stage) -> Result<()> {
    let rounds = bench.options.rounds(5);
    let contenders = [("ours", OURS), ("rootlesskit", ROOTLESSKIT), ("pasta", PASTA)];
    let race = |line: &dyn Fn(u16) -> String| {
        let steps = contenders.map(|(name, port)| (name, Step::script(stage.keep(name, &line(port)))));
        stage.race(bench, rounds, &steps)
    };
    for streams in [1, 8] {
        let told = race(&|port| iperf("127.0.0.1", port, streams))?;
        let speeds =
            told.iter().map(|texts| texts.iter().map(speed).collect()).collect::<Result<Vec<Vec<f64>>>>()?;
        let what = format!("published port, {streams} streams");
        let row = Row::rates(&what, Unit::Speed, &speeds[0], "rootlesskit builtin", &speeds[1]);
        report.add(row.aim(Aim::AtLeast(1.0)));
        report.add(Row::rates(&what, Unit::Speed, &speeds[0], "pasta, as podman", &speeds[2]));
    }
    let load = |what: &str, port: u16, count: u32| {
        format!("{} {LOAD} {what} 127.0.0.1:{} {count}", stage.program, port + 1)
    };
    let told = race(&|port| load("connect", port, 2000))?;
    let rates = told.iter().map(|texts| numbers(texts)).collect::<Result<Vec<_>>>()?;
    let what = "published port, connections a second";
    report.add(
        Row::rates(what, Unit::Rate, &rates[0], "rootlesskit builtin", &rates[1]).aim(Aim::AtLeast(1.0)),
    );
    report.add(Row::rates(what, Unit::Rate, &rates[0], "pasta, as podman", &rates[2]));
    let told = race(&|port| load("latency", port, 5000))?;
    for (name, column) in [("p50", 0), ("p99", 1)] {
        let at = |text: &String| -> Result<f64> {
            Ok(text.split_whitespace().nth(column).context("no latency")?.parse()?)
        };
        let times =
            told.iter().map(|texts| texts.iter().map(at).collect()).collect::<Result<Vec<Vec<f64>>>>()?;
        let what = format!("published port, request {name}");
        report.add(Row::rates(&what, Unit::Seconds, &times[0], "rootlesskit builtin", &times[1]));
        report.add(Row::rates(&what, Unit::Seconds, &times[0], "pasta, as podman", &times[2]));
    }
    Ok(())
}

fn way_out(bench: &Context, report: &mut Report, stage: &Stage, ours: &Ours) -> Result<()> {
    let rounds = bench.options.rounds(5);
    bench.peers.steps([Step::root(stage.as_root(&ours.application, &["up", "-d", "two"]))])?;
    let of_root = first_process(bench, &stage.data_of_root, "two")?;
    for (mtu, streams) in [(USUAL, 1), (USUAL, 8), (WIDE, 1), (WIDE, 8)] {
        let line = iperf(REMOTE, IPERF, streams);
        let from = if mtu == USUAL { ours.two } else { ours.wide };
        let ours = Step::root(stage.keep("ours", &format!("nsenter -n -t {from} {line}")));
        let pasta = format!("pasta -q --config-net -m {mtu} -- {line}");
        let slirp = format!("rootlesskit --net=slirp4netns --mtu={mtu} --copy-up=/etc {line}");
        let mut contenders = vec![
            ("ours", ours),
            ("pasta", Step::script(stage.keep("pasta", &pasta))),
            ("slirp4netns", Step::script(stage.keep("slirp4netns", &slirp))),
        ];
        // its own link has the usual MTU
        if mtu == USUAL {
            let line = format!("nsenter -n -t {of_root} {}", iperf(REMOTE_OF_ROOT, IPERF, streams));
            contenders.push(("kernel", Step::root(stage.keep("kernel", &line))));
        }
        let told = stage.race(bench, rounds, &contenders)?;
        let speeds =
            told.iter().map(|texts| texts.iter().map(speed).collect()).collect::<Result<Vec<Vec<f64>>>>()?;
        for (name, theirs) in [("pasta", &speeds[1]), ("slirp4netns", &speeds[2])] {
            let what = format!("way out, MTU {mtu}, {streams} streams");
            report.add(Row::rates(&what, Unit::Speed, &speeds[0], name, theirs).aim(Aim::AtLeast(1.5)));
        }
        if let Some(kernel) = speeds.get(3) {
            let what = format!("way out as root, MTU {mtu}, {streams} streams");
            report.add(Row::rates(&what, Unit::Speed, kernel, "relayed", &speeds[0]));
        }
    }
    Ok(())
}

fn between_containers(bench: &Context, report: &mut Report, stage: &Stage, ours: &Ours) -> Result<()> {
    let veth = fs::read_to_string(bench.peers.outside(&format!("{}/veth0.pid", stage.output)))?;
    let client =
        |process: &str, address: &str| format!("nsenter -n -t {process} {}", iperf(address, IPERF, 1));
    let to_one = client(&ours.two.to_string(), &ours.address);
    let bare = client(veth.trim(), VETH);
    let told = stage.race(
        bench,
        bench.options.rounds(5),
        &[("ours", Step::root(stage.keep("ours", &to_one))), ("veth", Step::root(stage.keep("veth", &bare)))],
    )?;
    let speeds =
        told.iter().map(|texts| texts.iter().map(speed).collect()).collect::<Result<Vec<Vec<f64>>>>()?;
    let row = Row::rates("container to container", Unit::Speed, &speeds[0], "a bare veth", &speeds[1]);
    report.add(row.aim(Aim::AtLeast(0.95)));
    Ok(())
}

/// What idle connections through a published port cost the network process.
fn held(bench: &Context, report: &mut Report) -> Result<()> {
    let network = || -> Result<u64> {
        memory::roles(&bench.peers.work("network-data"))?.remove("network").context("no network process")
    };
    let before = network()?;
    let (program, server) = (bench.peers.work("bench"), OURS + 1);
    let pid = bench.peers.work("held.pid");
    let hold = format!(
        "rm -f /tmp/dpack-bench-held; setsid {program} {LOAD} hold 127.0.0.1:{server} {HELD} >/dev/null 2>&1 </dev/null &\n\
         echo $! >{pid}\nfor i in $(seq 100); do [ -e /tmp/dpack-bench-held ] && exit 0; sleep 0.1; done; exit 1"
    );
    bench.peers.steps([Step::script(hold)])?;
    let after = network();
    bench.peers.steps([Step::script(format!("kill $(cat {pid}); rm -f /tmp/dpack-bench-held"))])?;
    report.add(Row::size(&format!("memory of {HELD} idle connections"), after?.saturating_sub(before)));
    Ok(())
}

/// A network with many containers: the whole of `up` and `down`.
fn crowd(bench: &Context, report: &mut Report, image: &BenchImage) -> Result<()> {
    let service = format!("image: {NAME}, command: [sleep, \"1000\"], stop_grace_period: 0s");
    let compose = format!("name: crowd\nservices:\n  many: {{{service}, deploy: {{replicas: {CROWD}}}}}\n");
    let application = Application::install_project(bench, image, &Project::with(&compose)?)?;
    let data = bench.peers.work("crowd-data");
    let (up, down) = (application.step(&data, &["up", "-d"]), application.step(&data, &["down", "-t", "0"]));
    bench.peers.steps([up.clone(), down.clone()])?;
    let contenders = vec![Contender::new(up.clone()).after(down.clone()), Contender::new(down).before(up)];
    let samples = bench.peers.run(&Race { rounds: bench.options.rounds(3), contenders })?.samples;
    for (verb, samples) in ["set up", "tear down"].into_iter().zip(samples) {
        let what = format!("{verb} a network with {CROWD} containers");
        report.add(Row::alone(&what, Unit::Seconds, Spread::seconds(&samples)));
    }
    Ok(())
}
