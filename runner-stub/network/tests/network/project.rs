//! Names, isolation between networks, published ports, and the sudden death of the network process.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::support::roles::{from_hex, noise_sum, send_noise, take_all, to_hex};
use crate::support::{Container, Project, address, descriptors, published, tcp, wait_until};
use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use dpack_network::{Attached, Client, ClientError, Failure, Port, Protocol};

#[test]
fn services_reach_each_other_by_name_on_shared_networks_only() {
    let (project, mut client) = Project::start(&["front", "back"]);
    let web = project.container("shop-web-1");
    let app = project.container("shop-app-1");
    let redis = project.container("shop-redis-1");
    let at_web = web.attach(&mut client, &[("front", &["web"])], &[]);
    let at_app = app.attach(&mut client, &[("front", &["app"]), ("back", &["app"])], &[]);
    let at_redis = redis.attach(&mut client, &[("back", &["redis", "Cache"])], &[]);

    // Interfaces in the order of the networks' names.
    let names: Vec<_> =
        at_app.interfaces.iter().map(|one| (one.name.as_str(), one.network.as_str())).collect();
    assert_eq!(names, [("eth0", "back"), ("eth1", "front")]);
    let own: Vec<Ipv4Addr> = at_app.addresses().map(|address| address.to_string().parse().unwrap()).collect();
    let (app_back, app_front) = (own[0], own[1]);
    let (web_address, redis_address) = (address(&at_web), address(&at_redis));
    let (_, links) = app.run(&["ip", "-o", "link"]);
    for interface in &at_app.interfaces {
        assert!(links.contains(&format!("{}@", interface.name)) && links.contains(&interface.mac), "{links}");
    }
    let (_, routes) = app.run(&["ip", "route"]);
    assert!(
        routes.starts_with(&format!("default via {} dev eth0", at_app.interfaces[0].gateways[0])),
        "{routes}"
    );

    assert_eq!(web.resolve("app"), [app_front]);
    assert_eq!(redis.resolve("app"), [app_back]);
    assert_eq!(app.resolve("cache"), [redis_address]);
    assert_eq!(app.resolve("shop-web-1"), [web_address]);
    assert!(web.resolve("redis").is_empty());
    assert!(web.resolve("example.org").is_empty());

    let _service = redis.serve("exchange", "6379");
    assert_eq!(app.ask("connect", &format!("{redis_address}:6379")), "connected");
    assert_ne!(web.ask("connect", &format!("{redis_address}:6379")), "connected");

    client.detach("shop-redis-1").unwrap();
    assert!(app.resolve("redis").is_empty());
    assert_ne!(app.ask("connect", &format!("{redis_address}:6379")), "connected");
    client.detach("never there").unwrap();
}

#[test]
fn a_container_reaches_nothing_of_the_namespace_but_its_dns() {
    let (project, mut client) = Project::start(&["a", "b"]);
    let one = project.container("one");
    let other = project.container("other");
    let at_one = one.attach(&mut client, &[("a", &[])], &[tcp(80)]);
    let at_other = other.attach(&mut client, &[("b", &[])], &[]);
    let (own, foreign) = (at_one.interfaces[0].gateways[0], at_other.interfaces[0].gateways[0]);
    let question = to_hex(&question("one", Rtype::A));

    for role in ["ask-udp", "ask-tcp"] {
        assert_ne!(one.ask(role, &format!("{own}:53 {question}")), "none");
        assert_eq!(one.ask(role, &format!("{foreign}:53 {question}")), "none");
    }
    // A refusal is an answer too: of the own gateway, not of the other network's.
    assert_eq!(one.ask("connect", &format!("{own}:1")), ErrorKind::ConnectionRefused.to_string());
    for address in [foreign, address(&at_other).into()] {
        let answer = one.ask("connect", &format!("{address}:1"));
        assert!(
            !["connected", &ErrorKind::ConnectionRefused.to_string()].contains(&answer.as_str()),
            "{answer}"
        );
    }
    // Nothing listens on the gateway besides; the published port is the device's.
    assert_ne!(one.ask("connect", &format!("{own}:{}", published(&at_one).port())), "connected");
    let (_, addresses) = one.run(&["ip", "addr", "show", "dev", "eth0"]);
    assert!(addresses.contains(&address(&at_one).to_string()) && !addresses.contains("inet6"), "{addresses}");
    assert_eq!(one.run(&["cat", "/proc/sys/net/ipv4/ip_forward"]).1, "0\n");
}

#[test]
fn a_raw_socket_reaches_no_other_network_in_anybodys_name() {
    let (project, mut client) = Project::start(&["a", "b"]);
    let [one, near, far, beside_far] =
        ["one", "near", "far", "beside-far"].map(|name| project.container(name));
    let at_one = one.attach(&mut client, &[("a", &[])], &[]);
    let at_near = near.attach(&mut client, &[("a", &[])], &[]);
    let at_far = far.attach(&mut client, &[("b", &[])], &[]);
    let at_beside = beside_far.attach(&mut client, &[("b", &[])], &[]);
    let file = |name: &str| project.folder.path().join(name);
    let hear = |by: &Container, name: &str| by.serve("hear", &format!("7 {}", file(name).display()));
    let _hearing = (hear(&near, "near"), hear(&far, "far"));
    let forge = |from: &Container, source: std::net::IpAddr, to: &Attached, text: &str| {
        from.ask("forge", &format!("{source} {}:7 {text}", address(to)))
    };
    let names = [
        address(&at_one).into(),
        address(&at_near).into(),
        address(&at_beside).into(),
        at_one.interfaces[0].gateways[0],
        at_far.interfaces[0].gateways[0],
        "127.0.0.1".parse().unwrap(),
        "203.0.113.1".parse().unwrap(),
    ];
    for source in names {
        forge(&one, source, &at_far, "forged");
    }
    // Both get what comes from their own network, and nothing came before.
    assert_eq!(forge(&one, address(&at_one).into(), &at_near, "own"), "true");
    assert_eq!(forge(&beside_far, address(&at_beside).into(), &at_far, "own"), "true");
    for name in ["near", "far"] {
        let heard = || std::fs::read_to_string(file(name)).unwrap_or_default();
        wait_until("a datagram is heard", || !heard().is_empty());
        assert_eq!(heard(), "own", "{name}");
    }
}

#[test]
fn dns_answers_by_udp_and_tcp() {
    let (project, mut client) = Project::start(&["default"]);
    let asker = project.container("asker");
    let nameserver = asker.attach(&mut client, &[("default", &[])], &[]).nameserver.unwrap();
    let web: Vec<_> = (1..=3).map(|number| project.container(&format!("web-{number}"))).collect();
    let mut expected: Vec<Ipv4Addr> =
        web.iter().map(|one| address(&one.attach(&mut client, &[("default", &["web"])], &[]))).collect();
    expected.sort();

    assert_eq!(asker.resolve("web"), expected);
    for role in ["ask-udp", "ask-tcp"] {
        let ask = |name: &str, kind| {
            let packet = to_hex(&question(name, kind));
            Message::from_octets(from_hex(&asker.ask(role, &format!("{nameserver}:53 {packet}")))).unwrap()
        };
        let reply = ask("web", Rtype::A);
        assert_eq!((reply.header().rcode(), reply.header_counts().ancount()), (Rcode::NOERROR, 3));
        let reply = ask("web", Rtype::AAAA);
        assert_eq!((reply.header().rcode(), reply.header_counts().ancount()), (Rcode::NOERROR, 0));
        assert_eq!(ask("example.org", Rtype::A).header().rcode(), Rcode::NXDOMAIN);
        // Rubbish, and the server lives on.
        assert_eq!(asker.ask(role, &format!("{nameserver}:53 00ff00ff")), "none");
    }
    assert!(asker.run(&["getent", "hosts", &expected[0].to_string()]).1.contains("web-"));

    client.detach("web-1").unwrap();
    assert_eq!(asker.resolve("web").len(), 2);
    assert!(client.status().unwrap().dns_queries >= 8);
}

#[test]
fn a_published_port_gives_every_byte_right_both_ways() {
    const LENGTH: u64 = 120 << 20;
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("exchange", "80");

    let mut stream = TcpStream::connect(published(&attached)).unwrap();
    let sent = send_noise(&mut stream, LENGTH, 1).unwrap();
    // The server answers only when it has seen the end.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut told = [0; 41];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, *format!("{LENGTH:020} {sent:020}").as_bytes());
    assert_eq!(take_all(&mut stream), (LENGTH, noise_sum(LENGTH, 2)));
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("exchange", "80");
    raise_descriptor_limit();
    let pid = project.network.pid();
    one_exchange(published(&attached), 10);
    wait_until("the first connection has ended", || client.status().unwrap().connections == 0);
    let before = descriptors(pid);

    let mut streams: Vec<TcpStream> =
        (0..1000).map(|_| TcpStream::connect(published(&attached)).unwrap()).collect();
    wait_until("all are connected", || client.status().unwrap().connections == 1000);
    for (number, stream) in streams.iter_mut().enumerate() {
        finish_exchange(stream, 1000 + number as u64);
    }
    drop(streams);
    wait_until("all have ended", || client.status().unwrap().connections == 0);
    // Some pipes are kept for later.
    wait_until("descriptors are closed", || descriptors(pid) <= before + 32);
}

#[test]
fn a_used_up_descriptor_limit_is_survived() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("exchange", "80");
    let pid = project.network.pid();
    let limit = format!("--nofile={}", descriptors(pid) + 20);
    let limited = Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status().unwrap();
    assert!(limited.success());

    let streams: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(published(&attached)).unwrap()).collect();
    wait_until("the limit is reached", || {
        descriptors(pid) + 1 >= limit["--nofile=".len()..].parse().unwrap()
    });
    drop(streams);
    wait_until("all have ended", || client.status().unwrap().connections == 0);
    one_exchange(published(&attached), 300_000);
}

#[test]
fn low_ports_are_told_with_the_sysctl() {
    let (_project, mut client) = Project::start(&["default"]);
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let low = Port { published: Some(79), ..tcp(80) };
    let answer = client.publish("web", &[low]);
    match first.trim().parse::<u16>().unwrap() {
        0..=79 => assert_eq!(answer.unwrap()[0].addresses[0].port(), 79),
        first => {
            let Err(ClientError::Refused(failure)) = answer else { panic!("{answer:?}") };
            assert!(
                matches!(failure, Failure::PortReserved { first: told, .. } if told == first),
                "{failure:?}"
            );
            assert!(failure.to_string().contains("sysctl net.ipv4.ip_unprivileged_port_start=79"));
        }
    }
}

#[test]
fn resets_and_refusals_are_passed_on() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80), tcp(81)]);
    let _service = web.serve("reset", "80");

    let mut stream = TcpStream::connect(published(&attached)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    // Nobody listens on 81: the device's side was accepted already, so it is a reset.
    let mut stream = TcpStream::connect(attached.ports[1].addresses[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    wait_until("both have ended", || client.status().unwrap().connections == 0);
}

#[test]
fn a_port_in_use_is_told_before_anything_starts() {
    let (_project, mut client) = Project::start(&["default"]);
    let holder = listen(SocketAddr::from(([127, 0, 0, 1], free_port())));
    let taken = holder.local_addr().unwrap();
    let free = tcp(80);
    let busy = Port { published: Some(taken.port()), ..tcp(81) };

    let refused = client.publish("web", &[free.clone(), busy.clone()]).unwrap_err();
    let ClientError::Refused(Failure::PortInUse { container, address, .. }) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!((container.as_str(), *address), ("web", taken));
    assert!(refused.to_string().contains(&format!("port {}/tcp", taken.port())), "{refused}");
    assert_eq!(client.status().unwrap().containers, []);

    // On all addresses it collides as well.
    let everywhere = Port { host_ip: None, ..busy.clone() };
    assert!(matches!(
        client.publish("web", &[everywhere]),
        Err(ClientError::Refused(Failure::PortInUse { .. }))
    ));

    drop(holder);
    drop(listen(taken));
    let open = client.publish("web", &[free, busy]).unwrap();
    assert_eq!(open[1].addresses, [taken]);
    client.detach("web").unwrap();
    drop(listen(taken));
}

#[test]
fn a_port_on_all_addresses_has_both_families() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let everywhere = Port { host_ip: None, ..tcp(80) };
    let attached = web.attach(&mut client, &[("default", &[])], &[everywhere]);
    let _service = web.serve("exchange", "80");
    let addresses = &attached.ports[0].addresses;
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert_eq!(addresses[0].port(), addresses[1].port());
    for host in ["127.0.0.1", "[::1]"] {
        one_exchange(format!("{host}:{}", addresses[0].port()).parse().unwrap(), 5000);
    }
}

#[test]
fn a_restarted_container_keeps_address_and_listener() {
    let (project, mut client) = Project::start(&["default"]);
    // Connections wait for a container that is not there yet.
    let opened = client.publish("web", &[tcp(80)]).unwrap();
    let mut early = TcpStream::connect(opened[0].addresses[0]).unwrap();
    let mut web = project.container("web");
    let first_service = web.serve("exchange", "80");
    let first = web.attach(&mut client, &[("default", &["web"])], &[tcp(80)]);
    assert_eq!(first.ports, opened);
    finish_exchange(&mut early, 77);

    let mut broken = TcpStream::connect(published(&first)).unwrap();
    wait_until("it is connected", || client.status().unwrap().connections == 1);
    drop(first_service);
    web.restart(&project);
    let _service = web.serve("exchange", "80");
    let second = web.attach(&mut client, &[("default", &["web"])], &[tcp(80)]);
    assert_eq!(first, second);
    broken.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The old connection is over, one way or the other.
    assert!(!matches!(broken.read(&mut [0]), Ok(1..)));
    one_exchange(published(&second), 100_000);
}

#[test]
fn after_a_kill_another_process_takes_over() {
    let (mut project, mut client) = Project::start(&["default", "other"]);
    let web = project.container("web");
    let app = project.container("app");
    let keep = Port { published: Some(free_port()), ..tcp(80) };
    let at_web = web.attach(&mut client, &[("default", &["web"])], std::slice::from_ref(&keep));
    let at_app = app.attach(&mut client, &[("default", &["app"])], &[]);
    let _service = web.serve("exchange", "80");
    let networks = client.status().unwrap().networks;

    let mut client = project.replace_network_process();
    client.configure(&crate::support::configs(&["default", "other"])).unwrap();
    assert_eq!(client.status().unwrap().networks, networks);
    // A newcomer before the others are told again must not get their addresses.
    let late = project.container("late");
    let at_late = late.attach(&mut client, &[("default", &["late"])], &[]);
    assert!(![address(&at_web), address(&at_app)].contains(&address(&at_late)));

    assert_eq!(web.attach(&mut client, &[("default", &["web"])], std::slice::from_ref(&keep)), at_web);
    assert_eq!(app.attach(&mut client, &[("default", &["app"])], &[]), at_app);
    assert_eq!(app.resolve("web"), [address(&at_web)]);
    one_exchange(published(&at_web), 1 << 20);

    // Told twice, nothing changes, and connections go on.
    let mut stream = TcpStream::connect(published(&at_web)).unwrap();
    wait_until("it is connected", || client.status().unwrap().connections == 1);
    assert_eq!(web.attach(&mut client, &[("default", &["web"])], &[keep]), at_web);
    finish_exchange(&mut stream, 4242);
}

#[test]
fn datagrams_find_their_way_back() {
    let (project, mut client) = Project::start(&["default"]);
    let dns = project.container("dns");
    let port = Port { protocol: Protocol::Udp, ..tcp(53) };
    let attached = dns.attach(&mut client, &[("default", &[])], &[port]);
    let _service = dns.serve("udp-echo", "53");
    let peers: Vec<UdpSocket> = (0..20).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    // Longer than a packet, so that fragments have to pass too.
    let datagram = |number: usize| vec![u8::try_from(number).unwrap(); 9000 + number];
    let receive = |number: usize| {
        let mut reply = vec![0; 20_000];
        let length = peers[number].recv(&mut reply).unwrap();
        assert_eq!(reply[..length], datagram(number));
    };
    for (number, peer) in peers.iter().enumerate() {
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer.connect(published(&attached)).unwrap();
        peer.send(&datagram(number)).unwrap();
        receive(number);
    }
    // By the sessions that are there already, in another order.
    for number in (0..peers.len()).rev() {
        peers[number].send(&datagram(number)).unwrap();
        receive(number);
    }
    assert_eq!(client.status().unwrap().connections, 20);
    client.detach("dns").unwrap();
    wait_until("sessions have ended", || client.status().unwrap().connections == 0);
}

#[test]
fn networks_come_and_go() {
    let (project, mut client) = Project::start(&["a", "b"]);
    let one = project.container("one");
    one.attach(&mut client, &[("b", &[])], &[]);
    let keys = |client: &mut Client| -> Vec<String> {
        client.status().unwrap().networks.into_iter().map(|network| network.key).collect()
    };
    client.configure(&crate::support::configs(&["c"])).unwrap();
    assert_eq!(keys(&mut client), ["b", "c"], "a goes, b is in use");
    let unknown = client.attach(&one.request(&[("a", &[])], &[tcp(80)]), one.namespace());
    assert!(matches!(unknown, Err(ClientError::Refused(Failure::UnknownNetwork { .. }))), "{unknown:?}");

    let many: Vec<String> = (0..31).map(|number| format!("n{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let full = client.configure(&crate::support::configs(&many));
    assert!(matches!(full, Err(ClientError::Refused(Failure::NoSubnet { .. }))), "{full:?}");
    client.shutdown().unwrap();
    wait_until("the socket is gone", || !project.folder.path().join("network.sock").exists());
}

pub(crate) fn question(name: &str, kind: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name.parse::<Name<Vec<u8>>>().unwrap(), kind)).unwrap();
    question.finish()
}

fn one_exchange(address: SocketAddr, length: u64) {
    finish_exchange(&mut TcpStream::connect(address).unwrap(), length);
}

fn finish_exchange(stream: &mut TcpStream, length: u64) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let sent = send_noise(stream, length, length).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut told = [0; 41];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, *format!("{length:020} {sent:020}").as_bytes());
    assert_eq!(take_all(stream), (length, noise_sum(length, 2)));
}

/// A port that is not one of those the kernel gives to clients, which other tests have by the thousand.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let mut ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Listens as soon as the address is free: what another test is about to execute still has our descriptors.
fn listen(address: SocketAddr) -> TcpListener {
    let mut listener = None;
    wait_until("the address is free", || {
        listener = TcpListener::bind(address).ok();
        listener.is_some()
    });
    listener.unwrap()
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
