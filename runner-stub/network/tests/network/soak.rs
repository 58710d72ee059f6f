//! Short connections without end, in and out at the same time: 1,000 a second each way. `DPACK_TEST_SECONDS=300` makes it the five
//! minutes after which what leaks has shown; `--nocapture` shows what there was before and after.

use std::fmt;

use crate::support::{Project, SPARE, configs, descriptors, private_memory, seconds, tcp, wait_until};

const DEVICE: &str = "198.51.100.1";
/// What the allocator may keep, in KiB.
const KEPT: usize = 4096;

/// What a leak would be made of.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    /// In KiB.
    memory: usize,
    threads: usize,
    /// TCP sockets of the project's namespace, those in TIME_WAIT included.
    sockets: usize,
}

impl Held {
    fn by(project: &Project) -> Held {
        let pid = project.network.pid();
        let shim = project.shim.as_ref().unwrap().pid();
        let text = std::fs::read_to_string(format!("/proc/{shim}/net/sockstat")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("TCP: ")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let of = |name: &str| -> usize {
            let at = words.iter().position(|word| *word == name).unwrap();
            words[at + 1].parse().unwrap()
        };
        Held {
            descriptors: descriptors(pid),
            memory: private_memory(pid),
            threads: std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(),
            sockets: of("inuse") + of("tw"),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { descriptors, memory, threads, sockets } = self;
        write!(out, "{descriptors} descriptors, {memory} KiB, {threads} threads, {sockets} TCP sockets")
    }
}

#[test]
fn short_connections_without_end_leave_nothing_behind() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let ports = [80, 81, 82, 83].map(tcp);
    let attached = web.attach(&mut client, &[("default", &[])], &ports);
    let _inside = ["80", "81", "82", "83"].map(|port| web.serve("exchange", port));
    let _outside = ["7000", "7001", "7002", "7003"].map(|port| project.serve("exchange", port));
    // A client has no more than 28,000 connections a minute with one address and port: those that ended count, too.
    let inwards: String = attached.ports.iter().map(|port| format!(" {}", port.addresses[0])).collect();
    let outwards: String = (7000..7004).map(|port| format!(" {DEVICE}:{port}")).collect();
    let hurry = |milliseconds: u128| {
        std::thread::scope(|scope| {
            let inwards = scope.spawn(|| project.ask("hurry", &format!("{milliseconds}{inwards}")));
            let outwards = web.ask("hurry", &format!("{milliseconds}{outwards}"));
            (inwards.join().unwrap(), outwards)
        })
    };
    let mut rest = || {
        wait_until("all have ended", || {
            let status = client.status().unwrap();
            status.connections + status.outgoing == 0
        });
        wait_until("descriptors are closed", || descriptors(project.network.pid()) <= SPARE * 2);
        Held::by(&project)
    };
    hurry(300);
    let before = rest();
    let (inwards, outwards) = hurry(seconds(4).as_millis());
    let after = rest();
    println!("{inwards} connections in, {outwards} out\nbefore: {before}\nafter:  {after}");
    assert!(after.descriptors <= before.descriptors + SPARE, "{before}\n{after}");
    assert!(after.memory <= before.memory + KEPT, "{before}\n{after}");
    assert!(after.threads <= before.threads && after.sockets <= before.sockets, "{before}\n{after}");
}

/// The kernel keeps the number of a connection that ended for a minute, lest late segments meet the next one.
#[test]
fn connections_that_have_ended_leave_their_numbers_to_others() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _inside = web.serve("exchange", "80");
    let few = "echo 50000 50999 > /proc/sys/net/ipv4/ip_local_port_range";
    assert!(web.run(&["sh", "-c", few]).0);
    let often = format!("{} 700", attached.ports[0].addresses[0]);
    assert_eq!(project.ask("exchange-often", &often), "true");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(project.ask("exchange-often", &often), "true");
}
