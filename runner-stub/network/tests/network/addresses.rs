//! Subnets and addresses that were asked for, IPv6, and what a place on a network can be given besides.

use std::net::IpAddr;

use crate::support::{Container, Project, address, configs, published, tcp};
use dpack_network::{
    Attach, Attached, Client, ClientError, Failure, Interface, Membership, NetworkConfig, Pool, Port,
};

fn network(key: &str, subnets: &[&str]) -> NetworkConfig {
    let pool = |subnet: &&str| {
        let subnet: ipnet::IpNet = subnet.parse().unwrap();
        Pool { subnet: subnet.trunc(), range: None, gateway: subnet.addr() }
    };
    NetworkConfig {
        key: key.into(),
        ipv6: subnets.iter().any(|subnet| subnet.contains(':')),
        pools: subnets.iter().map(pool).collect(),
        ..NetworkConfig::default()
    }
}

fn ips(attached: &Attached) -> Vec<String> {
    attached.addresses().map(|address| address.to_string()).collect()
}

fn place(network: &str, change: impl Fn(&mut Membership)) -> Membership {
    let mut place = Membership { network: network.into(), ..Membership::default() };
    change(&mut place);
    place
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn start(networks: &[NetworkConfig]) -> (Project, Client) {
    let (project, mut client) = Project::start(&[]);
    client.configure(networks).unwrap();
    (project, client)
}

#[test]
fn containers_have_the_addresses_that_were_asked_for() {
    let mut chosen = network("chosen", &["10.77.0.254/24", "fd77::ffff/64"]);
    chosen.pools[0].range = Some("10.77.0.128/25".parse().unwrap());
    chosen.reserved = vec![ip("10.77.0.129"), ip("10.77.0.5")];
    let (project, mut client) = start(&[chosen]);
    let (fixed, free) = (project.container("fixed"), project.container("free"));
    let wanted = place("chosen", |place| place.addresses = vec![ip("10.77.0.5"), ip("fd77::5")]);
    let mut request = Attach { container: "fixed".into(), networks: vec![wanted], ..Attach::default() };
    let at_fixed = client.attach(&request, fixed.namespace()).unwrap();
    assert_eq!(ips(&at_fixed), ["10.77.0.5", "fd77::5"]);
    assert_eq!(at_fixed.nameserver, Some(ip("10.77.0.254")));
    let at_free = free.attach(&mut client, &[("chosen", &["free"])], &[]);
    assert_eq!(ips(&at_free), ["10.77.0.128", "fd77::1"]);
    let late = project.container("late");
    assert_eq!(ips(&late.attach(&mut client, &[("chosen", &[])], &[])), ["10.77.0.130", "fd77::2"]);

    for wanted in ["10.77.0.128", "10.77.0.254", "10.78.0.1"] {
        request.container = "late".into();
        request.networks[0].addresses = vec![ip(wanted)];
        let refused = client.attach(&request, late.namespace()).unwrap_err();
        assert!(matches!(refused, ClientError::Refused(Failure::Address { .. })), "{refused:?}");
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
    // The kernel's word for it.
    let (_, shown) = fixed.run(&["ip", "-o", "addr"]);
    assert!(shown.contains("10.77.0.5/24") && shown.contains("fd77::5/64"), "{shown}");
    let (_, routes) = fixed.run(&["ip", "-6", "route"]);
    assert!(routes.contains("default via fd77::ffff dev eth0"), "{routes}");
}

/// A proxy that has asked for a name once goes on to the address: it must not become another's at the next start.
#[test]
fn a_container_that_is_started_again_has_its_address_again() {
    let networks = [network("wide", &["10.77.2.1/24", "fd77:2::1/64"]), network("narrow", &["10.77.3.1/30"])];
    let (project, mut client) = start(&networks);
    let [app, other] = ["app", "other"].map(|name| project.container(name));
    let attach = |client: &mut Client, container: &Container, network: &str| {
        client.attach(&container.request(&[(network, &[])], &[]), container.namespace())
    };
    assert_eq!(ips(&attach(&mut client, &app, "wide").unwrap()), ["10.77.2.2", "fd77:2::2"]);
    client.detach("app").unwrap();
    assert_eq!(ips(&attach(&mut client, &other, "wide").unwrap()), ["10.77.2.3", "fd77:2::3"]);
    assert_eq!(ips(&attach(&mut client, &app, "wide").unwrap()), ["10.77.2.2", "fd77:2::2"]);
    for name in ["app", "other"] {
        client.detach(name).unwrap();
    }

    // Remembered is not reserved.
    assert_eq!(ips(&attach(&mut client, &app, "narrow").unwrap()), ["10.77.3.2"]);
    client.detach("app").unwrap();
    assert_eq!(ips(&attach(&mut client, &other, "narrow").unwrap()), ["10.77.3.2"]);
    let refused = attach(&mut client, &app, "narrow").unwrap_err();
    assert!(matches!(refused, ClientError::Refused(Failure::NoAddress { .. })), "{refused:?}");
}

#[test]
fn both_families_reach_each_other_by_name() {
    let mut six = network("six", &[]);
    (six.ipv4, six.ipv6) = (false, true);
    let mut dual = network("dual", &[]);
    dual.ipv6 = true;
    let (project, mut client) = start(&[six, dual]);
    let (one, other) = (project.container("one"), project.container("other"));
    let at_one = one.attach(&mut client, &[("six", &["a"])], &[tcp(80)]);
    let at_other = other.attach(&mut client, &[("six", &["b"]), ("dual", &[])], &[]);
    let own = at_one.addresses().next().unwrap();
    assert!(own.is_ipv6() && own.to_string().starts_with("fd"), "{own}");
    assert_eq!(at_one.nameserver, Some(at_one.interfaces[0].gateways[0]));
    let families: Vec<bool> = at_other.addresses().map(|address| address.is_ipv4()).collect();
    assert_eq!(families, [true, false, false]);

    let asked = |name: &str| one.run(&["getent", "ahostsv6", name]).1;
    let on_six = at_other.interfaces[1].ips().next().unwrap();
    assert!(asked("b").starts_with(&on_six.to_string()), "{}", asked("b"));
    assert!(one.run(&["getent", "hosts", &on_six.to_string()]).1.contains("other"));
    // An address of a network that is not shared.
    let elsewhere = at_other.interfaces[0].ips().last().unwrap();
    assert!(!one.run(&["getent", "hosts", &elsewhere.to_string()]).0);
    let _service = one.serve("listen", "[::]:80");
    assert_eq!(other.ask("connect", &format!("[{own}]:80")), "connected");
    // A published port leads to a container without IPv4, too.
    assert!(std::net::TcpStream::connect(published(&at_one)).is_ok());
}

#[test]
fn a_client_comes_by_the_family_that_it_has() {
    let mut dual = network("dual", &[]);
    dual.ipv6 = true;
    let (project, mut client) = start(&[dual]);
    let web = project.container("web");
    let everywhere = Port { host_ip: None, ..tcp(80) };
    let attached = web.attach(&mut client, &[("dual", &[])], &[everywhere]);
    let _service = web.serve("listen", "[::]:80");
    for (address, is_ipv4) in attached.ports[0].addresses.iter().zip([true, false]) {
        use std::io::Read;
        let local = if is_ipv4 { ip("127.0.0.1") } else { ip("::1") };
        let mut stream = std::net::TcpStream::connect((local, address.port())).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let seen = told.trim_start_matches("::ffff:").parse::<IpAddr>().unwrap();
        assert_eq!(seen.is_ipv4(), is_ipv4, "{told}");
    }
}

#[test]
fn networks_of_both_families_stay_apart() {
    let (a, b) =
        (network("a", &["10.77.1.1/24", "fd77:1::1/64"]), network("b", &["10.77.2.1/24", "fd77:2::1/64"]));
    let mut six = network("six", &["fd77:3::1/64"]);
    (six.ipv4, six.internal) = (false, true);
    let (project, mut client) = start(&[a, b, six]);
    let names = ["one", "other", "inner"];
    let [one, other, inner] = names.map(|name| project.container(name));
    one.attach(&mut client, &[("a", &[])], &[]);
    let at_other = other.attach(&mut client, &[("b", &[])], &[]);
    inner.attach(&mut client, &[("six", &[])], &[]);
    let _service = other.serve("listen", "[::]:80");
    for asker in [&one, &inner] {
        let tried = at_other.addresses().chain(at_other.interfaces[0].gateways.iter().copied());
        for address in tried.collect::<Vec<_>>() {
            for port in [53, 80] {
                let target = std::net::SocketAddr::new(address, port);
                let answer = asker.ask("connect", &target.to_string());
                assert!(
                    !["connected", "connection refused"].contains(&answer.as_str()),
                    "{target}: {answer}"
                );
            }
        }
    }
    // Pretending to have IPv4 does not help who has none.
    let (done, text) =
        inner.run(&["sh", "-c", "ip addr add 10.77.1.77/24 dev eth0 && ip route add default via 10.77.1.1"]);
    assert!(done, "{text}");
    assert_ne!(inner.ask("connect", "10.77.1.1:53"), "connected");
    assert_ne!(inner.ask("connect", "10.77.2.1:53"), "connected");
}

#[test]
fn a_place_gets_what_it_asks_for() {
    let mut lan = network("lan", &["10.77.0.1/24"]);
    (lan.mtu, lan.interface_prefix) = (1280, "lan".into());
    let mut inside = network("inside", &[]);
    inside.internal = true;
    let networks = [vec![lan, inside], configs(&["a", "b"])].concat();
    let (project, mut client) = start(&networks);
    let web = project.container("web");
    let places = vec![
        place("a", |_| {}),
        place("b", |place| (place.gateway_priority, place.interface) = (1, Some("wan".into()))),
        place("inside", |place| place.gateway_priority = 9),
        place("lan", |place| {
            place.priority = 5;
            place.mac = Some("02:00:00:00:00:77".into());
            place.link_local = vec![ip("169.254.7.7")];
        }),
    ];
    let request = Attach { container: "web".into(), networks: places, ..Attach::default() };
    let attached = client.attach(&request, web.namespace()).unwrap();
    let named = |interface: &Interface| (interface.network.clone(), interface.name.clone());
    let names: Vec<_> = attached.interfaces.iter().map(named).collect();
    let expected = [("lan", "lan0"), ("a", "eth0"), ("b", "wan"), ("inside", "eth1")];
    assert_eq!(names, expected.map(|(network, name)| (network.to_owned(), name.to_owned())));
    let (_, link) = web.run(&["ip", "addr", "show", "dev", "lan0"]);
    assert!(link.contains("02:00:00:00:00:77") && link.contains("mtu 1280"), "{link}");
    assert!(link.contains("169.254.7.7/16"), "{link}");
    let (_, routes) = web.run(&["ip", "route", "show", "default"]);
    let gateway = attached.interfaces[2].gateways[0];
    assert_eq!(routes.trim(), format!("default via {gateway} dev wan"));
    // Told twice, nothing changes.
    assert_eq!(client.attach(&request, web.namespace()).unwrap(), attached);

    let inner = project.container("inner");
    inner.attach(&mut client, &[("inside", &[])], &[]);
    assert_eq!(inner.run(&["ip", "route", "show", "default"]).1, "");
}

#[test]
fn containers_of_an_isolated_network_reach_the_outside_only() {
    let mut alone = network("alone", &["10.77.0.1/24", "fd77::1/64"]);
    alone.isolated = true;
    let (project, mut client) = Project::on_a_device(&[alone]);
    let (one, other) = (project.container("one"), project.container("other"));
    one.attach(&mut client, &[("alone", &[])], &[]);
    let at_other = other.attach(&mut client, &[("alone", &["other"])], &[]);
    let _service = other.serve("listen", "[::]:80");
    let _device = project.serve("listen", "0.0.0.0:7000");
    assert_eq!(one.resolve("other"), [address(&at_other)]);
    for address in at_other.addresses() {
        let target = std::net::SocketAddr::new(address, 80);
        assert_ne!(one.ask("connect", &target.to_string()), "connected");
    }
    assert_eq!(one.ask("connect", "198.51.100.1:7000"), "connected");
}

#[test]
fn a_network_is_made_anew_when_nothing_is_on_it() {
    let (project, mut client) = start(&[network("a", &["10.77.1.1/24"]), network("b", &["10.77.2.1/24"])]);
    let mut web = project.container("web");
    let first = web.attach(&mut client, &[("a", &["web"])], &[]);
    // They change places while a container is on one of them.
    let changed = [network("a", &["10.77.2.1/24"]), network("b", &["10.77.1.1/24"])];
    let refused = client.configure(&changed).unwrap_err();
    assert!(refused.to_string().contains("overlaps with 10.77.1.0/24 of network `a`"), "{refused}");
    let changed = [network("a", &["10.77.3.1/24"]), network("b", &["10.77.2.1/24"])];
    client.configure(&changed).unwrap();
    assert_eq!(web.attach(&mut client, &[("a", &["web"])], &[]), first, "who is connected stays so");
    let late = project.container("late");
    let refused = client.attach(&late.request(&[("a", &[])], &[]), late.namespace()).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(Failure::NetworkInUse { .. })), "{refused:?}");
    web.restart(&project);
    let second = web.attach(&mut client, &[("a", &["web"])], &[]);
    assert_eq!(ips(&second), ["10.77.3.2"]);
    let at_late = late.attach(&mut client, &[("a", &["late"])], &[]);
    assert_eq!(late.resolve("web"), [address(&second)]);
    assert_eq!(web.resolve("late"), [address(&at_late)]);
}

#[test]
fn a_new_process_finds_the_addresses_again() {
    let networks = [network("a", &["10.77.1.9/24", "fd77::9/64"])];
    let (mut project, mut client) = start(&networks);
    let web = project.container("web");
    let first = web.attach(&mut client, &[("a", &["web"])], &[]);
    let mut client = project.replace_network_process();
    client.configure(&networks).unwrap();
    assert_eq!(web.attach(&mut client, &[("a", &["web"])], &[]), first);
    let late = project.container("late");
    assert_eq!(ips(&late.attach(&mut client, &[("a", &[])], &[])), ["10.77.1.2", "fd77::2"]);
}

#[test]
fn subnets_avoid_the_routes_of_the_device() {
    let (project, mut client) = Project::on_a_device(&[]);
    let script = "ip addr add 172.18.5.1/24 dev out0 && ip route add 172.16.0.0/15 dev out0 && ip route add 0.0.0.0/1 dev out0";
    assert!(project.on_device(&["sh", "-c", script]).success());
    client.configure(&configs(&["a"])).unwrap();
    let gateways = &client.status().unwrap().networks[0].gateways;
    assert_eq!(gateways[0].to_string(), "172.19.0.1/16");
}

#[test]
fn two_projects_choose_subnets_apart_and_a_stopped_one_gives_its_own_back() {
    let gateway = |client: &mut Client| client.status().unwrap().networks[0].gateways[0].trunc();
    let (one, mut first) = Project::start(&["default"]);
    let (two, mut second) = Project::beside(&one, &["default"]);
    let (at_one, at_two) = (gateway(&mut first), gateway(&mut second));
    assert_ne!(at_one, at_two);

    // It is its own again in another process, and nobody else's meanwhile.
    let (mut one, mut two) = (one, two);
    let mut again = one.replace_network_process();
    again.configure(&configs(&["default"])).unwrap();
    assert_eq!(gateway(&mut again), at_one);
    let (_three, mut third) = Project::beside(&one, &["default"]);
    assert!(![at_one, at_two].contains(&gateway(&mut third)));

    second.shutdown().unwrap();
    two.network.0.wait().unwrap();
    let (_four, mut fourth) = Project::beside(&one, &["default"]);
    assert_eq!(gateway(&mut fourth), at_two);
}
