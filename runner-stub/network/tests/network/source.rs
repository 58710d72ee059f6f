//! What source address a container sees: that of a client beyond the device, where its answers find their way back.

use std::net::{IpAddr, SocketAddr};

use crate::support::roles::to_hex;
use crate::support::{Container, Project, address, configs, descriptors, tcp, wait_until};
use dpack_network::{Attach, Attached, Membership, NetworkConfig, Pool, Port, Protocol};

const DEVICE: &str = "198.51.100.1";
const DEVICE_IPV6: &str = "[2001:db8::1]";
const FAR: &str = "192.0.2.1";

/// On all addresses of the device.
fn everywhere(target: u16) -> Port {
    Port { host_ip: None, ..tcp(target) }
}

fn udp(target: u16) -> Port {
    Port { protocol: Protocol::Udp, ..everywhere(target) }
}

fn both(key: &str) -> NetworkConfig {
    NetworkConfig { key: key.into(), ipv6: true, ..NetworkConfig::default() }
}

fn internal(key: &str) -> NetworkConfig {
    NetworkConfig { key: key.into(), internal: true, ..NetworkConfig::default() }
}

/// Where a published port is on the device.
fn at(device: &str, attached: &Attached, number: usize) -> String {
    format!("{device}:{}", attached.ports[number].addresses[0].port())
}

/// What the role `tell` told, and the asker's own address and port.
fn parse(reply: &str) -> (SocketAddr, SocketAddr) {
    let (told, own) = reply.split_once(' ').unwrap();
    (told.parse().unwrap(), own.parse().unwrap())
}

/// With IPv6 besides: 2001:db8::2.
fn far(project: &Project) -> Container {
    let far = project.far();
    let (done, said) = far.run(&["ip", "addr", "add", "2001:db8::2/64", "dev", "out1", "nodad"]);
    assert!(done, "{said}");
    far
}

/// The client's own address and port are seen, by TCP and UDP, on the first two ports.
fn assert_kept(far: &Container, attached: &Attached, device: &str) {
    for (number, protocol) in ["tcp", "udp"].into_iter().enumerate() {
        let port = at(device, attached, number);
        let (told, own) = parse(&far.ask("be-told", &format!("{protocol} {port}")));
        assert_eq!(told, own, "{protocol} {device}");
    }
}

/// The container sees one of its own addresses.
fn assert_not_kept(asked: impl Fn(&str, &str) -> String, attached: &Attached, device: &str) {
    let own: Vec<IpAddr> = attached.addresses().collect();
    for (number, protocol) in ["tcp", "udp"].into_iter().enumerate() {
        let (told, _) = parse(&asked("be-told", &format!("{protocol} {}", at(device, attached, number))));
        assert!(own.contains(&told.ip()), "{protocol} {device}: {told}");
    }
}

#[test]
fn a_client_from_outside_is_seen_and_one_on_the_device_is_not() {
    let networks = [both("default")];
    let (mut project, mut client) = Project::on_a_device(&networks);
    let mut web = project.container("web");
    let ports = [everywhere(80), udp(80)];
    let attached = web.attach(&mut client, &[("default", &[])], &ports);
    let service = web.serve("tell", "[::]:80");
    let far = far(&project);
    for device in [DEVICE, DEVICE_IPV6] {
        assert_kept(&far, &attached, device);
    }
    for device in [DEVICE, DEVICE_IPV6, "127.0.0.1", "[::1]"] {
        assert_not_kept(|role, argument| project.ask(role, argument), &attached, device);
    }
    // What a container answers by UDP leaves once.
    assert_eq!(client.status().unwrap().outgoing, 0);
    // Nobody listens: a reset.
    drop(service);
    assert_eq!(far.ask("reset-by", &at(DEVICE, &attached, 0)), "reset");

    // Another run of the container, and another network process.
    web.restart(&project);
    let attached = web.attach(&mut client, &[("default", &[])], &ports);
    let _service = web.serve("tell", "[::]:80");
    assert_kept(&far, &attached, DEVICE);
    let mut client = project.replace_network_process();
    client.configure(&networks).unwrap();
    let attached = web.attach(&mut client, &[("default", &[])], &ports);
    for device in [DEVICE, DEVICE_IPV6] {
        assert_kept(&far, &attached, device);
    }
}

#[test]
fn who_would_get_no_answer_under_its_own_address_is_served_without() {
    let networks = [
        configs(&["default"]).remove(0),
        internal("inside"),
        // Where the client lives, too; nobody is on it.
        NetworkConfig {
            key: "namesake".into(),
            pools: vec![Pool {
                subnet: "203.0.113.0/24".parse().unwrap(),
                range: None,
                gateway: "203.0.113.9".parse().unwrap(),
            }],
            ..NetworkConfig::default()
        },
    ];
    let (project, mut client) = Project::on_a_device(&networks);
    let far = far(&project);
    let second = |device: &str, other: &str| {
        assert!(project.on_device(&["ip", "addr", "add", device, "dev", "out0"]).success());
        let (done, said) = far.run(&["ip", "addr", "add", other, "dev", "out1"]);
        assert!(done, "{said}");
    };
    second("203.0.113.1/24", "203.0.113.2/24");
    second("169.254.7.1/16", "169.254.7.2/16");
    let ports = [everywhere(80), udp(80)];
    let [web, inner, tunnelled] = ["web", "inner", "tunnelled"].map(|name| project.container(name));
    let at_web = web.attach(&mut client, &[("default", &[])], &ports);
    let at_inner = inner.attach(&mut client, &[("inside", &[])], &ports);
    let at_tunnelled = tunnelled.attach(&mut client, &[("default", &[])], &ports);
    let _services = [&web, &inner, &tunnelled].map(|one| one.serve("tell", "[::]:80"));

    let asked = |role: &str, argument: &str| far.ask(role, argument);
    assert_kept(&far, &at_web, DEVICE);
    for device in ["203.0.113.1", "169.254.7.1", DEVICE_IPV6] {
        assert_not_kept(asked, &at_web, device);
    }
    assert_not_kept(asked, &at_inner, DEVICE);
    // A container that sends what goes outside elsewhere.
    assert_kept(&far, &at_tunnelled, DEVICE);
    let tunnel =
        "ip link add tunnel type veth peer name end && ip link set end up && ip link set tunnel up && ip addr add 10.8.0.2/24 dev tunnel &&
        ip route replace default via 10.8.0.1";
    let (done, said) = tunnelled.run(&["sh", "-c", tunnel]);
    assert!(done, "{said}");
    assert_not_kept(asked, &at_tunnelled, DEVICE);
}

#[test]
fn of_several_networks_the_one_with_the_default_route_is_dialled() {
    let networks = [internal("a"), both("b"), both("c")];
    let (project, mut client) = Project::on_a_device(&networks);
    let web = project.container("web");
    let place = |network: &str, gateway_priority| Membership {
        network: network.into(),
        gateway_priority,
        ..Membership::default()
    };
    let attach = Attach {
        container: "web".into(),
        networks: vec![place("a", 0), place("b", 0), place("c", 1)],
        ports: vec![everywhere(80), udp(80)],
        ..Attach::default()
    };
    let attached = client.attach(&attach, web.namespace()).unwrap();
    let far = far(&project);
    for (device, is_ipv4) in [(DEVICE, true), (DEVICE_IPV6, false)] {
        let third = attached.interfaces[2].ips().find(|ip| ip.is_ipv4() == is_ipv4).unwrap();
        let _service = web.serve("tell", &SocketAddr::new(third, 80).to_string());
        assert_kept(&far, &attached, device);
        // The same for who is on the device.
        assert_not_kept(|role, argument| project.ask(role, argument), &attached, device);
    }
}

#[test]
fn with_an_uplink_answers_come_back_all_the_same_and_the_rest_goes_out_by_it() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let ports = [everywhere(80), udp(80), everywhere(81), udp(82), everywhere(83)];
    let attached = web.attach(&mut client, &[("default", &[])], &ports);
    let _services = [web.serve("tell", "[::]:80"), web.serve("exchange", "81"), web.serve("udp-echo", "82")];
    let far = far(&project);
    let _far = [far.serve("hold", "7001"), far.serve("tell", "[::]:7002")];
    for action in ["connect", "disconnect", "connect"] {
        assert_eq!(project.uplink(action), "done");
        assert_kept(&far, &attached, DEVICE);
        assert_eq!(far.ask("send", &format!("{} {}", at(DEVICE, &attached, 2), 20 << 20)), "true");
        for length in [1, 1472, 1473, 20_000] {
            let data = to_hex(&vec![7; length]);
            assert!(far.ask("ask-udp", &format!("{} {data}", at(DEVICE, &attached, 3))) == data, "{length}");
        }
        // Told again, nothing changes.
        assert_eq!(web.attach(&mut client, &[("default", &[])], &ports), attached);
        assert_kept(&far, &attached, DEVICE);
    }
    let held = web.serve("stay", &format!("{FAR}:7001"));
    wait_until("what came in has ended", || client.status().unwrap().outgoing == 0);
    drop(held);
    // From a published port the way out is relayed.
    assert_eq!(web.ask("connect-from", &format!("83 {FAR}:7001")), format!("{FAR}:7001"));
    let (told, _) = parse(&web.ask("be-told", &format!("tcp {FAR}:7002")));
    assert_eq!(told.ip(), DEVICE.parse::<IpAddr>().unwrap());
}

#[test]
fn from_a_published_port_a_container_reaches_no_more_than_from_others() {
    let networks = [configs(&["a", "b"]), vec![internal("inside")]].concat();
    let (project, mut client) = Project::on_a_device(&networks);
    let [one, other, inner] = ["one", "other", "inner"].map(|name| project.container(name));
    one.attach(&mut client, &[("a", &[])], &[everywhere(80)]);
    let at_other = other.attach(&mut client, &[("b", &[])], &[]);
    inner.attach(&mut client, &[("inside", &[])], &[everywhere(80)]);
    let far = far(&project);
    let _services = [other.serve("exchange", "7000"), far.serve("exchange", "7000")];
    let _device = [project.serve("listen", "127.0.0.1:7000"), project.serve("listen", "0.0.0.0:7001")];
    let far_service = format!("{FAR}:7000");
    let foreign = [address(&at_other).to_string(), at_other.interfaces[0].gateways[0].to_string()];
    let never = foreign.iter().map(String::as_str).chain(["127.0.0.1", "0.0.0.0"]);
    let never: Vec<String> =
        never.flat_map(|ip| [7000, 7001, 53].map(|port| format!("{ip}:{port}"))).collect();
    // The device has such an address, too: what is relayed would get there.
    assert!(project.on_device(&["ip", "addr", "add", &foreign[0], "dev", "out0"]).success());
    let reached = |container: &Container| {
        container.ask("connect-from", &format!("80 {far_service} {DEVICE}:7001 {}", never.join(" ")))
    };
    let sweep = |expected: &str| {
        std::thread::scope(|scope| {
            let inner = scope.spawn(|| reached(&inner));
            assert_eq!(reached(&one), expected);
            assert_eq!(inner.join().unwrap(), "");
        });
    };
    let outside = format!("{far_service} {DEVICE}:7001");
    sweep(&outside);
    assert_eq!(project.uplink("connect"), "done");
    sweep(&outside);
    // Its network has no way out any more.
    client.configure(&[internal("a"), configs(&["b"]).remove(0), internal("inside")]).unwrap();
    sweep("");
}

#[test]
fn a_network_that_has_become_internal_serves_without_names() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[everywhere(80), udp(80)]);
    let _service = web.serve("tell", "[::]:80");
    let far = far(&project);
    assert_kept(&far, &attached, DEVICE);
    client.configure(&[internal("default")]).unwrap();
    assert_not_kept(|role, argument| far.ask(role, argument), &attached, DEVICE);
}

#[test]
fn a_path_that_loses_packets_loses_no_bytes_and_no_reset_of_a_client_from_outside() {
    let (project, mut client) = Project::on_a_device(&[both("default")]);
    let [web, log] = ["web", "log"].map(|name| project.container(name));
    let attached = web.attach(&mut client, &[("default", &[])], &[everywhere(80), everywhere(81)]);
    let at_log = log.attach(&mut client, &[("default", &[])], &[everywhere(80)]);
    let _services =
        [web.serve("exchange", "80"), web.serve("cut", "[::]:81"), log.serve("greeting-witness", "80")];
    let far = far(&project);
    web.lose_segments();
    // A reset comes after data that has never come.
    log.lose("meta l4proto tcp meta length > 200");
    for device in [DEVICE, DEVICE_IPV6] {
        for length in [1, 100_000, 20 << 20] {
            assert_eq!(
                far.ask("send", &format!("{} {length}", at(device, &attached, 0))),
                "true",
                "{length}"
            );
        }
        assert_eq!(far.ask("take", &at(device, &attached, 1)), "true");
    }
    assert_eq!(far.ask("break-off", &at(DEVICE, &at_log, 0)), "true");
    assert!(web.lost() > 0 && log.lost() > 0);
    wait_until("all have ended", || client.status().unwrap().connections == 0);
}

#[test]
fn used_up_descriptors_cost_a_client_time_and_not_its_name() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[everywhere(80), udp(80), everywhere(81)]);
    let _services = [web.serve("tell", "[::]:80"), web.serve("exchange", "81")];
    let far = far(&project);
    assert_kept(&far, &attached, DEVICE);
    let pid = project.network.pid();
    let limit = descriptors(pid) + 20;
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={limit}")])
        .status();
    assert!(limited.unwrap().success());
    let crowd = far.serve("crowd", &format!("{} 60", at(DEVICE, &attached, 2)));
    wait_until("the limit is reached", || descriptors(pid) + 1 >= limit);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| far.ask("be-told", &format!("tcp {}", at(DEVICE, &attached, 0))));
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(crowd);
        let (told, own) = parse(&waiting.join().unwrap());
        assert_eq!(told, own);
    });
    wait_until("all have ended", || client.status().unwrap().connections <= 1);
}

#[test]
fn a_neighbour_cannot_put_itself_in_a_containers_place() {
    let (project, mut client) = Project::on_a_device(&[both("default")]);
    let [web, thief] = ["web", "thief"].map(|name| project.container(name));
    let attached = web.attach(&mut client, &[("default", &[])], &[everywhere(80), udp(80)]);
    thief.attach(&mut client, &[("default", &[])], &[]);
    let _service = web.serve("tell", "[::]:80");
    let far = far(&project);
    assert_kept(&far, &attached, DEVICE);
    let steal = |script: &str| {
        let (done, said) = thief.run(&["sh", "-c", script]);
        assert!(done, "{said}");
    };
    let (own, mac) = (&attached.interfaces[0].addresses, &attached.interfaces[0].mac);
    // It takes the addresses and says so to everybody (arp_notify, ndisc_notify).
    steal(&format!(
        "for key in ipv4/conf/eth0/arp_notify ipv6/conf/eth0/ndisc_notify; do echo 1 > /proc/sys/net/$key; done &&
         echo 1 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down &&
         ip addr add {} dev eth0 && ip addr add {} dev eth0 nodad && ip link set eth0 down && ip link set eth0 up",
        own[0], own[1]
    ));
    for device in [DEVICE, DEVICE_IPV6] {
        assert_kept(&far, &attached, device);
    }
    // And the hardware address, with something to say.
    let gateway = attached.interfaces[0].gateways[0];
    steal(&format!(
        "ip link set eth0 address {mac} && ip route replace default via {gateway} && (ping -c 1 -W 1 {gateway}; true)"
    ));
    for device in [DEVICE, DEVICE_IPV6] {
        assert_kept(&far, &attached, device);
    }
}
