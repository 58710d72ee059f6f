//! Names as dig(1) sees them, and many questions at a time.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::support::{Container, Project, address};
use dpack_network::NetworkConfig;

/// Status and flags of an answer, and its records without their names.
fn dig(asker: &Container, words: &[&str]) -> (String, Vec<String>, BTreeSet<String>) {
    let (done, text) = asker.run(&[&["dig", "+tries=1", "+time=5"], words].concat());
    assert!(done, "{text}");
    let between = |from: &str, to: &str| {
        let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from:?} in {text}")).1;
        rest.split_once(to).unwrap().0.to_owned()
    };
    let flags = between(";; flags: ", ";").split(' ').map(str::to_owned).collect();
    // Name, time to live, class, kind, value.
    let record = |line: &str| line.split_ascii_whitespace().skip(3).collect::<Vec<_>>().join(" ");
    let records = text.lines().filter(|line| !line.is_empty() && !line.starts_with(';')).map(record);
    (between("status: ", ","), flags, records.collect())
}

#[test]
fn dig_is_told_addresses_names_and_what_does_not_exist() {
    let (project, mut client) = Project::start(&[]);
    let network =
        |key: &str| NetworkConfig { key: key.into(), internal: true, ipv6: true, ..NetworkConfig::default() };
    client.configure(&[network("front"), network("back")]).unwrap();
    let (asker, web, db) = (project.container("asker"), project.container("web"), project.container("db"));
    asker.attach(&mut client, &[("front", &[])], &[]);
    let at_web = web.attach(&mut client, &[("front", &["www"]), ("back", &[])], &[]);
    db.attach(&mut client, &[("back", &["database"])], &[]);

    let own = |network: &str| -> Vec<IpAddr> {
        let interface = at_web.interfaces.iter().find(|interface| interface.network == network).unwrap();
        interface.addresses.iter().map(ipnet::IpNet::addr).collect()
    };
    let (on_front, on_back) = (own("front"), own("back")[0].to_string());
    let [ipv4, ipv6] = on_front[..] else { panic!("{on_front:?}") };
    let check = |words: &[&str], record: String| {
        let (status, flags, records) = dig(&asker, words);
        assert_eq!((status.as_str(), records), ("NOERROR", BTreeSet::from([record])), "{words:?}");
        assert!(flags.contains(&"ra".to_owned()) && !flags.contains(&"tc".to_owned()), "{flags:?}");
    };
    for name in ["web", "www", "WWW"] {
        check(&[name, "AAAA"], format!("AAAA {ipv6}"));
        // The last has an option that nobody knows, and all but one a cookie.
        for way in ["+edns=0", "+tcp", "+noedns", "+ednsopt=65001:00ff"] {
            check(&[way, name, "A"], format!("A {ipv4}"));
        }
    }
    for own in on_front {
        let (status, _, records) = dig(&asker, &["-x", &own.to_string()]);
        assert_eq!(status, "NOERROR");
        assert!(records.iter().any(|record| record.starts_with("PTR web.")), "{records:?}");
    }
    // There is nothing else of a name that exists; and names of other networks are nobody's, nor are their addresses.
    let (status, _, records) = dig(&asker, &["web", "TXT"]);
    assert_eq!((status.as_str(), records.len()), ("NOERROR", 0));
    for words in [&["db", "A"][..], &["database", "AAAA"], &["example.org", "A"], &["-x", &on_back]] {
        let (status, _, records) = dig(&asker, words);
        assert_eq!((status.as_str(), records.len()), ("NXDOMAIN", 0), "{words:?}");
    }
    // A version of EDNS that does not exist.
    let (_, text) = asker.run(&["dig", "+edns=7", "+noednsneg", "web"]);
    assert!(text.contains("status: BADVERS"), "{text}");
}

#[test]
fn dig_comes_back_by_tcp_for_what_no_datagram_holds() {
    const REPLICAS: usize = 40;
    let (project, mut client) = Project::start(&["default"]);
    let asker = project.container("asker");
    asker.attach(&mut client, &[("default", &[])], &[]);
    let replicas: Vec<Container> =
        (0..REPLICAS).map(|number| project.container(&format!("web-{number}"))).collect();
    let expected: BTreeSet<String> = replicas
        .iter()
        .map(|one| format!("A {}", address(&one.attach(&mut client, &[("default", &["web"])], &[]))))
        .collect();
    assert_eq!(expected.len(), REPLICAS);

    let (_, flags, records) = dig(&asker, &["+noedns", "+ignore", "web"]);
    assert!(flags.contains(&"tc".to_owned()) && records.is_subset(&expected), "{flags:?} {records:?}");
    for way in ["+noedns", "+tcp", "+bufsize=4096"] {
        let (status, flags, records) = dig(&asker, &[way, "web"]);
        assert_eq!((status.as_str(), &records), ("NOERROR", &expected), "{way}");
        assert!(!flags.contains(&"tc".to_owned()), "{way}");
    }
}

#[test]
fn ten_thousand_questions_at_a_time_are_answered_rightly() {
    let (project, mut client) = Project::start(&["default"]);
    let (asker, web) = (project.container("asker"), project.container("web"));
    let nameserver = asker.attach(&mut client, &[("default", &[])], &[]).nameserver.unwrap();
    let at_web = address(&web.attach(&mut client, &[("default", &[])], &[]));
    assert_eq!(asker.ask("ask-many", &format!("{nameserver}:53 web {at_web} 10000")), "10000 right");
    assert!(client.status().unwrap().dns_queries >= 10_000);
}
