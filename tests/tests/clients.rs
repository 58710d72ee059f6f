//! iperf3, curl, ping and dig as Debian has them, in one container, with another one and with the outside: the device, by which
//! the other one's published ports are reached.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod applications;

use anyhow::{Context, Result};
use applications::{Installed, can_build};
use dpack_targets::Target;
use dpack_tests::{Device, Handmade, Sections, images};
use serde_json::json;

/// `$iperf` and `$web` are published ports.
const INSIDE: &str = r#"
tell() { printf '\n== %s\n' "$1"; }
tries=0
until curl -fs -o /tmp/first http://server/ || [ $tries -gt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
measure() { iperf3 "$@" -J >/tmp/told || cat /tmp/told; grep -c '"error"' /tmp/told; }
tell noise;    sha256sum </tmp/first
tell inside
measure -c server -n 20M -P 4
measure -c server -n 20M -R
measure -c server -u -b 50M -n 2M -l 1400
curl -fsS http://server/ | sha256sum
curl -fsS -o /dev/null -w '%{http_code} %{remote_port}\n' http://server/
# by its path: the shell of BusyBox prefers its own
/usr/bin/ping -c 3 -i 0.2 -W 10 server | grep -o '3 received'
/usr/bin/ping -c 1 -s 8000 -W 10 server | grep -o '1 received'
tell names
dig +short server
dig +short +tcp www
dig +short -x $(dig +short server)
dig nobody.server | grep -o 'status: [A-Z]*'
tell outside
measure -c host.docker.internal -p $iperf -n 20M -P 4
measure -c host.docker.internal -p $iperf -n 20M -R
curl -fsS http://host.docker.internal:$web/ | sha256sum
curl -sS http://host.docker.internal:1/ 2>&1 | grep -o 'Connection refused\|Failed to connect'
"#;

#[test]
fn iperf3_curl_ping_and_dig_reach_another_service_and_the_outside() -> Result<()> {
    if !can_build() {
        return Ok(());
    }
    let target = Target::host().context("no target for this machine")?;
    let serve =
        "mkdir /www; head -c 5000000 /dev/urandom >/www/index.html; httpd -p 80 -h /www; exec iperf3 -s";
    let services = json!({
        "server": {
            "command": ["sh", "-c", serve], "ports": ["5201", "80"], "init": true,
            "networks": {"default": {"aliases": ["www"]}},
        },
        "client": {"command": ["sleep", "1000"], "init": true},
    });
    let executable = Handmade::new("clients", services).layer(images::clients(target)?).executable(target)?;
    let installed = Installed::on(Device::host()?, executable.path())?;
    installed.ok(&["up", "-d"])?;
    let port = |target: &str| -> Result<String> {
        let address = installed.ok(&["port", "server", target])?;
        Ok(address.trim().rsplit(':').next().context("a port")?.to_owned())
    };
    let script = format!("iperf={} web={}\n{INSIDE}", port("5201")?, port("80")?);
    let output = installed.ok(&["exec", "-T", "client", "sh", "-c", &script])?;
    let saw = Sections::parse(&output);
    let noise = saw.under("noise");
    assert_eq!(noise.len(), 64 + "  -".len(), "{output}");
    assert_eq!(saw.under("inside"), format!("0\n0\n0\n{noise}\n200 80\n3 received\n1 received"), "{output}");
    let names: Vec<&str> = saw.under("names").lines().collect();
    assert_eq!(names.len(), 4, "{output}");
    assert_eq!(names[0], names[1], "{output}");
    assert_eq!(names[2..], ["clients-server-1.", "status: NXDOMAIN"], "{output}");
    assert_eq!(saw.under("outside"), format!("0\n0\n{noise}\nFailed to connect"), "{output}");
    installed.ok(&["down", "-v", "-t", "0"])?;
    installed.leaves_nothing()
}
