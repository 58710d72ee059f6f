//! From each container every address, port and name is tried; what answers is what may, and nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::{Container, Project, published, tcp, wait_until};
use dpack_network::{Attached, Client, HOST_GATEWAY, NetworkConfig};

const DEVICE_IPV4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const DEVICE_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const DEVICE: [IpAddr; 2] = [IpAddr::V4(DEVICE_IPV4), IpAddr::V6(DEVICE_IPV6)];
/// Loopback in many spellings, and what lies between the device and projects.
const NEVER: [&str; 9] = [
    "127.0.0.1",
    "127.0.0.2",
    "0.0.0.0",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.1.1",
    "169.254.2.1",
    "169.254.2.2",
    "255.255.255.255",
];
/// Of each container; of the device on all addresses; of its loopback; of names.
const SERVICE: u16 = 7000;
const DEVICE_SERVICE: u16 = 7002;
const LOOPBACK_SERVICE: u16 = 7003;
const NAMES: u16 = 53;

struct Member {
    container: Container,
    attached: Attached,
    has_way_out: bool,
}

impl Member {
    fn new(project: &Project, client: &mut Client, name: &str, networks: &[&str]) -> Member {
        let container = project.container(name);
        let places: Vec<(&str, &[&str])> = networks.iter().map(|network| (*network, &[][..])).collect();
        let attached = container.attach(client, &places, &[tcp(SERVICE)]);
        Member { container, attached, has_way_out: networks.iter().any(|network| *network != "inside") }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.attached.addresses().collect()
    }

    fn gateways(&self) -> Vec<IpAddr> {
        self.attached.interfaces.iter().flat_map(|interface| interface.gateways.clone()).collect()
    }

    /// What of the other's it may reach: addresses on networks that both are on.
    fn shared(&self, other: &Member) -> Vec<IpAddr> {
        let is_mine = |network: &str| self.attached.interfaces.iter().any(|own| own.network == network);
        let shared = other.attached.interfaces.iter().filter(|interface| is_mine(&interface.network));
        shared.flat_map(|interface| interface.ips()).collect()
    }

    /// Whether it has an address of this family on a network with a way out.
    fn goes_out(&self, address: IpAddr) -> bool {
        let is_out = |network: &str| network != "inside";
        let mut interfaces = self.attached.interfaces.iter().filter(|interface| is_out(&interface.network));
        self.has_way_out
            && interfaces.any(|interface| interface.ips().any(|own| own.is_ipv4() == address.is_ipv4()))
    }
}

#[test]
fn what_must_not_be_reached_is_not_by_any_address_port_or_name() {
    let config = |key: &str, ipv6, internal| NetworkConfig {
        key: key.into(),
        ipv6,
        internal,
        ..NetworkConfig::default()
    };
    let networks = [config("front", true, false), config("back", false, false), config("inside", true, true)];
    let (project, mut client) = Project::on_a_device(&networks);
    let (strange, mut strange_client) = Project::on_the_device_of(&project, &networks);
    let members = [
        Member::new(&project, &mut client, "web", &["front", "back"]),
        Member::new(&project, &mut client, "db", &["back"]),
        Member::new(&project, &mut client, "page", &["front"]),
        Member::new(&project, &mut client, "job", &["inside"]),
    ];
    let thief = Member::new(&strange, &mut strange_client, "thief", &["front"]);
    let port = SERVICE.to_string();
    let everybody = || members.iter().chain([&thief]);
    let _services: Vec<_> = everybody()
        .flat_map(|one| ["exchange", "udp-echo"].map(|role| one.container.serve(role, &port)))
        .collect();
    let _device = [
        project.serve("listen", &format!("[::]:{DEVICE_SERVICE}")),
        project.serve("udp-echo", &format!("[::]:{DEVICE_SERVICE}")),
        project.serve("listen", &format!("127.0.0.1:{LOOPBACK_SERVICE}")),
        project.serve("listen", &format!("[::1]:{LOOPBACK_SERVICE}")),
        project.serve("udp-echo", &format!("127.0.0.1:{LOOPBACK_SERVICE}")),
    ];

    sweep(&members, &thief, false);
    for (one, client) in [(&project, &mut client), (&strange, &mut strange_client)] {
        wait_until("what was relayed has ended", || client.status().unwrap().connections == 0);
        assert_eq!(one.uplink("connect"), "done");
    }
    sweep(&members, &thief, true);
}

/// `is_forwarded`: the kernel forwards what goes out over IPv4.
fn sweep(members: &[Member], thief: &Member, is_forwarded: bool) {
    let everybody = || members.iter().chain([thief]);
    let never = || NEVER.iter().map(|address| address.parse::<IpAddr>().unwrap());
    let addresses: BTreeSet<IpAddr> = everybody()
        .flat_map(|one| [one.addresses(), one.gateways()].concat())
        .chain(DEVICE)
        .chain(never())
        .chain([HOST_GATEWAY.into()])
        .collect();
    let mut ports = BTreeSet::from([SERVICE, DEVICE_SERVICE, LOOPBACK_SERVICE, NAMES]);
    ports.extend(everybody().map(|one| published(&one.attached).port()));
    std::thread::scope(|scope| {
        for member in everybody() {
            let (addresses, ports) = (&addresses, &ports);
            scope.spawn(move || member.try_all((addresses, ports), (members, thief), is_forwarded));
        }
    });
}

impl Member {
    fn try_all(
        &self,
        (addresses, ports): (&BTreeSet<IpAddr>, &BTreeSet<u16>),
        (members, thief): (&[Member], &Member),
        is_forwarded: bool,
    ) {
        let is_own = |target: &SocketAddr| {
            let ip = target.ip().to_canonical();
            ip.is_loopback() || ip.is_unspecified() || self.addresses().contains(&ip)
        };
        let targets: BTreeSet<SocketAddr> =
            addresses.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port))).collect();
        // What it has itself says nothing.
        let targets = targets.into_iter().filter(|target| !(is_own(target) && target.port() == SERVICE));
        let list: Vec<String> = targets.map(|target| target.to_string()).collect();

        let is_thief = std::ptr::eq(self, thief);
        let of_project = members.iter().filter(|_| !is_thief);
        let neighbours = of_project.filter(|other| !std::ptr::eq(*other, self));
        let mut expected = BTreeSet::new();
        for address in neighbours.clone().flat_map(|other| self.shared(other)) {
            let target = SocketAddr::new(address, SERVICE);
            expected.extend([format!("tcp:{target}"), format!("udp:{target}")]);
        }
        for gateway in self.gateways() {
            expected.insert(format!("tcp:{}", SocketAddr::new(gateway, NAMES)));
        }
        let device = DEVICE.into_iter().chain([HOST_GATEWAY.into()]);
        for address in device.filter(|address| self.goes_out(*address)) {
            let target = SocketAddr::new(address, DEVICE_SERVICE);
            expected.insert(format!("tcp:{target}"));
            // Who listens on all addresses answers with that of the link, which is another one then.
            if !(is_forwarded && target.ip() == IpAddr::from(DEVICE_IPV4)) {
                expected.insert(format!("udp:{target}"));
            }
        }
        let answered = self.container.ask("sweep", &list.join(" "));
        let answered: BTreeSet<String> = answered.split(' ').map(str::to_owned).collect();
        assert_eq!(answered, expected, "from {}", self.container.name);

        for other in members.iter().chain([thief]) {
            let is_known = std::ptr::eq(other, self)
                || neighbours.clone().any(|one| std::ptr::eq(one, other) && !self.shared(one).is_empty());
            let told = self.container.resolve(&other.container.name);
            assert_eq!(
                !told.is_empty(),
                is_known,
                "{} asks for {}",
                self.container.name,
                other.container.name
            );
        }
    }
}
