//! The kernel's own way out, as root makes it, on a device that is a network namespace of the test.

use std::io::ErrorKind;

use crate::support::roles::to_hex;
use crate::support::{Container, Project, address, configs, wait_until};
use dpack_network::{HOST_GATEWAY, NetworkConfig};

const DEVICE: &str = "198.51.100.1";
const FAR: &str = "192.0.2.1";

fn inside() -> NetworkConfig {
    NetworkConfig { key: "inside".into(), internal: true, ..NetworkConfig::default() }
}

fn reaches(container: &Container, address: &str) -> String {
    container.ask("connect", address)
}

#[test]
fn with_an_uplink_the_kernel_forwards_what_goes_out_and_the_rest_is_as_before() {
    let networks = [configs(&["default", "other"]), vec![inside()]].concat();
    let (mut project, mut client) = Project::on_a_device(&networks);
    let (web, other, inner) =
        (project.container("web"), project.container("other"), project.container("inner"));
    web.attach(&mut client, &[("default", &["web"])], &[]);
    let at_other = other.attach(&mut client, &[("other", &[])], &[]);
    inner.attach(&mut client, &[("inside", &[])], &[]);
    let far = project.far();
    let _far = [far.serve("exchange", "7000"), far.serve("udp-echo", "7000"), far.serve("hold", "7001")];
    let _other = other.serve("exchange", "7000");
    let _device = [project.serve("listen", "0.0.0.0:7002"), project.serve("listen", "127.0.0.1:7003")];
    assert_eq!(web.ask("send", &format!("{FAR}:7000 100000")), "true");
    wait_until("the relayed connection has ended", || client.status().unwrap().outgoing == 0);

    assert_eq!(project.uplink("connect"), "done");
    assert_eq!(project.uplink("connect"), "done", "twice");
    assert_eq!(project.uplink("is-connected"), "true");
    let held = web.serve("stay", &format!("{FAR}:7001"));
    assert_eq!(client.status().unwrap().outgoing, 0, "no process of ours is in between");
    drop(held);
    for length in [0, 1, 70_000, 20 << 20] {
        assert_eq!(web.ask("send", &format!("{FAR}:7000 {length}")), "true", "{length}");
    }
    for length in [1, 1472, 1473, 20_000, 60_000] {
        let data: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let data = to_hex(&data);
        assert!(web.ask("ask-udp", &format!("{FAR}:7000 {data}")) == data, "{length}");
    }
    assert_eq!(web.ask("ping", &format!("{FAR} 616263")), "0007616263");
    assert_eq!(reaches(&web, &format!("{FAR}:7009")), ErrorKind::ConnectionRefused.to_string());
    assert_eq!(reaches(&web, "203.0.113.1:80"), ErrorKind::NetworkUnreachable.to_string());

    // The device is reached as before, its loopback is not.
    assert_eq!(reaches(&web, &format!("{DEVICE}:7002")), "connected");
    assert_eq!(reaches(&web, &format!("{HOST_GATEWAY}:7002")), "connected");
    for loopback in ["127.0.0.1", "127.0.0.2", "0.0.0.0", DEVICE, &HOST_GATEWAY.to_string()] {
        assert_ne!(reaches(&web, &format!("{loopback}:7003")), "connected", "{loopback}");
    }
    // Networks stay apart, and internal ones inside.
    let at_other = address(&at_other);
    assert_ne!(reaches(&web, &format!("{at_other}:7000")), "connected");
    for outside in [FAR, DEVICE, &HOST_GATEWAY.to_string(), &at_other.to_string()] {
        assert_ne!(reaches(&inner, &format!("{outside}:7000")), "connected", "{outside}");
        assert_eq!(inner.ask("ping", &format!("{outside} 00")), "none", "{outside}");
    }
    assert_eq!(web.resolve("web").len(), 1);
    // Nobody outside comes in, though he knows the way.
    let end = project.told_on_device(&["sh", "-c", "ip -o link | sed -n 's/.*alias //p'"]).trim().to_owned();
    assert!(end.starts_with("169.254.2."), "{end}");
    assert!(project.on_device(&["ip", "route", "add", &at_other.to_string(), "via", &end]).success());
    assert_ne!(project.ask("connect", &format!("{at_other}:7000")), "connected");

    // It outlives the network process.
    let mut client = project.replace_network_process();
    client.configure(&networks).unwrap();
    assert_eq!(web.ask("send", &format!("{FAR}:7000 100000")), "true");
    assert_eq!(client.status().unwrap().outgoing, 0);

    assert_eq!(project.uplink("disconnect"), "done");
    assert_eq!(project.uplink("is-connected"), "false");
    assert_eq!(left_behind(&project), "0\n");
    assert_eq!(web.ask("send", &format!("{FAR}:7000 100000")), "true", "relayed again");
}

/// Tables, links of ours, and whether the device forwards.
fn left_behind(project: &Project) -> String {
    let script = "nft list tables; ip -o link | grep dp-; cat /proc/sys/net/ipv4/ip_forward";
    project.told_on_device(&["sh", "-c", script])
}

#[test]
fn what_a_killed_project_leaves_on_the_device_goes_with_the_next_command() {
    let (mut project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    assert_eq!(project.uplink("connect"), "done");
    let table = left_behind(&project);
    assert!(table.contains("table ip dp-") && table.contains("table ip dpack-forwarding"), "{table}");
    drop(client);
    // The namespace ends with its last process, and the veth with it.
    drop((web, project.shim.take()));
    project.network.0.kill().unwrap();
    project.network.0.wait().unwrap();
    wait_until("the veth has gone", || project.uplink("is-connected") == "false");
    assert!(left_behind(&project).contains("table ip dp-"));
    assert_eq!(project.uplink("disconnect"), "done");
    assert_eq!(left_behind(&project), "0\n");
}

#[test]
fn a_device_that_did_not_forward_is_no_router_and_its_projects_do_not_meet() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let (other, mut other_client) = Project::on_the_device_of(&project, &configs(&["default"]));
    let db = other.container("db");
    db.attach(&mut other_client, &[("default", &[])], &[]);
    let far = project.far();
    let _far = far.serve("exchange", "7000");
    let _db = db.serve("exchange", "7000");
    // Somebody on another link of the device, who takes it for his router.
    let near = project.neighbour();
    assert_eq!((project.uplink("connect"), other.uplink("connect")), ("done".into(), "done".into()));

    for container in [&web, &db] {
        assert_eq!(container.ask("send", &format!("{FAR}:7000 100000")), "true");
    }
    assert_ne!(near.ask("connect", &format!("{FAR}:7000")), "connected");
    let ends = project.told_on_device(&["sh", "-c", "ip -o link | sed -n 's/.*alias //p'"]);
    let ends: Vec<&str> = ends.lines().collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    std::thread::scope(|scope| {
        for (end, stranger) in ends.iter().flat_map(|end| [&web, &db, &near].map(|stranger| (end, stranger)))
        {
            scope.spawn(move || {
                // 53 is where names are asked for.
                assert_ne!(stranger.ask("connect", &format!("{end}:53")), "connected", "{end}");
                assert_eq!(stranger.ask("ask-udp", &format!("{end}:53 00")), "none", "{end}");
            });
        }
    });
    // The first to go leaves the other one its way.
    assert_eq!(project.uplink("disconnect"), "done");
    assert_eq!(db.ask("send", &format!("{FAR}:7000 100000")), "true");
    assert_eq!(other_client.status().unwrap().outgoing, 0);
    assert_eq!(other.uplink("disconnect"), "done");
    assert_eq!(left_behind(&project), "0\n");
}

#[test]
fn the_device_itself_is_given_no_way_out() {
    let (project, _client) = Project::on_a_device(&configs(&["default"]));
    let said = project.uplink("connect-to-itself");
    assert!(said.contains("it is the device's own"), "{said}");
    assert_eq!(left_behind(&project), "0\n");
}

#[test]
fn who_else_decides_on_what_is_forwarded_is_left_alone() {
    let (project, mut client) = Project::on_a_device(&configs(&["default"]));
    let web = project.container("web");
    web.attach(&mut client, &[("default", &[])], &[]);
    let _server = project.serve("exchange", "7000");
    let rules =
        "add table inet wall; add chain inet wall f { type filter hook forward priority 0; policy drop; }";
    assert!(project.on_device(&["nft", rules]).success());
    assert_eq!(project.uplink("connect"), "Foreign(\"table `wall` of nftables\")");
    assert_eq!(left_behind(&project), "table inet wall\n0\n");
    assert_eq!(web.ask("send", &format!("{DEVICE}:7000 100000")), "true");
}
