//! What this test program does when it is started again inside a namespace.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use dpack_network::{ServeOptions, serve};

/// How long an unanswered question is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Plays the role that the environment asks for; returns when none is.
pub(crate) fn play() {
    let Ok(role) = std::env::var("DPACK_TEST_ROLE") else { return };
    let argument = std::env::var("DPACK_TEST_ARGUMENT").unwrap();
    match role.as_str() {
        "network" => network(&argument),
        "exchange" => exchange(&argument),
        "udp-echo" => udp_echo(&argument),
        "reset" => reset(&argument),
        "hold" => hold(&argument),
        "close-first" => close_first(&argument),
        "cut" => cut(&argument),
        "witness" => witness(&argument, ""),
        "greeting-witness" => witness(&argument, "!"),
        "take" => take(&argument),
        "send-after-end" => send_after_end(&argument),
        "ask-udp" => ask_udp(&argument, PATIENCE),
        "ask-udp-patiently" => ask_udp(&argument, PATIENCE * 3),
        "ask-udp-often" => ask_udp_often(&argument),
        "measure-path" => measure_path(&argument),
        "crowd" => crowd(&argument),
        "hurry" => hurry(&argument),
        "exchange-often" => exchange_often(&argument),
        "bad-link" => super::path::relay(&argument),
        "ask-tcp" => ask_tcp(&argument, PATIENCE),
        "ask-tcp-patiently" => ask_tcp(&argument, PATIENCE * 3),
        "ask-many" => ask_many(&argument),
        "connect" => connect(&argument),
        "send" => send(&argument),
        "listen" => listen(&argument),
        "dns" => dns(&argument),
        "ping" => ping(&argument),
        "hear" => hear(&argument),
        "forge" => forge(&argument),
        "uplink" => uplink(&argument),
        "stay" => stay(&argument),
        "sweep" => sweep(&argument),
        "tell" => tell(&argument),
        "be-told" => be_told(&argument),
        "connect-from" => connect_from(&argument),
        "break-off" => break_off(&argument),
        "reset-by" => reset_by(&argument),
        other => panic!("no role {other}"),
    }
    std::process::exit(0);
}

fn network(argument: &str) {
    let (socket, join) = argument.split_once(' ').unwrap();
    let ready = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        let mut byte = [0];
        if reader.read_exact(&mut byte).is_ok() {
            std::fs::File::from(ready).write_all(b"\nup\n").unwrap();
        }
    });
    let options = ServeOptions {
        socket: socket.into(),
        join: (!join.is_empty()).then(|| std::fs::File::open(format!("/proc/{join}/ns/net")).unwrap()),
        resolv_conf: std::path::Path::new(socket).with_file_name("resolv.conf"),
        ready: Some(writer.into()),
    };
    serve(options).unwrap();
}

/// Takes everything until the client closes its side, then tells its sum and sends as much of its own.
fn exchange(port: &str) {
    let listener = listen_to_many(&format!("[::]:{port}"));
    println!("\nup");
    for stream in listener.incoming() {
        std::thread::spawn(move || {
            let mut stream = stream.unwrap();
            let (length, sum) = take_all(&mut stream);
            let _ = write!(stream, "{length:020} {sum:020}");
            let _ = send_noise(&mut stream, length, 2);
        });
    }
}

pub(crate) fn take_all(stream: &mut impl Read) -> (u64, u64) {
    let mut sum = Sum::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return (sum.length, sum.value),
            Ok(length) => sum.add(&buffer[..length]),
        }
    }
}

/// Sends `length` bytes that depend on `seed`; tells their sum.
pub(crate) fn send_noise(stream: &mut impl Write, length: u64, seed: u64) -> std::io::Result<u64> {
    let mut sum = Sum::default();
    let mut noise = Noise(seed);
    let mut left = length;
    // A size that does not divide anything.
    let mut block = vec![0; 61_441];
    while left > 0 {
        let size = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        noise.fill(&mut block[..size]);
        stream.write_all(&block[..size])?;
        sum.add(&block[..size]);
        left -= size as u64;
    }
    Ok(sum.value)
}

pub(crate) fn noise_sum(length: u64, seed: u64) -> u64 {
    send_noise(&mut std::io::sink(), length, seed).unwrap()
}

struct Noise(u64);

impl Noise {
    fn fill(&mut self, block: &mut [u8]) {
        for chunk in block.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = (self.0 ^ (self.0 >> 29)).to_le_bytes();
            let length = chunk.len();
            chunk.copy_from_slice(&word[..length]);
        }
    }
}

/// Depends on every byte and on their order, not on how they were cut into pieces.
#[derive(Default)]
struct Sum {
    length: u64,
    value: u64,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.value = self.value.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*byte);
        }
        self.length += bytes.len() as u64;
    }
}

fn udp_echo(address: &str) {
    let address = if address.contains(':') { address.to_owned() } else { format!("[::]:{address}") };
    let socket = UdpSocket::bind(address).unwrap();
    println!("\nup");
    let mut buffer = [0; 65_536];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..length], peer).unwrap();
    }
}

/// Answers every connection's first byte with a reset.
fn reset(port: &str) {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    println!("\nup");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.read_exact(&mut [0]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
}

/// Greets every connection by one byte and keeps it.
fn hold(port: &str) {
    let listener = listen_to_many(&format!("0.0.0.0:{port}"));
    println!("\nup");
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.write_all(b"!").unwrap();
        kept.push(stream);
    }
}

/// Whom the library's backlog of 128 has no room for believes to be connected. One that is silent is never told that he is
/// not, another one after a minute, by a reset.
fn listen_to_many(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    rustix::net::listen(&listener, 4096).unwrap();
    listener
}

/// Closes its side of the first connection at once and takes everything; tells the next connection what that was.
fn close_first(port: &str) {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    println!("\nup");
    let (mut stream, _) = listener.accept().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (length, sum) = take_all(&mut stream);
    drop(stream);
    let (mut stream, _) = listener.accept().unwrap();
    write!(stream, "{length} {sum}").unwrap();
}

/// Where connections are cut: at the first bytes, and around the sizes of segments, pipes and buffers.
pub(crate) const CUTS: [u64; 30] = [
    0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 1447, 1448, 1449, 4095, 4096, 4097, 32_767, 32_768, 32_769, 65_535,
    65_536, 65_537, 131_071, 131_072, 131_073, 524_287, 524_288, 524_289, 1_000_003, 3_000_017,
];

/// Sends each client as many bytes as it asks for by 20 digits, and resets the connection.
fn cut(address: &str) {
    let address = if address.contains(':') { address.to_owned() } else { format!("0.0.0.0:{address}") };
    let listener = TcpListener::bind(address).unwrap();
    println!("\nup");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut length = [0; 20];
        stream.read_exact(&mut length).unwrap();
        let length = std::str::from_utf8(&length).unwrap().parse().unwrap();
        let _ = send_noise(&mut stream, length, 1);
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
}

/// Tells every second client what the one before did: how many bytes of noise came, how that ended, and whether they were right.
/// All are greeted first.
fn witness(port: &str, greeting: &str) {
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    println!("\nup");
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(greeting.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut taken = Vec::new();
        let end = match stream.read_to_end(&mut taken) {
            Ok(_) => "end".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "reset".to_owned(),
            Err(error) => error.kind().to_string(),
        };
        let (mut stream, _) = listener.accept().unwrap();
        write!(stream, "{greeting}{} {end} {}", taken.len(), is_noise(&taken, 1)).unwrap();
    }
}

/// Asks the role [`cut`] for every length of [`CUTS`]; `true`, or what was wrong.
fn take(address: &str) {
    for length in CUTS {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{length:020}").unwrap();
        let mut taken = Vec::new();
        let end = stream.read_to_end(&mut taken).map_err(|error| error.kind());
        let is_prefix = taken.len() as u64 <= length && is_noise(&taken, 1);
        if !is_prefix || end != Err(std::io::ErrorKind::ConnectionReset) {
            println!("\nreply {length}: {} bytes, {end:?}, right: {is_prefix}", taken.len());
            return;
        }
    }
    println!("\nreply true");
}

/// `address:port length`: waits for the end of what the server sends, then sends; what the role [`close_first`] tells of it.
fn send_after_end(argument: &str) {
    let (address, length) = argument.split_once(' ').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    assert_eq!(take_all(&mut stream).0, 0);
    send_noise(&mut stream, length.parse().unwrap(), 1).unwrap();
    drop(stream);
    let mut told = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut told).unwrap();
    println!("\nreply {told}");
}

/// Whether these are the first bytes that [`send_noise`] sends.
pub(crate) fn is_noise(bytes: &[u8], seed: u64) -> bool {
    let mut expected = Vec::new();
    send_noise(&mut expected, bytes.len() as u64, seed).unwrap();
    bytes == expected
}

/// `address:port hex` -> the answer in hexadecimal, or `none`.
fn ask_udp(argument: &str, patience: Duration) {
    let (address, packet) = argument.split_once(' ').unwrap();
    let mut reply = [0; 65_536];
    let asked = connected_udp(address).and_then(|socket| {
        socket.set_read_timeout(Some(patience))?;
        socket.send(&from_hex(packet))?;
        socket.recv(&mut reply)
    });
    match asked {
        Ok(length) => println!("\nreply {}", to_hex(&reply[..length])),
        Err(_) => println!("\nreply none"),
    }
}

fn connected_udp(address: &str) -> std::io::Result<UdpSocket> {
    let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket)
}

/// `address:port count`: sends so many datagrams of different lengths to the role [`udp_echo`], a few ahead; how many came
/// back as they were, and how many did not.
fn ask_udp_often(argument: &str) {
    const WINDOW: u64 = 8;
    let (address, count) = argument.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    let socket = connected_udp(address).unwrap();
    // A number, and noise that depends on it.
    let datagram = |number: u64| {
        let mut datagram = number.to_be_bytes().to_vec();
        send_noise(&mut datagram, 37 * number % 1400, number + 1).unwrap();
        datagram
    };
    let mut right = std::collections::BTreeSet::new();
    let mut wrong = 0;
    let mut take = |patience: Duration| {
        socket.set_read_timeout(Some(patience)).unwrap();
        let mut reply = [0; 65_536];
        let Ok(length) = socket.recv(&mut reply) else { return false };
        let number = reply.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        if number < count && reply[..length] == datagram(number) {
            right.insert(number);
        } else {
            wrong += 1;
        }
        true
    };
    for number in 0..count {
        socket.send(&datagram(number)).unwrap();
        if number >= WINDOW {
            take(PATIENCE / 60);
        }
    }
    while take(PATIENCE / 3) {}
    println!("\nreply {} {wrong}", right.len());
}

/// `address:port length`: sends datagrams that must not be fragmented until the kernel knows what the path carries, then one
/// as long as that; its length if it comes back.
fn measure_path(argument: &str) {
    use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
    let (address, length) = argument.split_once(' ').unwrap();
    let socket = connected_udp(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let is_ipv4 = !address.starts_with('[');
    match is_ipv4 {
        true => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO),
        false => sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO),
    }
    .unwrap();
    socket.send(&vec![7; length.parse().unwrap()]).unwrap();
    let told = socket.recv(&mut [0; 65_536]).map_err(|error| error.raw_os_error());
    let told = told == Err(Some(rustix::io::Errno::MSGSIZE.raw_os_error()));
    let mtu = if is_ipv4 { sockopt::ip_mtu(&socket) } else { sockopt::ipv6_mtu(&socket) }.unwrap();
    // Headers of IP and of UDP.
    let longest = mtu as usize - if is_ipv4 { 28 } else { 48 };
    let echoed = socket.send(&vec![7; longest]).and_then(|_| socket.recv(&mut [0; 65_536]));
    println!("\nreply told {told}, {mtu}, echoed {}", echoed.is_ok_and(|length| length == longest));
}

/// `address:port count`: so many connections at once, silent until it is killed; those that are not let in try on.
fn crowd(argument: &str) {
    let (address, count) = argument.split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    for _ in 0..count.parse().unwrap() {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            while stream.read(&mut [0]).is_ok_and(|length| length > 0) {}
        });
    }
    println!("\nup");
    std::thread::park();
}

/// `address:port count`: so many connections to the role [`exchange`], one after the other; whether every byte was right.
fn exchange_often(argument: &str) {
    let (address, count) = argument.split_once(' ').unwrap();
    let count: u64 = count.parse().unwrap();
    println!("\nreply {}", (0..count).all(|length| is_exchanged(address, length)));
}

/// `milliseconds address:port...`: short connections to the role [`exchange`] for so long, 250 a second to each address as far
/// as the machine keeps up; how many there were, if every byte was right.
fn hurry(argument: &str) {
    const PACE: Duration = Duration::from_millis(4);
    let (duration, addresses) = argument.split_once(' ').unwrap();
    let duration = Duration::from_millis(duration.parse().unwrap());
    let begin = std::time::Instant::now();
    let hurry = |address: &str| {
        let mut count = 0;
        while begin.elapsed() < duration {
            assert!(is_exchanged(address, u64::from(count) * 37 % 2000), "{address}");
            count += 1;
            std::thread::sleep((begin + PACE * count).saturating_duration_since(std::time::Instant::now()));
        }
        count
    };
    let hurry = &hurry;
    let count: u32 = std::thread::scope(|scope| {
        let clients: Vec<_> =
            addresses.split(' ').map(|address| scope.spawn(move || hurry(address))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    println!("\nreply {count}");
}

/// `server name address count`: asks for the address of the name, always a window ahead; how many answers were right.
fn ask_many(argument: &str) {
    use domain::base::iana::Rtype;
    use domain::base::{Message, MessageBuilder, Name};
    use domain::rdata::A;
    const WINDOW: u16 = 128;
    let words: Vec<&str> = argument.split(' ').collect();
    let [server, name, address, count] = words[..] else { panic!("{argument}") };
    let (name, address): (Name<Vec<u8>>, std::net::Ipv4Addr) =
        (name.parse().unwrap(), address.parse().unwrap());
    let count: u16 = count.parse().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    socket.connect(server).unwrap();
    let ask = |id| {
        let mut query = MessageBuilder::new_vec();
        query.header_mut().set_id(id);
        let mut query = query.question();
        query.push((&name, Rtype::A)).unwrap();
        socket.send(&query.finish()).unwrap();
    };
    (0..WINDOW.min(count)).for_each(ask);
    let mut right = std::collections::BTreeSet::new();
    let mut reply = [0; 4096];
    for asked in WINDOW..count + WINDOW {
        let length = socket.recv(&mut reply).unwrap();
        let reply = Message::from_octets(&reply[..length]).unwrap();
        let told: Vec<_> =
            reply.answer().unwrap().limit_to::<A>().map(|one| one.unwrap().data().addr()).collect();
        if told == [address] {
            right.insert(reply.header().id());
        }
        if asked < count {
            ask(asked);
        }
    }
    println!("\nreply {} right", right.len());
}

fn ask_tcp(argument: &str, patience: Duration) {
    let (address, packet) = argument.split_once(' ').unwrap();
    let asked = || -> std::io::Result<Vec<u8>> {
        let address: SocketAddr = address.parse().unwrap();
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let packet = from_hex(packet);
        stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes())?;
        stream.write_all(&packet)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply)?;
        stream.shutdown(Shutdown::Both)?;
        Ok(reply)
    };
    println!("\nreply {}", asked().map_or("none".into(), |reply| to_hex(&reply)));
}

/// Connects to the role [`hold`] and stays connected.
fn stay(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    println!("\nup");
    stream.read_exact(&mut [0]).unwrap();
}

/// Tries every address and port by TCP and by UDP; those at which somebody answers, in their order.
fn sweep(targets: &str) {
    let try_tcp = |target: SocketAddr| TcpStream::connect_timeout(&target, PATIENCE).is_ok();
    let try_udp = |target: SocketAddr| -> std::io::Result<bool> {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(target)?;
        socket.send(b"?")?;
        socket.recv(&mut [0; 64]).map(|_| true)
    };
    let found = std::thread::scope(|scope| {
        let tried: Vec<_> = targets
            .split(' ')
            .map(|target| target.parse().unwrap())
            .flat_map(|target| {
                let tcp = scope.spawn(move || try_tcp(target).then(|| format!("tcp:{target}")));
                let udp = scope.spawn(move || {
                    try_udp(target).is_ok_and(|answered| answered).then(|| format!("udp:{target}"))
                });
                [tcp, udp]
            })
            .collect();
        tried.into_iter().filter_map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    println!("\nreply {}", found.join(" "));
}

/// Whether a TCP connection comes about.
fn connect(address: &str) {
    let result = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE);
    println!("\nreply {}", result.map_or_else(|error| error.kind().to_string(), |_| "connected".into()));
}

/// `address:port length`: what [`exchange`] is for. Tells whether every byte was right both ways.
fn send(argument: &str) {
    let (address, length) = argument.split_once(' ').unwrap();
    println!("\nreply {}", is_exchanged(address, length.parse().unwrap()));
}

fn is_exchanged(address: &str, length: u64) -> bool {
    let mut stream = TcpStream::connect(address).unwrap();
    let sent = send_noise(&mut stream, length, 1).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut told = [0; 41];
    stream.read_exact(&mut told).unwrap();
    told == *format!("{length:020} {sent:020}").as_bytes()
        && take_all(&mut stream) == (length, noise_sum(length, 2))
}

/// Accepts on an address and port, for ever; tells each client its address.
fn listen(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("\nup");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        // One that has reset the connection by now wants to know nothing.
        let Ok(peer) = stream.peer_addr() else { continue };
        let _ = write!(stream, "{}", peer.ip());
    }
}

/// `address [manner]`: a name server that knows one name: `known.example` has address 203.0.113.7. It answers at once, `slow`,
/// only that it cannot (`failing`), or `garbage`.
fn dns(argument: &str) {
    use domain::base::iana::{Class, Rcode};
    use domain::base::{Message, MessageBuilder};
    use domain::rdata::A;
    let (address, manner) = argument.split_once(' ').unwrap_or((argument, ""));
    let manner = manner.to_owned();
    let is_garbage = manner == "garbage";
    let replies = move |query: &[u8]| {
        if is_garbage {
            return garbage(query);
        }
        let query = Message::from_octets(query).unwrap();
        let question = query.sole_question().unwrap();
        let is_known = question.qname().to_string() == "known.example";
        let rcode = match manner.as_str() {
            "failing" => Rcode::SERVFAIL,
            _ if is_known => Rcode::NOERROR,
            _ => Rcode::NXDOMAIN,
        };
        if manner == "slow" {
            std::thread::sleep(PATIENCE / 2);
        }
        let mut answer = MessageBuilder::new_vec().start_answer(&query, rcode).unwrap();
        if rcode == Rcode::NOERROR {
            answer.push((question.qname(), Class::IN, 60, A::new([203, 0, 113, 7].into()))).unwrap();
        }
        vec![answer.finish()]
    };
    let socket = UdpSocket::bind(address).unwrap();
    let listener = TcpListener::bind(address).unwrap();
    println!("\nup");
    let replies_by_tcp = replies.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            // Whoever has seen enough goes.
            for reply in replies_by_tcp(&query) {
                let _ = stream.write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes());
                let _ = stream.write_all(&reply);
            }
            if is_garbage {
                // Less than the length says.
                let _ = stream.write_all(&[0xff, 0xff, 0, 1]);
            }
        }
    });
    let mut query = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut query).unwrap();
        for reply in replies(&query[..length]) {
            let _ = socket.send_to(&reply, peer);
        }
    }
}

/// Everything but an answer.
fn garbage(query: &[u8]) -> Vec<Vec<u8>> {
    let changed = |at: usize, value: u8| {
        let mut packet = query.to_vec();
        packet[at] = value;
        packet
    };
    // The highest bit of the third byte makes a query an answer, the fifth and sixth count questions (RFC 1035, 4.1.1).
    let answer = changed(2, query[2] | 0x80);
    let answer_but = |at: usize, value: u8| {
        let mut packet = answer.clone();
        packet[at] = value;
        packet
    };
    let mut noise = vec![0; 512];
    Noise(u64::from(query[1])).fill(&mut noise);
    vec![
        Vec::new(),
        vec![0],
        query.to_vec(),
        answer[..12].to_vec(),
        answer[..answer.len() - 1].to_vec(),
        answer_but(1, query[1] ^ 1),
        answer_but(5, 0),
        answer_but(5, 2),
        // Another name, a name that points to itself, another kind of record.
        answer_but(13, b'?'),
        [&answer[..12], &[0xc0, 12], &answer[answer.len() - 4..]].concat(),
        answer_but(answer.len() - 3, 99),
        [&query[..2], &noise].concat(),
        noise,
    ]
}

/// Tells everybody who comes to a port, by TCP or UDP, from which address and port.
fn tell(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let socket = UdpSocket::bind(address).unwrap();
    println!("\nup");
    let of = |peer: SocketAddr| SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // A peer that has gone tells nothing.
            let Ok(peer) = stream.peer_addr() else { continue };
            let _ = write!(stream, "{}", of(peer));
        }
    });
    loop {
        let (_, peer) = socket.recv_from(&mut [0; 64]).unwrap();
        let _ = socket.send_to(of(peer).as_bytes(), peer);
    }
}

/// `tcp|udp address:port`: what the role [`tell`] tells, and what it ought to: `told own`.
fn be_told(argument: &str) {
    let (protocol, address) = argument.split_once(' ').unwrap();
    let mut told = String::new();
    let own = if protocol == "tcp" {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        stream.read_to_string(&mut told).unwrap();
        stream.local_addr().unwrap()
    } else {
        let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        socket.connect(address).unwrap();
        socket.send(b"?").unwrap();
        let mut reply = [0; 64];
        let length = socket.recv(&mut reply).unwrap();
        told = String::from_utf8(reply[..length].to_vec()).unwrap();
        socket.local_addr().unwrap()
    };
    println!("\nreply {told} {own}");
}

/// How a connection that says nothing ends.
fn reset_by(address: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => println!("\nreply reset"),
        other => println!("\nreply {other:?}"),
    }
}

/// `port address:port…`: with which of them a connection comes about from that port of its own.
fn connect_from(argument: &str) {
    use socket2::{Domain, Socket, Type};
    let mut words = argument.split(' ');
    let port: u16 = words.next().unwrap().parse().unwrap();
    let reaches = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
        // Its port is wanted again.
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        socket.connect_timeout(&address.into(), PATIENCE).is_ok()
    };
    let reached = std::thread::scope(|scope| {
        let tried: Vec<_> =
            words.map(|word| (word, scope.spawn(move || reaches(word.parse().unwrap())))).collect();
        tried
            .into_iter()
            .filter_map(|(word, tried)| tried.join().unwrap().then_some(word))
            .collect::<Vec<_>>()
    });
    println!("\nreply {}", reached.join(" "));
}

/// Breaks connections to a greeting [`witness`] off after those lengths of [`CUTS`] that the kernel takes at once, though nothing
/// arrives; `true`, or what was told of one.
fn break_off(address: &str) {
    for length in CUTS.into_iter().filter(|length| *length <= 32_769) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        send_noise(&mut stream, length, 1).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        let (seen, end) = told.strip_prefix('!').unwrap().split_once(' ').unwrap();
        if end != "reset true" || seen.parse::<u64>().unwrap() > length {
            println!("\nreply {length}: {told}");
            return;
        }
    }
    println!("\nreply true");
}

/// `address hex`: an echo request that carries this, after its sequence number; what comes back.
/// Writes the first datagram that comes to a port into a file.
fn hear(argument: &str) {
    let (port, file) = argument.split_once(' ').unwrap();
    let socket = UdpSocket::bind(format!("0.0.0.0:{port}")).unwrap();
    println!("\nup");
    let mut data = [0; 100];
    let length = socket.recv(&mut data).unwrap();
    std::fs::write(file, &data[..length]).unwrap();
}

/// Sends a datagram whose IPv4 header is written here: in the name of any address (raw(7)).
fn forge(argument: &str) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
    let words: Vec<&str> = argument.split(' ').collect();
    let [source, to, text] = words[..] else { panic!("{argument}") };
    let (source, to): (Ipv4Addr, SocketAddrV4) = (source.parse().unwrap(), to.parse().unwrap());
    let length = u16::try_from(28 + text.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    // No fragment, 64 hops, UDP; the kernel fills in the checksum, and UDP needs none.
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.octets().into_iter().chain(to.ip().octets()));
    packet.extend([4000_u16, to.port(), length - 20, 0].map(u16::to_be_bytes).concat());
    packet.extend(text.bytes());
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap();
    // A refusal by the container's own routes is as good as one later.
    let sent = rustix::net::sendto(&socket, &packet, SendFlags::empty(), &to);
    println!("\nreply {}", sent.is_ok());
}

fn ping(argument: &str) {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, sockopt};
    let (address, data) = argument.split_once(' ').unwrap();
    let address: std::net::IpAddr = address.parse().unwrap();
    let (family, protocol, request) = match address.is_ipv4() {
        true => (AddressFamily::INET, ipproto::ICMP, 8),
        false => (AddressFamily::INET6, ipproto::ICMPV6, 128),
    };
    let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol)).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    let packet = [&[request, 0, 0, 0, 0, 0, 0, 7][..], &from_hex(data)].concat();
    let mut reply = vec![0; 65_536];
    let asked = rustix::net::connect(&socket, &SocketAddr::new(address, 0))
        .and_then(|()| rustix::net::send(&socket, &packet, SendFlags::empty()))
        .and_then(|_| rustix::net::recv(&socket, &mut reply[..], RecvFlags::empty()));
    println!("\nreply {}", asked.map_or("none".into(), |(length, _)| to_hex(&reply[6..length])));
}

/// `connect`, `disconnect` or `is-connected`, and the project's socket: what root's command line does.
fn uplink(argument: &str) {
    use dpack_network::{Client, uplink};
    let (action, socket) = argument.split_once(' ').unwrap();
    let socket = std::path::Path::new(socket);
    let told = |done: Result<(), uplink::UplinkError>| {
        done.map_or_else(|error| format!("{error:?}"), |()| "done".into())
    };
    let said = match action {
        "connect" => {
            let namespace = Client::connect(socket).unwrap().network_namespace().unwrap();
            told(uplink::connect(socket, namespace))
        }
        "connect-to-itself" => {
            told(uplink::connect(socket, std::fs::File::open("/proc/thread-self/ns/net").unwrap()))
        }
        "disconnect" => told(uplink::disconnect(socket)),
        _ => uplink::is_connected(socket).to_string(),
    };
    println!("\nreply {said}");
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
