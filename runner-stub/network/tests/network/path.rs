//! The path between the device and the outside: it loses packets, delays them, changes their order, or is narrow; name servers
//! are slow or talk nonsense; and descriptors run out on the way.

use std::process::Command;
use std::time::Instant;

use domain::base::iana::Rtype;
use dpack_network::{NetworkConfig, Port, Protocol};

use crate::support::path::{DELAY, NARROW};
use crate::support::roles::to_hex;
use crate::support::{Project, configs, descriptors, published, tcp, wait_until};

const DEVICE: &str = "198.51.100.1";
const FAR: &str = "192.0.2.1";
const FAR_SIX: &str = "[2001:db8:2::1]";

/// On all addresses of the device.
fn everywhere(port: Port) -> Port {
    Port { host_ip: None, ..port }
}

#[test]
fn packets_that_are_late_lost_or_out_of_order_cost_no_byte_out_or_in() {
    const LENGTH: u32 = 1_000_000;
    const DATAGRAMS: u32 = 300;
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let udp = Port { protocol: Protocol::Udp, ..tcp(81) };
    let ports = [everywhere(tcp(80)), everywhere(udp)];
    let attached = web.attach(&mut client, &[("default", &[])], &ports);
    let path = project.far_by_a_bad_link();
    let _servers = [web.serve("exchange", "80"), web.serve("udp-echo", "81")];
    let _far = [path.far.serve("exchange", "7000"), path.far.serve("udp-echo", "7000")];
    let [stream, datagrams] = [0, 1].map(|at| format!("{DEVICE}:{}", attached.ports[at].addresses[0].port()));

    let begin = Instant::now();
    assert_eq!(path.far.ask("send", &format!("{stream} 1")), "true");
    // There and back for the handshake, and again for the byte.
    assert!(begin.elapsed() >= 4 * DELAY);
    assert_eq!(path.far.ask("send", &format!("{stream} {LENGTH}")), "true", "a published port");
    wait_until("all have ended", || client.status().unwrap().connections == 0);
    assert_eq!(web.ask("send", &format!("{FAR}:7000 {LENGTH}")), "true", "the way out");
    wait_until("all have ended", || client.status().unwrap().outgoing == 0);

    let often = |from: &crate::support::Container, to: &str| {
        let told = from.ask("ask-udp-often", &format!("{to} {DATAGRAMS}"));
        let (right, wrong) = told.split_once(' ').unwrap();
        let right: u32 = right.parse().unwrap();
        // Some are lost, and nothing else happens to them.
        assert!((DATAGRAMS / 2..DATAGRAMS).contains(&right) && wrong == "0", "{told}");
    };
    often(&path.far, &datagrams);
    often(&web, &format!("{FAR}:7000"));

    assert_eq!(project.uplink("connect"), "done");
    assert_eq!(web.ask("send", &format!("{FAR}:7000 {LENGTH}")), "true", "the kernel's way out");
    often(&web, &format!("{FAR}:7000"));
    let (lost, overtaken) = path.counts();
    assert!(lost > 20 && overtaken > 100, "{lost} lost, {overtaken} overtaken");
}

#[test]
fn what_a_narrow_path_carries_is_found_out() {
    let dual = NetworkConfig { ipv6: true, ..configs(&["default"]).remove(0) };
    let (project, mut client) = Project::on_a_device(&[dual]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[everywhere(tcp(80))]);
    let (far, _router) = project.far_by_a_narrow_path();
    let _server = web.serve("exchange", "80");
    let _far = [far.serve("exchange", "7000"), far.serve("udp-echo", "7000")];
    let narrowed = |host: &str| {
        let host = host.trim_matches(['[', ']']);
        project.told_on_device(&["ip", "route", "get", host]).contains(&format!("mtu {NARROW}"))
    };
    let forget = || {
        let script = "ip route flush cache; ip -6 route flush cache";
        assert!(project.on_device(&["sh", "-c", script]).success());
        assert!(web.run(&["sh", "-c", script]).0 && far.run(&["sh", "-c", script]).0);
    };

    for far_end in [FAR, FAR_SIX] {
        assert!(!narrowed(far_end), "nothing is known yet");
        assert_eq!(web.ask("send", &format!("{far_end}:7000 3000000")), "true", "{far_end}");
        assert!(narrowed(far_end), "{far_end}");
    }
    forget();
    let port = published(&attached).port();
    for device in [DEVICE, "[2001:db8::1]"] {
        assert_eq!(far.ask("send", &format!("{device}:{port} 3000000")), "true", "{device}");
    }
    forget();

    for far_end in [FAR, FAR_SIX] {
        // A program that wants to know is told.
        let told = web.ask("measure-path", &format!("{far_end}:7000 1400"));
        assert_eq!(told, format!("told true, {NARROW}, echoed true"), "{far_end}");
        // What others send arrives in fragments as soon as both kernels know.
        let data = "5a".repeat(1400);
        let mut echoes = (0..5).map(|_| web.ask("ask-udp", &format!("{far_end}:7000 {data}")));
        assert!(echoes.any(|echo| echo == data), "{far_end}");
    }

    forget();
    assert_eq!(project.uplink("connect"), "done");
    assert_eq!(web.ask("send", &format!("{FAR}:7000 3000000")), "true");
    assert!(
        web.run(&["ip", "route", "get", FAR]).1.contains(&format!("mtu {NARROW}")),
        "told through both translations"
    );
    forget();
    let told = web.ask("measure-path", &format!("{FAR}:7000 1400"));
    assert_eq!(told, format!("told true, {NARROW}, echoed true"));
}

#[test]
fn a_used_up_descriptor_limit_holds_connections_outwards_back_and_breaks_none() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let gateway = web.attach(&mut client, &[("default", &["web"])], &[]).nameserver.unwrap();
    let _server = project.serve("exchange", "7000");
    let pid = project.network.pid();
    assert_eq!(web.ask("send", &format!("{DEVICE}:7000 100000")), "true");
    wait_until("the first connection has ended", || client.status().unwrap().outgoing == 0);
    let before = descriptors(pid);
    let limit = before + 20;
    let limited = format!("--nofile={limit}");
    assert!(Command::new("prlimit").args(["--pid", &pid.to_string(), &limited]).status().unwrap().success());

    let crowd = web.serve("crowd", &format!("{DEVICE}:7000 100"));
    wait_until("the limit is reached", || descriptors(pid) + 2 >= limit);
    std::thread::scope(|scope| {
        // Who comes now waits, and loses nothing.
        let waiting: Vec<_> = (0..3)
            .map(|number| {
                let web = &web;
                scope.spawn(move || web.ask("send", &format!("{DEVICE}:7000 {}", 300_000 + number)))
            })
            .collect();
        let web_name = to_hex(&crate::project::question("web", Rtype::A));
        assert!(
            web.ask("ask-udp", &format!("{gateway}:53 {web_name}")).len() > web_name.len(),
            "names are known"
        );
        drop(crowd);
        for one in waiting {
            assert_eq!(one.join().unwrap(), "true");
        }
    });
    wait_until("all have ended", || client.status().unwrap().outgoing == 0);
    wait_until("descriptors are closed", || descriptors(pid) <= before + 20);
    assert_eq!(web.ask("send", &format!("{DEVICE}:7000 100000")), "true");
}

#[test]
fn name_servers_that_are_slow_or_fail_or_talk_nonsense_are_survived() {
    const RIGHT: &str = "cb007107";
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let gateway = web.attach(&mut client, &[("default", &["web"])], &[]).nameserver.unwrap();
    let server = |address: &str, manner: &str| project.serve("dns", &format!("{address}:53 {manner}"));
    let _servers = [
        server("127.0.0.51", "garbage"),
        server("127.0.0.52", "slow"),
        server("127.0.0.53", "failing"),
        project.serve("dns", "127.0.0.54:53"),
    ];
    let pid = project.network.pid();
    let before = descriptors(pid);
    let query = to_hex(&crate::project::question("known.example", Rtype::A));
    let ask = |servers: &[u8]| {
        let text: String = servers.iter().map(|last| format!("nameserver 127.0.0.{last}\n")).collect();
        project.set_resolv_conf(&text);
        std::thread::scope(|scope| {
            let asked = ["ask-udp-patiently", "ask-tcp-patiently"]
                .map(|role| scope.spawn(|| web.ask(role, &format!("{gateway}:53 {query}"))));
            // Own names are nobody else's matter.
            assert_eq!(web.resolve("web").len(), 1);
            asked.map(|one| one.join().unwrap())
        })
    };
    for servers in [&[52][..], &[53, 54], &[51, 54], &[50, 54]] {
        for reply in ask(servers) {
            assert!(reply.ends_with(RIGHT), "{servers:?}: {reply}");
        }
    }
    for servers in [&[51][..], &[53], &[50, 51, 53]] {
        for reply in ask(servers) {
            // The last four bits of the fourth byte: SERVFAIL.
            assert_eq!(reply.get(7..8), Some("2"), "{servers:?}: {reply}");
        }
    }
    wait_until("descriptors are closed", || descriptors(pid) <= before);
}

#[test]
fn networks_with_longer_packets_than_the_device_reach_the_outside() {
    let wide = NetworkConfig { mtu: 9000, ..configs(&["default"]).remove(0) };
    let (project, mut client) = Project::on_a_device(&[wide]);
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let far = project.far();
    let _far = [far.serve("exchange", "7000"), far.serve("udp-echo", "7000")];
    let data = "5a".repeat(8000);
    for way in ["relayed", "forwarded"] {
        assert_eq!(web.ask("send", &format!("{FAR}:7000 3000000")), "true", "{way}");
        let mut echoes = (0..5).map(|_| web.ask("ask-udp", &format!("{FAR}:7000 {data}")));
        assert!(echoes.any(|echo| echo == data), "{way}");
        assert_eq!(project.uplink("connect"), "done");
    }
}
