//! Paths from the device to a host beyond it that are long, lossy or narrow.
//!
//! netem(8) would do the first two where a kernel has it; many have not, so a role of this test program takes its place: it
//! passes frames on between two links, late, out of order, or not at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{Container, Process, Project};

/// Every frame takes at least that long, and up to twice that.
pub(crate) const DELAY: Duration = Duration::from_millis(8);
/// One of so many frames is lost.
const LOSS: u64 = 80;
/// What a narrow path carries: as little as IPv6 allows.
pub(crate) const NARROW: u32 = 1280;

/// A host behind a bad link: 192.0.2.1.
pub(crate) struct BadPath {
    pub(crate) far: Container,
    _between: Container,
    _relay: Process,
    /// Where the relay tells how many frames were lost, and how many overtaken.
    told: PathBuf,
}

impl BadPath {
    /// How many frames were lost, and how many came after one that was sent later.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(&self.told).unwrap();
        let (lost, overtaken) = text.split_once(' ').unwrap();
        (lost.parse().unwrap(), overtaken.parse().unwrap())
    }
}

impl Project {
    /// A host beyond the device that is reached by a bad link.
    pub(crate) fn far_by_a_bad_link(&self) -> BadPath {
        // Frames as they are on a wire: nothing is left to be cut by a network card.
        assert!(self.on_device(&["ip", "link", "set", "out0", "gso_max_segs", "1"]).success());
        let between = self.beyond(
            "between",
            "out1",
            "ip link add far0 type veth peer name far1 && ip link set far0 up &&
             for link in out1 far0; do echo 1 > /proc/sys/net/ipv6/conf/$link/disable_ipv6; done",
        );
        let far = self.container("far");
        move_link(&between, "far1", &far);
        done(
            &far,
            "ip link set far1 gso_max_segs 1 && ip link set far1 up && ip addr add 192.0.2.1/24 dev far1 &&
             ip route add 198.51.100.0/24 dev far1",
        );
        let told = self.folder.path().join("bad-link");
        std::fs::write(&told, "0 0").unwrap();
        let relay = between.serve("bad-link", &told.display().to_string());
        BadPath { far, _between: between, _relay: relay, told }
    }

    /// A host beyond the device, 192.0.2.1 and 2001:db8:2::1, and the router on the way, which passes on no packet longer
    /// than [`NARROW`] and says so.
    pub(crate) fn far_by_a_narrow_path(&self) -> (Container, Container) {
        let router = self.beyond(
            "router",
            "out1",
            &format!(
                "ip link add far0 type veth peer name far1 && ip link set far0 up &&
                 ip addr add 198.51.100.2/32 dev out1 && ip addr add 2001:db8::2/128 dev out1 nodad &&
                 ip addr add 192.0.2.2/32 dev far0 && ip addr add 2001:db8:2::2/128 dev far0 nodad &&
                 ip route add 198.51.100.0/24 dev out1 mtu lock {NARROW} && ip route add 192.0.2.0/24 dev far0 mtu lock {NARROW} &&
                 ip route add 2001:db8::/64 dev out1 mtu lock {NARROW} && ip route add 2001:db8:2::/64 dev far0 mtu lock {NARROW} &&
                 echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
            ),
        );
        let far = self.container("far");
        move_link(&router, "far1", &far);
        done(
            &far,
            "ip link set far1 up && ip addr add 192.0.2.1/24 dev far1 && ip addr add 2001:db8:2::1/64 dev far1 nodad &&
             ip route add default via 192.0.2.2 && ip route add default via 2001:db8:2::2",
        );
        let routes =
            "ip route replace 192.0.2.0/24 via 198.51.100.2 && ip route add 2001:db8:2::/64 via 2001:db8::2";
        assert!(self.on_device(&["sh", "-c", routes]).success());
        (far, router)
    }
}

fn move_link(from: &Container, link: &str, to: &Container) {
    done(from, &format!("ip link set {link} netns {}", to.process.pid()));
}

fn done(container: &Container, script: &str) {
    let (done, said) = container.run(&["sh", "-c", script]);
    assert!(done, "{said}");
}

/// A frame on its way, the next one to arrive first.
type Frame = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// Passes frames on between `out1` and `far0`, for ever; tells in a file what became of them.
pub(crate) fn relay(file: &str) {
    let ends = ["out1", "far0"].map(packet_socket);
    println!("\nup");
    let mut on_their_way: BinaryHeap<Frame> = BinaryHeap::new();
    let (mut number, mut lost, mut overtaken) = (0, 0, 0);
    // The highest number that has arrived, of each direction.
    let mut latest = [0; 2];
    let mut random: u64 = 1;
    loop {
        let wait =
            on_their_way.peek().map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        let wait = wait.map(|wait| Timespec::try_from(wait).unwrap());
        let mut waiting = ends.each_ref().map(|end| PollFd::new(end, PollFlags::IN));
        let _ = poll(&mut waiting, wait.as_ref());
        for (from, end) in ends.iter().enumerate() {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, _)) = rustix::net::recv(end, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                number += 1;
                // The higher half of a linear congruential generator's state.
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if (random >> 33).is_multiple_of(LOSS) {
                    lost += 1;
                    continue;
                }
                let mut frame = buffer[..length].to_vec();
                finish_checksum(&mut frame);
                let jitter = DELAY.mul_f64((random >> 40) as f64 / (1 << 24) as f64);
                on_their_way.push(Reverse((Instant::now() + DELAY + jitter, number, 1 - from, frame)));
            }
        }
        while on_their_way.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, number, to, frame))) = on_their_way.pop() else { break };
            let _ = rustix::net::send(&ends[to], &frame, SendFlags::empty());
            overtaken += u64::from(number < latest[to]);
            latest[to] = number.max(latest[to]);
        }
        write(file.as_ref(), &format!("{lost} {overtaken}"));
    }
}

/// Whole: whoever reads meanwhile reads the old text or the new one.
fn write(file: &Path, text: &str) {
    let aside = file.with_extension("new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, file).unwrap();
}

fn packet_socket(link: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None).unwrap();
    let index = rustix::net::netdevice::name_to_index(&socket, link).unwrap();
    dpack_sandbox::packet::listen(socket.as_fd(), index).unwrap();
    socket
}

/// Computes the checksum of a TCP segment or whole UDP datagram over IPv4: senders leave that to their network cards.
fn finish_checksum(frame: &mut [u8]) {
    const ETHERNET: usize = 14;
    const IPV4: [u8; 2] = [8, 0];
    if frame.get(12..ETHERNET) != Some(&IPV4) {
        return;
    }
    let packet = &mut frame[ETHERNET..];
    let header = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let is_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    let at = match packet[9] {
        6 => header + 16,
        17 => header + 6,
        _ => return,
    };
    if is_fragment || total > packet.len() {
        return;
    }
    packet[at..at + 2].fill(0);
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let length = u32::try_from(total - header).unwrap();
    let mut sum = words(&packet[12..20]) + u32::from(packet[9]) + length + words(&packet[header..total]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[at..at + 2].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
}
