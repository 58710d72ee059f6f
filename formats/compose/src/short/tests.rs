//! Tables for the short forms; what Compose says to them as part of a file is in `tests/corpus`.

use super::{command, mount, port, size, time};

#[test]
fn command_lines() {
    for (line, expected) in [
        ("", &[][..]),
        ("  ", &[]),
        ("a b  c", &["a", "b", "c"]),
        ("a\tb\nc", &["a", "b", "c"]),
        ("nginx -g 'daemon off;'", &["nginx", "-g", "daemon off;"]),
        ("a \"b c\"d", &["a", "b cd"]),
        ("a '' \"\"", &["a", "", ""]),
        ("a\\ b \\\"c", &["a b", "\"c"]),
        ("\"a\\\"b\\nc\"", &["a\"bnc"]),
        ("'a\\b'", &["a\\b"]),
        ("$(a b) `c d`", &["$(a b)", "`c d`"]),
        ("a #b", &["a", "#b"]),
    ] {
        let words = command::split(line).unwrap();
        assert_eq!(
            (words.words.as_slice(), &words.lost),
            (&expected.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()[..], &None),
            "{line}"
        );
    }
    for line in ["a 'b", "a \"b", "a \\", "a (b)", "`a", "$(a", "a)"] {
        assert_eq!(command::split(line), None, "{line}");
    }
    for (line, words, lost) in
        [("a b; c", &["a", "b"][..], "; c"), ("a 2>x", &["a"], ">x"), ("a|b", &["a"], "|b")]
    {
        let split = command::split(line).unwrap();
        assert_eq!(
            (split.words, split.lost.as_deref()),
            (words.iter().map(|w| (*w).to_owned()).collect(), Some(lost)),
            "{line}"
        );
    }
}

#[test]
fn durations() {
    const MS: u64 = 1_000_000;
    for (text, nanoseconds, printed) in [
        ("0", 0, "0s"),
        ("10s", 10_000 * MS, "10s"),
        ("1m30s", 90_000 * MS, "1m30s"),
        ("1.5s", 1_500 * MS, "1.5s"),
        ("90m", 5_400_000 * MS, "1h30m0s"),
        ("1h", 3_600_000 * MS, "1h0m0s"),
        ("1d", 86_400_000 * MS, "24h0m0s"),
        ("1w1d", 691_200_000 * MS, "192h0m0s"),
        ("100ms", 100 * MS, "100ms"),
        ("1.05ms", 1_050_000, "1.05ms"),
        ("100us", 100_000, "100µs"),
        ("7ns", 7, "7ns"),
        (".5s", 500 * MS, "500ms"),
    ] {
        assert_eq!(time::parse(text), Ok(nanoseconds), "{text}");
        assert_eq!(time::format(nanoseconds), printed, "{text}");
        assert_eq!(time::parse(printed), Ok(nanoseconds), "{printed}");
    }
    for text in
        ["", "10", "s", ".s", "1x", "-1s", "1s ", "1.2.3s", "99999999999h", "18446744073709551616ns", "10s5"]
    {
        assert!(time::parse(text).is_err(), "{text}");
    }
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("0", 0),
        ("1024", 1024),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2k", 2048),
        ("1 kb", 1024),
        ("3b", 3),
        ("1t", 1 << 40),
    ] {
        assert_eq!(size::parse(text), Ok(bytes), "{text}");
    }
    for text in
        ["", "m", "-1", "1x", "1..2m", "99999999999999999999", "999999999p", "16777216t", "1e3", "inf"]
    {
        assert!(size::parse(text).is_err(), "{text}");
    }
}

#[test]
fn port_ranges() {
    let ports = |text: &str| -> Vec<String> {
        let ports = port::parse(text).unwrap().into_iter();
        ports
            .map(|port| {
                let host = port.host_ip.map(|ip| format!("{ip} ")).unwrap_or_default();
                format!("{host}{}->{}/{}", port.published.unwrap_or_default(), port.target, port.protocol)
            })
            .collect()
    };
    assert_eq!(ports("80"), ["->80/tcp"]);
    assert_eq!(ports("[::]:1-2:3-4/UDP"), [":: 1->3/udp", ":: 2->4/udp"]);
    assert_eq!(ports("127.0.0.1::80"), ["127.0.0.1 ->80/tcp"]);
    assert_eq!(ports("80-82"), ["->80/tcp", "->81/tcp", "->82/tcp"]);
    assert_eq!(ports("7000-7005:22"), ["7000-7005->22/tcp"]);
    assert_eq!(ports("65535:65535"), ["65535->65535/tcp"]);
    for text in ["", ":", "a", "1:2:3", "1:2:3:4", "80:", "-1", "1-", "-", "1:1/", "65536", "80:1-2-3", "٣"]
    {
        let kept = port::parse(text).is_ok_and(|ports| ports.iter().all(|port| port.protocol == "tcp"));
        assert!(!kept, "{text}");
    }
}

#[test]
fn mount_options() {
    let mount = mount::parse("data:/x:ro,nocopy").unwrap();
    assert_eq!((mount.source.as_deref(), mount.target.as_str()), (Some("data"), "/x"));
    assert!(mount.read_only && mount.nocopy && !mount.is_bind());
    assert!(mount::parse("./x:/x:z").unwrap().is_bind());
    let tmpfs = mount::parse_tmpfs("/run:size=1k,mode=0755,ro,noexec").unwrap();
    assert_eq!((tmpfs.size, tmpfs.mode, tmpfs.read_only), (Some(1024), Some(0o755), true));
    for mode in ["", "8", "+7", "10000", "0o7"] {
        assert!(mount::mode(mode).is_err(), "{mode}");
    }
}

#[test]
fn floats_are_what_the_standard_library_reads() {
    for text in [
        "0",
        "-0",
        "+1.5",
        ".5",
        "5.",
        "007.50",
        "1e3",
        "1.E+3",
        "-2.5e-7",
        "0.1",
        "123456789.125",
        "1e22",
        "00",
        "-.0",
        "0.30000000000001",
    ] {
        assert_eq!(size::float(text), text.parse::<f64>().ok(), "{text}");
    }
    for text in
        ["", ".", "-", "e3", "1e", "1.5 ", " 1", "1_0", "inf", "NaN", "0x1", "1e400", "--1", "1.2.3", "1e5 "]
    {
        assert_eq!(size::float(text), None, "{text}");
    }
}
