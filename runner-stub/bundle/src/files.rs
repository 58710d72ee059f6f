//! Content of the files that every container gets in `/etc`: `hosts`, `hostname`, `resolv.conf`.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Docker's fixed part of `/etc/hosts`.
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// `/etc/hosts` of a container with its own network: the fixed part, `extra_hosts`, then the container's own addresses,
/// with its domain before its bare name.
pub fn hosts(
    hostname: &str,
    domain: Option<&str>,
    extra: &[(String, String)],
    addresses: &[IpAddr],
) -> String {
    let mut text = HOSTS.to_owned();
    for (name, address) in extra {
        let _ = writeln!(text, "{address}\t{name}");
    }
    for address in addresses {
        let _ = match domain {
            Some(domain) => writeln!(text, "{address}\t{hostname}.{domain} {hostname}"),
            None => writeln!(text, "{address}\t{hostname}"),
        };
    }
    text
}

/// `/etc/hostname`.
pub fn hostname(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// `/etc/resolv.conf` of a container with its own network: our name server, and what `dns_search` and `dns_opt` say of search
/// domains and options, else the device's file. `ndots:0` makes names without a dot go to the name server as they are, as with Docker.
pub fn resolv_conf(
    device: &str,
    name_servers: &[IpAddr],
    own_search: &[String],
    own_options: &[String],
) -> String {
    let mut text = String::new();
    for address in name_servers {
        let _ = writeln!(text, "nameserver {address}");
    }
    let (mut search, mut options) = (Vec::new(), Vec::new());
    for line in device.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            // The last line wins, and `domain` is a search list of one (resolv.conf(5)).
            Some("search" | "domain") => search = words.filter(|&domain| domain != ".").collect(),
            Some("options") => options.extend(words),
            _ => {}
        }
    }
    // The device's name server may do DNSSEC; ours only passes on.
    options.retain(|&option| option != "trust-ad");
    if !own_search.is_empty() {
        search = own_search.iter().map(String::as_str).filter(|&domain| domain != ".").collect();
    }
    if !own_options.is_empty() {
        options = own_options.iter().map(String::as_str).collect();
    }
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let _ = writeln!(text, "options {}", options.join(" "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_container_last() {
        let text = hosts("web", None, &[], &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "));
        assert!(text.ends_with("ff02::2\tip6-allrouters\n10.0.0.2\tweb\nfd00::2\tweb\n"));
        assert_eq!(hosts("web", None, &[], &[]), HOSTS);
        let extra = [("db".to_owned(), "1.2.3.4".to_owned())];
        let text = hosts("web", Some("example.org"), &extra, &["10.0.0.2".parse().unwrap()]);
        assert!(text.ends_with("1.2.3.4\tdb\n10.0.0.2\tweb.example.org web\n"), "{text}");
        assert_eq!(hostname("web"), "web\n");
    }

    #[test]
    fn resolv_conf_keeps_search_and_options_and_replaces_name_servers() {
        let server = ["10.0.0.1".parse().unwrap()];
        for (device, expected) in [
            ("", "nameserver 10.0.0.1\noptions ndots:0\n"),
            (
                "# x\nnameserver 1.1.1.1\nsearch a.example b.example\noptions edns0 trust-ad\n",
                "nameserver 10.0.0.1\nsearch a.example b.example\noptions edns0 ndots:0\n",
            ),
            ("domain x\nsearch .\noptions ndots:2", "nameserver 10.0.0.1\noptions ndots:2\n"),
        ] {
            assert_eq!(resolv_conf(device, &server, &[], &[]), expected);
        }
        let own = |text: &str| vec![text.to_owned()];
        let device = "search a.example\noptions edns0\n";
        let text = resolv_conf(device, &server, &own("b.example"), &own("timeout:1"));
        assert_eq!(text, "nameserver 10.0.0.1\nsearch b.example\noptions timeout:1 ndots:0\n");
        assert_eq!(
            resolv_conf(device, &server, &own("."), &[]),
            "nameserver 10.0.0.1\noptions edns0 ndots:0\n",
            "a dot means no search"
        );
    }
}
