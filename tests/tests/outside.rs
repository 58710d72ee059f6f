//! What containers have to do with the outside, on real Debian kernels of three architectures: the way out as an ordinary user
//! (relayed) and as root (forwarded and translated by the kernel), and a published port that somebody outside asks, whose address is seen.
//!
//! The outside is a network namespace of the guest behind a veth, in which a web server and the probe answer.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use applications::one_machine_at_a_time;
use dpack_targets::Target;
use dpack_tests::images::Layer;
use dpack_tests::{Handmade, Need, Sections, Vm, needs, probe};
use serde_json::json;

/// The device is 192.0.2.2 and 2001:db8::2. `APP` is the executable.
const DAY: &str = r#"
exec 2>&1
ip link add out0 type veth
unshare -n sleep 10000 & far=$!
while [ "$(readlink /proc/$far/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do usleep 10000; done
far() { nsenter -t $far -n "$@"; }
ip link set veth0 netns $far
cat >/tmp/join <<'JOIN'
echo 0 >/proc/sys/net/ipv6/conf/$1/accept_dad; ip link set lo up; ip link set $1 up; ip addr add $2/24 dev $1; ip -6 addr add $3/64 dev $1
JOIN
sh /tmp/join out0 192.0.2.2 2001:db8::2
far sh /tmp/join veth0 192.0.2.1 2001:db8::1
echo nameserver 192.0.2.1 >/etc/resolv.conf
sysctl -w net.ipv4.ping_group_range='0 2147483647' >/dev/null
mkdir /tmp/www; head -c 3000000 /dev/urandom >/tmp/www/noise
echo '== noise'; sha256sum </tmp/www/noise
far httpd -p 8000 -h /tmp/www
far /in/probe outside 192.0.2.1 &

cat >/tmp/inside <<'INSIDE'
wget -q -O - http://known.example:8000/noise | sha256sum
wget -q -O - 'http://[2001:db8::1]:8000/noise' | sha256sum
probe ask 192.0.2.1 7
ping -c 1 -W 10 192.0.2.1 | grep -o '1 packets received'
ping -c 1 -W 10 2001:db8::1 | grep -o '1 packets received'
nc 192.0.2.1 8001 </dev/null 2>&1 | grep -o 'Connection refused'
INSIDE
day() {
  app up -d >/tmp/up 2>&1 || cat /tmp/up
  echo "== $1 out"; app exec -T web sh </tmp/inside
  echo "== $1 in"
  for device in 192.0.2.2 '[2001:db8::2]'; do
    tries=0; until far wget -q -O - "http://$device:8080/page" || [ $tries -gt 100 ]; do tries=$((tries + 1)); usleep 100000; done
  done
  # Whom the server has seen; what it says is written down a little later.
  tries=0; until [ "$(app logs | grep -c response:)" -ge 2 ] || [ $tries -gt 100 ]; do tries=$((tries + 1)); usleep 100000; done
  echo "== $1 clients"; app logs | grep -o '\[[^]]*\]' | sort -u
  echo "== $1 way"; app network inspect | grep -o 'IPv4 .*'
  app down -v -t 0 >/dev/null 2>&1
  echo "== $1 left"; ls /sys/class/net; cat /proc/sys/net/ipv4/ip_forward
}
app() { HOME=/home/user XDG_RUNTIME_DIR=/run/user/1000 su -s /bin/sh user -c "cd; /in/APP $*"; }
day user
app() { /in/APP "$@"; }
day root
kill $far
"#;

fn on_machine(machine: Vm, platform: &str) -> Result<()> {
    if !needs(&[Need::Stubs, Need::Probe, Need::DebianPackages]) {
        return Ok(());
    }
    let target = Target::for_platform(platform).context("no such target")?;
    let server = "mkdir /www; echo inside >/www/page; exec httpd -f -v -p 80 -h /www";
    let services = json!({"web": {"command": ["sh", "-c", server], "ports": ["8080:80"]}});
    let executable = Handmade::new("outside", services)
        .networks(json!({"default": {"enable_ipv6": true}}))
        .layer(Layer::new().file("usr/bin/probe", 0o755, &std::fs::read(probe(target))?))
        .executable(target)?;
    std::fs::set_permissions(executable.path(), std::fs::Permissions::from_mode(0o755))?;
    let name = executable.path().file_name().context("a name")?.to_string_lossy().into_owned();
    let _turn = one_machine_at_a_time();
    let output = machine
        .file(executable.path())
        .file(&probe(target))
        .time_limit(Duration::from_secs(240))
        .run(&DAY.replace("APP", &name))?
        .success()?
        .stdout;

    let sections = Sections::parse(&output);
    let saw = |heading: &str| sections.under(heading);
    let noise = saw("noise");
    let out =
        format!("{noise}\n{noise}\n192.0.2.2\n1 packets received\n1 packets received\nConnection refused");
    for (who, way) in
        [("user", "IPv4 relayed, IPv6 relayed"), ("root", "IPv4 forwarded by the kernel, IPv6 relayed")]
    {
        assert_eq!(saw(&format!("{who} out")), out, "{output}");
        assert_eq!(saw(&format!("{who} in")), "inside\ninside", "{output}");
        assert_eq!(saw(&format!("{who} clients")), "[2001:db8::1]\n[::ffff:192.0.2.1]", "{output}");
        assert_eq!(saw(&format!("{who} way")), way, "{output}");
        assert_eq!(saw(&format!("{who} left")), "lo\nout0\n0", "{output}");
    }
    Ok(())
}

#[test]
fn containers_and_the_outside_meet_on_an_x86_64_machine() -> Result<()> {
    on_machine(Vm::amd64(), "linux/amd64")
}

#[test]
fn containers_and_the_outside_meet_on_an_aarch64_machine() -> Result<()> {
    on_machine(Vm::arm64(), "linux/arm64")
}

#[test]
fn containers_and_the_outside_meet_on_an_armv7_machine() -> Result<()> {
    on_machine(Vm::armv7(), "linux/arm/v7")
}
