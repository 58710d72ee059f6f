//! Published ports under load and with peers that misbehave: every byte right, nothing left behind, nobody hangs.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use dpack_network::{Client, Port};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::roles::{CUTS, is_noise, noise_sum, send_noise, take_all};
use crate::support::{Project, SPARE, descriptors, private_memory, published, tcp, wait_until};

#[test]
fn ten_thousand_idle_connections_are_held() {
    // Two descriptors each in the network process; only root may ask for more than it was given.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(65_536), maximum: Some(65_536) });
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) }).unwrap();
    let count = usize::try_from(hard.saturating_sub(400) / 2).unwrap().min(10_000);

    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80), tcp(81)]);
    let holder = web.serve("hold", "80");
    let _service = web.serve("exchange", "81");
    let pid = project.network.pid();
    exchange(attached.ports[1].addresses[0], 10);
    wait_until("the first connection has ended", || client.status().unwrap().connections == 0);
    let (before, memory) = (descriptors(pid), private_memory(pid));

    let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(published(&attached))).collect();
    for stream in &mut streams {
        stream.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(client.status().unwrap().connections, count as u64);
    let each = (private_memory(pid) - memory) * 1000 / count;
    println!("{count} idle connections: {each} KiB of the network process for each 1,000");
    assert!(each < 8 * 1024, "{each} KiB for 1,000 connections");
    exchange(attached.ports[1].addresses[0], 1 << 20);

    // The server goes: every client hears of it.
    drop(holder);
    for mut stream in streams {
        match stream.read(&mut [0]) {
            Ok(0) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    }
    wait_until("all have ended", || client.status().unwrap().connections == 0);
    wait_until("descriptors are closed", || descriptors(pid) <= before + SPARE);
}

#[test]
fn either_side_may_close_first() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("close-first", "80");

    let mut stream = connect(published(&attached));
    assert_eq!(take_all(&mut stream).0, 0, "the server has closed its side");
    let sent = send_noise(&mut stream, 3_000_001, 1).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    wait_until("the connection has ended", || client.status().unwrap().connections == 0);
    let mut told = String::new();
    connect(published(&attached)).read_to_string(&mut told).unwrap();
    assert_eq!(told, format!("{} {sent}", 3_000_001));
}

#[test]
fn a_reset_at_any_byte_is_a_reset_for_the_other_side() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80), tcp(81), tcp(82)]);
    let _cuts = web.serve("cut", "80");
    let _witness = web.serve("witness", "81");
    let before = descriptors(project.network.pid());

    for length in CUTS {
        // The server cuts after so many bytes; what arrived is a beginning of what was sent, and no end was claimed.
        let mut stream = connect(attached.ports[0].addresses[0]);
        write!(stream, "{length:020}").unwrap();
        let mut taken = Vec::new();
        let error = stream.read_to_end(&mut taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{length}");
        assert!(taken.len() as u64 <= length && is_noise(&taken, 1), "{length}");
    }
    for length in CUTS {
        let mut stream = connect(attached.ports[1].addresses[0]);
        send_noise(&mut stream, length, 1).unwrap();
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        // The next connection is told of the last.
        let mut stream = connect(attached.ports[1].addresses[0]);
        stream.shutdown(Shutdown::Write).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let (seen, end) = told.split_once(' ').unwrap();
        assert_eq!(end, "reset true", "{length}: {told}");
        assert!(seen.parse::<u64>().unwrap() <= length, "{length}: {told}");
    }
    wait_until("all have ended", || client.status().unwrap().connections == 0);
    assert!(descriptors(project.network.pid()) <= before + SPARE);
}

#[test]
fn a_path_that_loses_packets_loses_no_bytes() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("exchange", "80");
    web.lose_segments();
    for length in [1, 100_000, 20 << 20] {
        exchange(published(&attached), length);
    }
    assert!(web.lost() > 0);
    wait_until("all have ended", || client.status().unwrap().connections == 0);
}

#[test]
fn a_crowd_that_comes_at_once_is_served() {
    const CROWD: usize = 500;
    let (project, mut client) = Project::start(&["default"]);
    // Nobody accepts yet: all of them wait in the backlog.
    let opened = client.publish("web", &[tcp(80)]).unwrap();
    let address = opened[0].addresses[0];
    let waiting: Vec<TcpStream> = (0..CROWD).map(|_| connect(address)).collect();
    let web = project.container("web");
    let _service = web.serve("exchange", "80");
    web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    for (number, stream) in waiting.into_iter().enumerate() {
        finish_exchange(stream, number as u64);
    }
}

#[test]
fn a_port_that_the_kernel_chose_can_be_asked_for_again() {
    let (mut project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("exchange", "80");
    let address = published(&attached);
    assert_ne!(address.port(), 0);
    exchange(address, 1000);
    // As the supervisor does it after a sudden death.
    let mut client: Client = project.replace_network_process();
    client.configure(&crate::support::configs(&["default"])).unwrap();
    let again = Port { published: Some(address.port()), ..tcp(80) };
    let attached = web.attach(&mut client, &[("default", &[])], &[again]);
    assert_eq!(published(&attached), address);
    exchange(address, 1000);
    // By its number or without, it is the same port: nothing is closed.
    let stream = connect(address);
    wait_until("it is connected", || client.status().unwrap().connections == 1);
    assert_eq!(published(&web.attach(&mut client, &[("default", &[])], &[tcp(80)])), address);
    finish_exchange(stream, 1000);
}

#[test]
fn the_first_free_port_of_a_range_is_taken() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    // The last two of three; the first is somebody else's.
    let (stranger, range) = neighbours();
    let first = stranger.local_addr().unwrap().port();
    let second = [SocketAddr::from((Ipv4Addr::LOCALHOST, first + 1))];
    let third = [SocketAddr::from((Ipv4Addr::LOCALHOST, first + 2))];
    let attached = web.attach(&mut client, &[("default", &[])], std::slice::from_ref(&range));
    let _service = web.serve("exchange", "80");
    assert_eq!(attached.ports[0].addresses, second);
    exchange(second[0], 1000);
    assert_eq!(client.publish("other", std::slice::from_ref(&range)).unwrap()[0].addresses, third);

    // Nothing is left, and all or nothing is opened.
    let refused = client.publish("third", &[tcp(81), range.clone()]).unwrap_err().to_string();
    let numbers = format!("port {first}-{}/tcp of container `third` is in use on 127.0.0.1", first + 2);
    assert!(refused.contains(&numbers), "{refused}");
    assert!(client.status().unwrap().containers.iter().all(|one| one.container != "third"));

    // Asked for again, it stays what it is, by its number or by the range, and though a lower one is free by now.
    drop(stranger);
    let stream = connect(second[0]);
    wait_until("it is connected", || client.status().unwrap().connections == 1);
    let exact = Port { published: Some(first + 1), published_last: None, ..range.clone() };
    for port in [range, exact] {
        let attached = web.attach(&mut client, &[("default", &[])], &[port]);
        assert_eq!(attached.ports[0].addresses, second);
    }
    finish_exchange(stream, 1000);
}

/// A range of three ports that are free, and who listens on the first. They lie below those that the kernel gives to whoever
/// asks for none (`ip_local_port_range`): the tests beside this one would be given them meanwhile.
fn neighbours() -> (TcpListener, Port) {
    let begin = 10_000 + u16::try_from(std::process::id() % 5_000).unwrap() * 3;
    for number in (begin..).step_by(3).take(100) {
        let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if let (Ok(first), true, true) = (bind(number), bind(number + 1).is_ok(), bind(number + 2).is_ok()) {
            let port = Port { published: Some(number), published_last: Some(number + 2), ..tcp(80) };
            return (first, port);
        }
    }
    panic!("no three ports in a row are free");
}

#[test]
fn a_container_sees_its_own_address_as_the_peers() {
    let (project, mut client) = Project::start(&["default"]);
    let web = project.container("web");
    let attached = web.attach(&mut client, &[("default", &[])], &[tcp(80)]);
    let _service = web.serve("listen", "0.0.0.0:80");
    let mut told = String::new();
    connect(published(&attached)).read_to_string(&mut told).unwrap();
    assert_eq!(told.parse::<IpAddr>().ok(), attached.addresses().next());
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What the role `exchange` is for: every byte is right both ways.
fn exchange(address: SocketAddr, length: u64) {
    finish_exchange(connect(address), length);
}

fn finish_exchange(mut stream: TcpStream, length: u64) {
    let sent = send_noise(&mut stream, length, length).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut told = [0; 41];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(told, *format!("{length:020} {sent:020}").as_bytes());
    assert_eq!(take_all(&mut stream), (length, noise_sum(length, 2)));
}
