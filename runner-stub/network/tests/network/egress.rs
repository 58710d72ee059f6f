//! The way out, on a device that is a network namespace of the test: what is reached, and what is not.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};

use crate::support::roles::{noise_sum, to_hex};
use crate::support::{Container, Project, address, configs, descriptors, wait_until};
use dpack_network::{HOST_GATEWAY, NetworkConfig};

const DEVICE: &str = "198.51.100.1";

#[test]
fn every_byte_is_right_both_ways() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("exchange", "7000");
    let before = descriptors(project.network.pid());
    for length in [0, 1, 70_000, 60 << 20] {
        assert_eq!(web.ask("send", &format!("{DEVICE}:7000 {length}")), "true", "{length}");
    }
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(web.ask("send", &format!("{DEVICE}:7000 {}", 4 << 20)), "true"));
        }
    });
    wait_until("all connections are gone", || client.status().unwrap().outgoing == 0);
    // Spare pipes are kept.
    assert!(descriptors(project.network.pid()) <= before + 40);
}

#[test]
fn a_reset_at_any_byte_of_the_other_side_is_a_reset_for_the_container() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _cuts = project.serve("cut", &format!("{DEVICE}:7000"));
    assert_eq!(web.ask("take", &format!("{DEVICE}:7000")), "true");
    wait_until("all connections are gone", || client.status().unwrap().outgoing == 0);
}

#[test]
fn either_side_of_a_connection_outwards_may_close_first() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("close-first", "7000");
    // 3,000,001 bytes go after the server has closed its side.
    let sum = noise_sum(3_000_001, 1);
    assert_eq!(web.ask("send-after-end", &format!("{DEVICE}:7000 3000001")), format!("3000001 {sum}"));
}

#[test]
fn a_path_that_loses_packets_loses_no_bytes_on_the_way_out() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("exchange", "7000");
    web.lose_segments();
    assert_eq!(web.ask("send", &format!("{DEVICE}:7000 {}", 20 << 20)), "true");
    assert!(web.lost() > 0);
    wait_until("all connections are gone", || client.status().unwrap().outgoing == 0);
}

#[test]
fn a_reset_comes_through_although_segments_before_it_were_lost() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _cuts = project.serve("cut", &format!("{DEVICE}:7000"));
    web.lose_segments();
    for _ in 0..2 {
        assert_eq!(web.ask("take", &format!("{DEVICE}:7000")), "true");
    }
    assert!(web.lost() > 0);
    wait_until("all connections are gone", || client.status().unwrap().outgoing == 0);
}

#[test]
fn own_names_are_known_while_every_other_name_server_is_dead() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let gateway = web.attach(&mut client, &[("default", &["web"])], &[]).nameserver.unwrap();
    // Nobody answers at these: no host of that link has them.
    project.set_resolv_conf("nameserver 192.0.2.53\nnameserver 192.0.2.54\n");
    let foreign = to_hex(&crate::project::question("foreign.example", domain::base::iana::Rtype::A));
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| web.ask("ask-udp", &format!("{gateway}:53 {foreign}")));
        }
        for _ in 0..10 {
            assert_eq!(web.resolve("web").len(), 1);
        }
    });
    // Whoever has time to wait is told that it failed, and does not wait for ever.
    let reply = web.ask("ask-tcp-patiently", &format!("{gateway}:53 {foreign}"));
    assert_eq!(reply.get(6..8), Some("82"), "SERVFAIL: {reply}");
    let before = descriptors(project.network.pid());
    project.set_resolv_conf("");
    assert!(web.resolve("foreign.example").is_empty());
    assert!(before < 200, "{before} descriptors");
}

#[test]
fn a_container_is_told_what_the_device_is_told() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("listen", &format!("{DEVICE}:7000"));

    let connect = |address: &str| web.ask("connect", address);
    assert_eq!(connect(&format!("{DEVICE}:7000")), "connected");
    assert_eq!(connect(&format!("{DEVICE}:7001")), ErrorKind::ConnectionRefused.to_string());
    assert_eq!(connect("203.0.113.1:80"), ErrorKind::NetworkUnreachable.to_string());
    // Nobody on the link answers no question about who has an address.
    assert_ne!(connect("192.0.2.7:80"), "connected");
}

#[test]
fn datagrams_and_pings_come_back() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("udp-echo", "7000");
    for length in [1, 1472, 1473, 20_000, 60_000] {
        let data: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let data = to_hex(&data);
        assert!(web.ask("ask-udp", &format!("{DEVICE}:7000 {data}")) == data, "{length}");
    }
    // The refusal comes back at once, as an error of the socket.
    let before = std::time::Instant::now();
    assert_eq!(web.ask("ask-udp", &format!("{DEVICE}:7001 00")), "none");
    assert!(before.elapsed() < std::time::Duration::from_secs(3));

    assert_eq!(web.ask("ping", &format!("{DEVICE} 616263")), "0007616263");
    let gateway = client.status().unwrap().networks[0].gateways[0].addr();
    assert_eq!(web.ask("ping", &format!("{gateway} 616263")), "0007616263");
    assert_eq!(web.ask("ping", "203.0.113.1 616263"), "none");
}

#[test]
fn the_loopback_of_the_device_is_out_of_reach() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _own = project.serve("listen", "127.0.0.1:7000");
    let _all = project.serve("listen", "0.0.0.0:7001");
    let gateway = client.status().unwrap().networks[0].gateways[0].addr();
    for address in
        ["127.0.0.1", "127.0.0.2", "0.0.0.0", DEVICE, &gateway.to_string(), &HOST_GATEWAY.to_string()]
    {
        assert_ne!(web.ask("connect", &format!("{address}:7000")), "connected", "{address}");
    }
    assert_eq!(web.ask("connect", &format!("{HOST_GATEWAY}:7001")), "connected");
    assert_ne!(web.ask("connect", &format!("{gateway}:7001")), "connected");
    assert_ne!(web.ask("connect", "127.0.0.1:7001"), "connected");
}

#[test]
fn networks_stay_apart_and_internal_ones_have_no_way_out() {
    let internal = NetworkConfig { key: "inside".into(), internal: true, ..NetworkConfig::default() };
    let networks = [configs(&["a", "b"]), vec![internal]].concat();
    let (project, mut client) = Project::on_a_device(&networks);
    let (one, other, inner) =
        (&project.container("one"), &project.container("other"), &project.container("inner"));
    one.attach(&mut client, &[("a", &[])], &[]);
    let at_other = other.attach(&mut client, &[("b", &[])], &[]);
    let at_inner = inner.attach(&mut client, &[("inside", &[])], &[]);
    let _server = project.serve("listen", "0.0.0.0:7000");
    let _echo = project.serve("udp-echo", "7000");
    let _service = other.serve("exchange", "7000");
    let _inner = inner.serve("exchange", "7000");

    assert_eq!(one.ask("connect", &format!("{DEVICE}:7000")), "connected");
    let (other, inside) = (address(&at_other), address(&at_inner));
    let tried =
        [other.into(), inside.into(), at_other.interfaces[0].gateways[0], at_inner.interfaces[0].gateways[0]];
    std::thread::scope(|scope| {
        for address in tried {
            scope.spawn(move || assert_silent(one, address));
        }
        for address in [DEVICE.parse().unwrap(), HOST_GATEWAY.into(), other.into()] {
            scope.spawn(move || assert_silent(inner, address));
        }
    });

    // What is configured anew holds at once; the default route comes with the next attachment.
    client.configure(&configs(&["a", "b", "inside"])).unwrap();
    inner.attach(&mut client, &[("inside", &[])], &[]);
    assert_eq!(inner.ask("connect", &format!("{DEVICE}:7000")), "connected");
    client.configure(&networks).unwrap();
    assert_ne!(inner.ask("connect", &format!("{DEVICE}:7000")), "connected");
}

fn assert_silent(container: &Container, address: IpAddr) {
    assert_ne!(container.ask("connect", &format!("{address}:7000")), "connected", "{address}");
    assert_eq!(container.ask("ask-udp", &format!("{address}:7000 00")), "none", "{address}");
    assert_eq!(container.ask("ping", &format!("{address} 00")), "none", "{address}");
}

#[test]
fn a_new_network_process_opens_the_way_out_again() {
    let (mut project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("exchange", "7000");
    assert_eq!(web.ask("send", &format!("{DEVICE}:7000 100000")), "true");
    let mut client = project.replace_network_process();
    client.configure(&configs(&["default"])).unwrap();
    assert_eq!(web.ask("send", &format!("{DEVICE}:7000 100000")), "true");
}

#[test]
fn foreign_names_are_asked_of_the_device_or_of_those_named() {
    let internal = NetworkConfig { key: "inside".into(), internal: true, ..NetworkConfig::default() };
    let (project, mut client) = Project::on_a_device(&[configs(&["default"]), vec![internal]].concat());
    let (web, inner, server) =
        (project.container("web"), project.container("inner"), project.container("server"));
    web.attach(&mut client, &[("default", &[])], &[]);
    inner.attach(&mut client, &[("inside", &[])], &[]);
    let at_server = server.attach(&mut client, &[("default", &[])], &[]);
    let gateway = at_server.nameserver.unwrap();
    let known = [Ipv4Addr::new(203, 0, 113, 7)];
    let query = to_hex(&crate::project::question("known.example", domain::base::iana::Rtype::A));

    // Nobody to ask.
    assert!(web.resolve("known.example").is_empty());
    // The first does not answer.
    let _dns = project.serve("dns", "127.0.0.53:53");
    project.set_resolv_conf("nameserver 127.0.0.54\nnameserver 127.0.0.53\n");
    assert_eq!(web.resolve("known.example"), known);
    assert!(web.resolve("unknown.example").is_empty());
    assert!(web.ask("ask-tcp", &format!("{gateway}:53 {query}")).contains("cb007107"));
    assert!(inner.resolve("known.example").is_empty());
    assert_eq!(web.resolve("host.docker.internal"), [HOST_GATEWAY]);

    // A container of the same network; it is reached where it is, not outside.
    project.set_resolv_conf("");
    let _inside = server.serve("dns", "0.0.0.0:53");
    let mut request = web.request(&[("default", &[])], &[]);
    request.dns = vec![address(&at_server).into()];
    client.attach(&request, web.namespace()).unwrap();
    assert_eq!(web.resolve("known.example"), known);
}

#[test]
fn the_way_out_is_there_in_ipv6_too() {
    let dual = NetworkConfig { key: "dual".into(), ipv6: true, ..NetworkConfig::default() };
    let inside = NetworkConfig { key: "inside".into(), internal: true, ..dual.clone() };
    let (project, mut client) = Project::on_a_device(&[configs(&["default"]), vec![dual, inside]].concat());
    let (web, inner, four) =
        (project.container("web"), project.container("inner"), project.container("four"));
    web.attach(&mut client, &[("dual", &[])], &[]);
    inner.attach(&mut client, &[("inside", &[])], &[]);
    four.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("exchange", "7000");
    let _echo = project.serve("udp-echo", "7000");
    let _loopback = project.serve("listen", "[::1]:7002");
    const SIX: &str = "2001:db8::1";
    for length in [0, 1, 70_000, 20 << 20] {
        assert_eq!(web.ask("send", &format!("[{SIX}]:7000 {length}")), "true", "{length}");
    }
    for length in [1, 1452, 1453, 20_000, 60_000] {
        let data: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let data = to_hex(&data);
        assert!(web.ask("ask-udp", &format!("[{SIX}]:7000 {data}")) == data, "{length}");
    }
    assert_eq!(web.ask("ping", &format!("{SIX} 616263")), "0007616263");
    let gateway = client.status().unwrap().networks[1].gateways[1].addr();
    assert_eq!(web.ask("ping", &format!("{gateway} 616263")), "0007616263");

    let connect = |address: &str| web.ask("connect", address);
    assert_eq!(connect(&format!("[{SIX}]:7001")), ErrorKind::ConnectionRefused.to_string());
    assert_eq!(connect("[2001:db8:1::1]:80"), ErrorKind::NetworkUnreachable.to_string());
    for address in ["::1", "::ffff:127.0.0.1", "fe80::1", &gateway.to_string()] {
        assert_ne!(connect(&format!("[{address}]:7002")), "connected", "{address}");
    }
    for stranger in [&inner, &four] {
        assert_ne!(stranger.ask("connect", &format!("[{SIX}]:7000")), "connected");
        assert_eq!(stranger.ask("ask-udp", &format!("[{SIX}]:7000 00")), "none");
        assert_eq!(stranger.ask("ping", &format!("{SIX} 00")), "none");
    }
    // A route of its own making does not lead out of a network without a way out.
    let gateway = client.status().unwrap().networks[2].gateways[1].addr();
    assert!(inner.run(&["ip", "route", "add", "default", "via", &gateway.to_string()]).0);
    assert_ne!(inner.ask("connect", &format!("[{SIX}]:7000")), "connected");
    wait_until("all connections are gone", || client.status().unwrap().outgoing < 40);
}
