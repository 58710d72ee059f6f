//! A project in a user namespace of its own, as the runner makes one, for an ordinary user as for root.
//!
//! Processes in it are this test program again ([`run_role`]) or small programs of the system, entered by nsenter(1).

pub(crate) mod path;
pub(crate) mod roles;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dpack_network::{Attach, Attached, Client, Membership, NetworkConfig, Port, Protocol};

const START_LIMIT: Duration = Duration::from_secs(20);

/// Descriptors that the network process keeps for later: pipes, of each of its threads.
pub(crate) const SPARE: usize = 64;

/// A child that ends with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Project {
    pub(crate) folder: tempfile::TempDir,
    /// Holds the folders of all projects of a user.
    runtime: Arc<tempfile::TempDir>,
    /// Holds the user namespace.
    user: Process,
    /// Holds the network namespace, as a shim does.
    pub(crate) shim: Option<Process>,
    pub(crate) network: Process,
    /// Whether the device is a network namespace of the test, not the machine's.
    has_device: bool,
}

pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) process: Process,
    resolv_conf: PathBuf,
}

impl Project {
    pub(crate) fn start(networks: &[&str]) -> (Project, Client) {
        Project::on(false, runtime(), &configs(networks))
    }

    /// Another project of the same user.
    pub(crate) fn beside(other: &Project, networks: &[&str]) -> (Project, Client) {
        Project::on(false, Arc::clone(&other.runtime), &configs(networks))
    }

    /// With a device of its own: a network namespace in which 198.51.100.1 is the only address besides loopback.
    pub(crate) fn on_a_device(networks: &[NetworkConfig]) -> (Project, Client) {
        Project::on(true, runtime(), networks)
    }

    /// Another project on the device of that one.
    pub(crate) fn on_the_device_of(other: &Project, networks: &[NetworkConfig]) -> (Project, Client) {
        let user = announced(user_command(other.user.pid(), true).args([
            "sh",
            "-c",
            "echo up && exec sleep infinity",
        ]));
        Project::of(user, true, Arc::clone(&other.runtime), networks)
    }

    fn on(
        has_device: bool,
        runtime: Arc<tempfile::TempDir>,
        networks: &[NetworkConfig],
    ) -> (Project, Client) {
        const DEVICE: &str = "ip link set lo up && ip link add out0 type veth peer name out1 &&
            ip link set out0 up && ip link set out1 up &&
            ip addr add 198.51.100.1/24 dev out0 && ip route add 192.0.2.0/24 dev out0 &&
            ip addr add 2001:db8::1/64 dev out0 nodad &&
            echo 0 > /proc/sys/net/ipv4/ip_forward && echo 0 0 > /proc/sys/net/ipv4/ping_group_range && ";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]);
        if has_device {
            command.arg("--net");
        }
        let script = format!("{}echo up && exec sleep infinity", if has_device { DEVICE } else { "" });
        let user = announced(command.args(["sh", "-c", &script]));
        Project::of(user, has_device, runtime, networks)
    }

    fn of(
        user: Process,
        has_device: bool,
        runtime: Arc<tempfile::TempDir>,
        networks: &[NetworkConfig],
    ) -> (Project, Client) {
        let folder = tempfile::tempdir_in(runtime.path()).unwrap();
        std::fs::write(folder.path().join("resolv.conf"), "").unwrap();
        let network = network_process(user_command(user.pid(), has_device), &socket(folder.path()), None);
        let mut project = Project { folder, runtime, user, shim: None, network, has_device };
        let mut client = project.client();
        client.configure(networks).unwrap();
        let namespace = client.network_namespace().unwrap();
        project.shim = Some(enter(project.user.pid(), &File::from(namespace)));
        (project, client)
    }

    /// What the device's resolv.conf says.
    pub(crate) fn set_resolv_conf(&self, text: &str) {
        std::fs::write(self.folder.path().join("resolv.conf"), text).unwrap();
    }

    /// Starts a role of this test program on the device and waits until it is up.
    pub(crate) fn serve(&self, role: &str, argument: &str) -> Process {
        let mut command = user_command(self.user.pid(), self.has_device);
        command.arg(test_program());
        announced(&mut role_command(command, role, argument))
    }

    /// Runs a command on the device.
    pub(crate) fn on_device(&self, words: &[&str]) -> std::process::ExitStatus {
        user_command(self.user.pid(), self.has_device).args(words).status().unwrap()
    }

    /// Standard output of a command on the device.
    pub(crate) fn told_on_device(&self, words: &[&str]) -> String {
        let output = user_command(self.user.pid(), self.has_device).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Makes, removes or looks for the kernel's way out, as root's command line does on the device; what came of it.
    pub(crate) fn uplink(&self, action: &str) -> String {
        self.ask("uplink", &format!("{action} {}", socket(self.folder.path()).display()))
    }

    /// Runs a role of this test program on the device; its output.
    pub(crate) fn ask(&self, role: &str, argument: &str) -> String {
        let mut command = user_command(self.user.pid(), self.has_device);
        command.arg(test_program());
        reply(role_command(command, role, argument))
    }

    /// A host beyond the device: 192.0.2.1.
    pub(crate) fn far(&self) -> Container {
        let script = "ip addr add 192.0.2.1/24 dev out1 && ip route add 198.51.100.0/24 dev out1";
        self.beyond("far", "out1", script)
    }

    /// A host on another link of the device: 10.99.0.2, for which the device is the router.
    pub(crate) fn neighbour(&self) -> Container {
        let script = "ip link add near0 type veth peer name near1 && ip link set near0 up && ip addr add 10.99.0.1/24 dev near0";
        assert!(self.on_device(&["sh", "-c", script]).success());
        self.beyond(
            "near",
            "near1",
            "ip addr add 10.99.0.2/24 dev near1 && ip route add default via 10.99.0.1",
        )
    }

    fn beyond(&self, name: &str, link: &str, script: &str) -> Container {
        let host = self.container(name);
        let moved = self.on_device(&["ip", "link", "set", link, "netns", &host.process.pid().to_string()]);
        assert!(moved.success());
        let (done, said) =
            host.run(&["sh", "-c", &format!("ip link set lo up && ip link set {link} up && {script}")]);
        assert!(done, "{said}");
        host
    }

    pub(crate) fn client(&self) -> Client {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match Client::connect(&socket(self.folder.path())) {
                Err(error) if error.is_absent() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                client => return client.unwrap(),
            }
        }
    }

    /// Kills the network process without warning and starts another one, which joins the shim's namespace.
    pub(crate) fn replace_network_process(&mut self) -> Client {
        let shim = self.shim.as_ref().unwrap().pid();
        self.network.0.kill().unwrap();
        self.network.0.wait().unwrap();
        let command = user_command(self.user.pid(), self.has_device);
        self.network = network_process(command, &socket(self.folder.path()), Some(shim));
        self.client()
    }

    /// A container: a network namespace, and a mount namespace with a resolv.conf.
    pub(crate) fn container(&self, name: &str) -> Container {
        let resolv_conf = self.folder.path().join(format!("{name}.resolv.conf"));
        std::fs::write(&resolv_conf, "").unwrap();
        let script = "mount --bind \"$0\" /etc/resolv.conf && echo up && exec sleep infinity";
        let mut command = user_command(self.user.pid(), false);
        command.args(["unshare", "--net", "--mount", "sh", "-c", script]).arg(&resolv_conf);
        let process = announced(&mut command);
        Container { name: name.to_owned(), process, resolv_conf }
    }
}

impl Container {
    pub(crate) fn attach(&self, client: &mut Client, places: &[(&str, &[&str])], ports: &[Port]) -> Attached {
        let attached = client.attach(&self.request(places, ports), self.namespace()).unwrap();
        if let Some(nameserver) = attached.nameserver {
            std::fs::write(&self.resolv_conf, format!("nameserver {nameserver}\noptions timeout:2\n"))
                .unwrap();
        }
        attached
    }

    pub(crate) fn request(&self, places: &[(&str, &[&str])], ports: &[Port]) -> Attach {
        let membership = |(network, aliases): &(&str, &[&str])| Membership {
            network: (*network).to_owned(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..Membership::default()
        };
        Attach {
            container: self.name.clone(),
            networks: places.iter().map(membership).collect(),
            ports: ports.to_vec(),
            ..Attach::default()
        }
    }

    pub(crate) fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.process.pid())).unwrap()
    }

    /// A command inside the container.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.process.pid().to_string();
        command.args(["--user", "--preserve-credentials", "--net", "--mount", "--target", &target]);
        command.arg(program);
        command
    }

    /// Standard output of a command inside the container, and whether it succeeded.
    pub(crate) fn run(&self, words: &[&str]) -> (bool, String) {
        let output = self.command(words[0]).args(&words[1..]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// What the resolver of the C library says of a name.
    pub(crate) fn resolve(&self, name: &str) -> Vec<Ipv4Addr> {
        let (_, text) = self.run(&["getent", "ahostsv4", name]);
        let mut addresses: Vec<Ipv4Addr> =
            text.lines().filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Starts a role of this test program inside and waits until it is up.
    pub(crate) fn serve(&self, role: &str, argument: &str) -> Process {
        announced(&mut role_command(self.command(test_program()), role, argument))
    }

    /// Runs a role of this test program inside; its output.
    pub(crate) fn ask(&self, role: &str, argument: &str) -> String {
        reply(role_command(self.command(test_program()), role, argument))
    }

    /// Loses one of fifty TCP segments that arrive in the container from now on; no resets, which nobody sends twice.
    pub(crate) fn lose_segments(&self) {
        self.lose("tcp flags & rst == 0 numgen random mod 50 == 0");
    }

    /// Loses what matches in the words of nftables.
    pub(crate) fn lose(&self, what: &str) {
        let rules = format!(
            "add table inet loss; add chain inet loss in {{ type filter hook input priority 0; }};
            add rule inet loss in {what} counter drop"
        );
        let (done, said) = self.run(&["nft", &rules]);
        assert!(done, "{said}");
    }

    /// How many were lost.
    pub(crate) fn lost(&self) -> u64 {
        let (_, rules) = self.run(&["nft", "list", "ruleset"]);
        let count = rules.split_once("counter packets ").and_then(|(_, rest)| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{rules}"))
    }

    /// The last run's process ends, a new one has a new network namespace.
    pub(crate) fn restart(&mut self, project: &Project) {
        *self = project.container(&self.name.clone());
    }
}

pub(crate) fn configs(networks: &[&str]) -> Vec<NetworkConfig> {
    networks.iter().map(|key| NetworkConfig { key: (*key).to_owned(), ..NetworkConfig::default() }).collect()
}

pub(crate) fn tcp(target: u16) -> Port {
    Port {
        target,
        published: None,
        published_last: None,
        host_ip: Some(Ipv4Addr::LOCALHOST.into()),
        protocol: Protocol::Tcp,
    }
}

/// The IPv4 address that stands first.
pub(crate) fn address(attached: &Attached) -> Ipv4Addr {
    let mut addresses = attached.addresses();
    addresses
        .find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .unwrap()
}

/// The first address of the first published port.
pub(crate) fn published(attached: &Attached) -> SocketAddr {
    attached.ports[0].addresses[0]
}

pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Resident memory that is the process's own, in KiB (proc_pid_smaps(5)).
pub(crate) fn private_memory(pid: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()).sum()
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + START_LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How long a test that goes on and on does so: `DPACK_TEST_SECONDS`, else what is usual.
pub(crate) fn seconds(usual: u64) -> Duration {
    let asked = std::env::var("DPACK_TEST_SECONDS").ok();
    Duration::from_secs(asked.map_or(usual, |text| text.parse().unwrap()))
}

fn runtime() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("network.sock")
}

fn network_process(mut command: Command, socket: &Path, join: Option<u32>) -> Process {
    command.arg(test_program());
    let join = join.map_or(String::new(), |pid| pid.to_string());
    announced(&mut role_command(command, "network", &format!("{} {join}", socket.display())))
}

/// A command in the user namespace, and on the device if it is one of the test; otherwise where the test is.
fn user_command(user: u32, on_device: bool) -> Command {
    let mut command = Command::new("nsenter");
    if on_device {
        command.arg("--net");
    }
    command.args(["--user", "--preserve-credentials", "--target", &user.to_string()]);
    command
}

fn enter(user: u32, namespace: &File) -> Process {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
    let mut command = user_command(user, false);
    command.arg(format!("--net={path}")).args(["sh", "-c", "echo up; exec sleep infinity"]);
    announced(&mut command)
}

fn test_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn role_command(mut command: Command, role: &str, argument: &str) -> Command {
    command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("DPACK_TEST_ROLE", role).env("DPACK_TEST_ARGUMENT", argument);
    command
}

/// What a role that ends by itself has to say.
fn reply(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let reply = text.lines().find_map(|line| line.strip_prefix("reply "));
    reply.unwrap_or_else(|| panic!("{text} {}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

/// Starts a command and waits until it has printed a line that says `up`.
fn announced(command: &mut Command) -> Process {
    let mut process = Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    let mut text = String::new();
    loop {
        let start = text.len();
        assert!(output.read_line(&mut text).unwrap() > 0, "{command:?} ended early: {text}");
        if text[start..].trim_end().ends_with("up") {
            break;
        }
    }
    std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
    process
}
