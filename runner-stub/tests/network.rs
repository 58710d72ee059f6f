//! Networks of a running application as its user meets them: the network process is killed, `network inspect`, `network capture`
//! read by tcpdump, `doctor --network`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, and one of them tells a time")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{App, eventually};

/// `echo` answers on 7000; `talker` holds one connection to it and writes down what comes back; `web` has a page.
fn app() -> App {
    let services = json!({
        "echo": {"command": ["nc", "-ll", "-p", "7000", "-e", "cat"], "networks": ["inside"], "init": true},
        "talker": {
            "command": ["sh", "-c",
                "n=0; while :; do n=$$((n+1)); echo $$n; sleep 0.02; done | nc echo 7000 > /tmp/heard"],
            "networks": ["inside"], "depends_on": ["echo"], "init": true,
        },
        "web": {
            "command": ["sh", "-c", "mkdir /tmp/www; echo ding > /tmp/www/index.html; exec httpd -f -h /tmp/www"],
            "ports": ["127.0.0.1::80", "127.0.0.1::81"], "networks": ["front", "inside"], "init": true,
        },
    });
    let networks = json!({"front": {}, "inside": {"internal": true, "labels": {"a": "b"}}});
    App::with_files(json!({"services": services, "networks": networks}), &BTreeMap::new())
}

impl App {
    fn pids(&self, role: &str) -> Vec<i32> {
        let (data, role) = (self.path("run"), format!("{role}\0"));
        let ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.starts_with(&role) && line.contains(data.to_str().unwrap())
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
    }

    fn published(&self) -> SocketAddr {
        self.ok(&["port", "web", "80"]).trim().parse().unwrap()
    }

    /// How many lines came back to `talker`.
    fn heard(&self) -> usize {
        self.ok(&["exec", "-T", "talker", "wc", "-l", "/tmp/heard"])
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

#[test]
fn connections_between_containers_outlive_the_network_process_and_everything_else_comes_back() {
    let app = app();
    // The device's own service, which containers reach by the way out.
    let device = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = device.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in device.incoming() {
            let _ = stream.unwrap().write_all(b"outside\n");
        }
    });
    let outside = format!("nc 169.254.1.2 {port} < /dev/null");
    let goes_out = || app.run(&["exec", "-T", "web", "sh", "-c", &outside]).out == "outside\n";

    app.ok(&["up", "-d"]);
    let published = app.published();
    eventually("the page is there", || get(published).as_deref() == Some("ding\n"));
    eventually("the talker hears", || app.heard() > 3);
    assert!(goes_out());

    for victims in [&["dpack-network"][..], &["dpack-supervisor"], &["dpack-network", "dpack-supervisor"]] {
        let pids: Vec<i32> = victims.iter().flat_map(|role| app.pids(role)).collect();
        assert_eq!(pids.len(), victims.len(), "{victims:?}");
        for pid in pids {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        }
        let killed = Instant::now();
        if victims.contains(&"dpack-supervisor") {
            // Nobody watches: the next command that needs a supervisor repairs it.
            app.ok(&["up", "-d"]);
        }
        eventually("the published port is back where it was", || get(published).as_deref() == Some("ding\n"));
        println!("killed {victims:?}: the port was back after {} ms", killed.elapsed().as_millis());
        eventually("the way out is back", goes_out);
        println!("killed {victims:?}: the way out was back after {} ms", killed.elapsed().as_millis());
        assert_eq!(app.published(), published);
        let names = app.ok(&["exec", "-T", "talker", "sh", "-c", "echo again | nc -w 1 echo 7000"]);
        assert_eq!(names, "again\n");
    }

    // It is the same connection all the while: every number came back, in order.
    let before = app.heard();
    eventually("the talker still hears", || app.heard() > before + 3);
    let heard = app.ok(&["exec", "-T", "talker", "cat", "/tmp/heard"]);
    let numbers: Vec<usize> = heard.lines().map_while(|line| line.parse().ok()).collect();
    let is_whole = numbers.len() > before && numbers.iter().enumerate().all(|(at, number)| at + 1 == *number);
    assert!(is_whole, "{before}: {heard}");
}

#[test]
fn networks_are_shown_as_docker_shows_them_and_as_people_read_them() {
    let app = app();
    // Before anything is up, the project alone speaks.
    let down: Value = serde_json::from_str(&app.ok(&["network", "inspect", "--format", "json"])).unwrap();
    assert_eq!(down.as_array().unwrap().len(), 2);
    assert_eq!((&down[1]["Name"], &down[1]["Containers"]), (&json!("test_inside"), &json!({})));

    app.ok(&["up", "-d"]);
    let shown: Value =
        serde_json::from_str(&app.ok(&["network", "inspect", "test_inside", "front", "--format", "json"]))
            .unwrap();
    let inside = &shown[0];
    assert_eq!(
        (&inside["Name"], &inside["Internal"], &inside["Driver"]),
        (&json!("test_inside"), &json!(true), &json!("bridge"))
    );
    assert_eq!(
        inside["Labels"],
        json!({"a": "b", "com.docker.compose.network": "inside", "com.docker.compose.project": "test"})
    );
    assert_eq!(shown[1]["Internal"], json!(false));
    assert_eq!(inside["WayOut"], json!({"IPv4": "none"}));
    // As root on a device that lets us.
    assert!([json!({"IPv4": "relay"}), json!({"IPv4": "kernel"})].contains(&shown[1]["WayOut"]), "{shown}");
    let containers = inside["Containers"].as_object().unwrap();
    assert_eq!(containers.len(), 3);
    for (id, endpoint) in containers {
        assert_eq!(id.len(), 64);
        let name = endpoint["Name"].as_str().unwrap();
        let service = name.trim_start_matches("test-").trim_end_matches("-1");
        let address = endpoint["IPv4Address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        // The container's own opinion.
        let hosts = app.ok(&["exec", "-T", service, "cat", "/etc/hosts"]);
        assert!(hosts.contains(&address) || service == "web", "{name} {address}: {hosts}");
    }
    let gateway = inside["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    let text = app.ok(&["network", "inspect"]);
    assert!(text.contains(gateway) && text.contains("no way out") && text.contains("->80/tcp"), "{text}");

    let unknown = app.run(&["network", "inspect", "sideways"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("no network `sideways`\nhint: its networks: front, inside"),
        "{}",
        unknown.err
    );
}

#[test]
fn a_capture_of_one_network_is_read_by_tcpdump() {
    let app = app();
    app.ok(&["up", "-d"]);
    let file = app.path("inside.pcap");
    let mut capture = app
        .command(&["network", "capture", "inside", "-w", file.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The talker talks all the time; what the others send to the bridge is there, too.
    eventually("it captures", || fs::metadata(&file).is_ok_and(|file| file.len() > 100));
    app.ok(&["exec", "-T", "talker", "sh", "-c", "echo marker-of-talker | nc -w 1 echo 7000"]);
    eventually("there are packets", || fs::metadata(&file).is_ok_and(|file| file.len() > 4000));
    kill_process(Pid::from_child(&capture), Signal::INT).unwrap();
    let mut said = String::new();
    capture.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(capture.wait().unwrap().success());
    assert!(said.contains("capturing network `inside`") && said.contains("0 lost"), "{said}");

    let read = Command::new("tcpdump").args(["-nn", "-A", "-r"]).arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert!(text.contains("marker-of-talker") && text.contains(".7000: Flags"), "{text}");
    assert!(text.contains(".53: ") && text.contains("A? echo."), "questions to the bridge: {text}");
    let lines = said.lines().find_map(|line| line.split_once(" packets written")?.0.parse::<usize>().ok());
    let quiet = Command::new("tcpdump").args(["-nn", "-r"]).arg(&file).output().unwrap();
    assert_eq!(lines, Some(String::from_utf8_lossy(&quiet.stdout).lines().count()));

    // To a pipe, so many and no more.
    let few = app.command(&["network", "capture", "inside", "-w", "-", "-c", "5"]).output().unwrap();
    assert_eq!(few.stdout[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    app.ok(&["down", "-t", "0"]);
    let none = app.run(&["network", "capture", "inside", "-w", "-"]);
    assert!(none.code == Some(3) && none.err.contains("hint: start it: up -d"), "{none:?}");
}

#[test]
fn doctor_looks_at_networks_that_run_and_at_those_that_do_not() {
    let app = app();
    let verdicts = || -> Vec<(String, String, String)> {
        let report = app.run(&["doctor", "--network", "--format", "json"]).out;
        let report: Value = serde_json::from_str(&report).unwrap();
        let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
        let checks = report["checks"].as_array().unwrap().iter();
        checks.map(|check| (text(check, "name"), text(check, "verdict"), text(check, "detail"))).collect()
    };
    let of = |name: &str| verdicts().into_iter().find(|check| check.0 == name).unwrap();
    assert_eq!(of("networks").1, "ok", "{:?}", of("networks"));
    assert!(of("network process").2.contains("does not run"));
    for name in ["ports", "ping", "connections", "outside", "name server"] {
        assert!(["ok", "warning"].contains(&of(name).1.as_str()), "{name}");
    }
    app.ok(&["up", "-d"]);
    let port = format!("port {}", app.published().port());
    eventually("the port takes connections", || of(&port).2.contains("takes connections"));
    assert!(of("network process").2.contains("2 networks, 3 containers"), "{:?}", of("network process"));
    let nobody = verdicts().into_iter().find(|check| check.2.contains("nobody listens on port 81"));
    assert_eq!(nobody.unwrap().1, "warning");
}

/// A process that holds a network namespace, made ready by a script, or that runs in one; it ends with this.
struct Host(std::process::Child);

impl Host {
    fn new(script: &str) -> Self {
        let script = format!("ip link set lo up && {script} && echo up && exec sleep infinity");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Self(child)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.id().to_string(), "--net", "sh", "-c", script]);
        command
    }

    fn told(&self, script: &str) -> String {
        let output = self.command(script).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A device at 198.51.100.1 and a host beyond it at 198.51.100.2.
fn device_and_far() -> (Host, Host) {
    let device = Host::new(
        "echo 0 > /proc/sys/net/ipv4/ip_forward && ip link add out0 type veth peer name out1 &&
        ip link set out0 up && ip addr add 198.51.100.1/24 dev out0 && ip route add default via 198.51.100.2",
    );
    let far = Host::new("true");
    assert_eq!(device.told(&format!("ip link set out1 netns {}", far.0.id())), "");
    assert_eq!(far.told("ip link set out1 up && ip addr add 198.51.100.2/24 dev out1"), "");
    (device, far)
}

/// Takes the kernel's way out away from whoever has one on a device.
const TAKE_UPLINK: &str =
    "for link in $(ip -o link | sed -n 's/.* \\(dp-[^@:]*\\).*/\\1/p'); do ip link delete $link; done";

#[test]
fn a_service_logs_the_address_of_a_client_from_outside() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a device that is reached from outside");
        return;
    }
    let (device, far) = device_and_far();
    let services = json!({
        "web": {"command": ["httpd", "-f", "-v"], "ports": ["8080:80"], "init": true},
    });
    let app = App::with_files(json!({"services": services}), &BTreeMap::new());
    let app = app.on_the_device_of(device.0.id());
    app.ok(&["up", "-d"]);
    let clients = || -> Vec<String> {
        let log = app.ok(&["logs"]);
        let lines = log.lines().filter(|line| line.contains("response:"));
        lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
    };
    // Whom the service has seen; it may not listen yet.
    let seen = |host: &Host| {
        let before = clients().len();
        eventually("the service is asked", || {
            host.told("timeout 10 busybox wget -q -O - http://198.51.100.1:8080/missing");
            clients().len() > before
        });
        clients().pop().unwrap()
    };
    assert_eq!(seen(&far), "::ffff:198.51.100.2");
    assert_ne!(seen(&device), "::ffff:198.51.100.1");
    assert_eq!(device.told(TAKE_UPLINK), "");
    assert_eq!(seen(&far), "::ffff:198.51.100.2", "relayed");
    app.ok(&["down", "-t", "0"]);
}

#[test]
fn as_root_the_kernel_forwards_what_goes_out_and_nothing_is_left_of_it() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may change a device's network");
        return;
    }
    let (device, far) = device_and_far();
    let _server = Host(far.command("exec busybox nc -ll -p 7000 -e echo outside").spawn().unwrap());
    let app = app().on_the_device_of(device.0.id());
    let before = device.told("nft list tables; cat /proc/sys/net/ipv4/ip_forward");
    app.ok(&["up", "-d"]);

    let go = || app.run(&["exec", "-T", "web", "sh", "-c", "nc 198.51.100.2 7000 < /dev/null"]).out;
    eventually("the server listens", || go() == "outside\n");
    let told = || {
        let shown: Value =
            serde_json::from_str(&app.ok(&["network", "inspect", "front", "--format", "json"])).unwrap();
        let text = app.ok(&["network", "inspect", "front"]) + &app.run(&["doctor", "--network"]).out;
        (shown[0]["WayOut"]["IPv4"].as_str().unwrap().to_owned(), text)
    };
    let (way, text) = told();
    assert!(way == "kernel" && text.contains("IPv4 forwarded by the kernel"), "{way} {text}");
    assert!(text.contains("the kernel forwards what goes out"), "{text}");
    assert!(device.told("nft list tables").contains("table ip dp-"));
    // Still in a user namespace of its own.
    let map = app.ok(&["exec", "-T", "web", "cat", "/proc/self/uid_map"]);
    assert_ne!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
    // No process of ours is on the way.
    for pid in app.pids("dpack-network") {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    assert_eq!(go(), "outside\n");
    app.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(go(), "outside\n");

    // What is shown is what is there, not what was made.
    assert_eq!(device.told(TAKE_UPLINK), "");
    assert_eq!(go(), "outside\n");
    let (way, text) = told();
    assert!(way == "relay" && text.contains("IPv4 relayed"), "{way} {text}");
    assert!(text.contains("connections are relayed"), "{text}");

    app.ok(&["down", "-t", "0"]);
    assert_eq!(device.told("nft list tables; cat /proc/sys/net/ipv4/ip_forward"), before);
    assert!(!device.told("ip -o link").contains("dp-"));
}

#[test]
fn who_shares_the_network_of_a_container_that_is_not_there_is_told_so() {
    let services = json!({"web": {"command": ["sleep", "100"], "network_mode": "container:nobody"}});
    let app = App::with_files(json!({"services": services}), &BTreeMap::new());
    let up = app.run(&["up", "-d"]);
    assert_eq!(up.code, Some(3), "{up:?}");
    assert!(up.err.contains("shares with container `nobody`, which is none of this project"), "{up:?}");
    app.ok(&["down", "-t", "0"]);
}
