//! Every mistake: the exact text, with file, line and column.

use dpack_compose::{Environment, Errors, Model, interpolate};

/// Diagnostics of a file as the builder shows them, hints indented.
fn errors(text: &str) -> String {
    errors_of(&[text])
}

fn errors_of(texts: &[&str]) -> String {
    let names = ["compose.yml", "compose.override.yml"];
    let files: Vec<_> =
        names.iter().zip(texts).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let result = dpack_compose::parse("shop", &files).and_then(|(model, _)| {
        interpolate(&model, &Environment::new([("SET".to_owned(), "set".to_owned())]))
    });
    match result {
        Ok(resolved) => panic!("accepted:\n{}", resolved.to_yaml()),
        Err(errors) => shown(&errors),
    }
}

fn shown(errors: &Errors) -> String {
    let mut lines = Vec::new();
    for error in errors {
        lines.push(error.to_string());
        lines.extend(error.hint.as_ref().map(|hint| format!("  hint: {hint}")));
    }
    if errors.more() > 0 {
        lines.push(format!("and {} more", errors.more()));
    }
    lines.join("\n")
}

/// The message for one key of a service `web`; positions are those of line 4, column 5.
fn service(key: &str) -> String {
    errors(&format!("services:\n  web:\n    image: a\n    {key}\n"))
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(key, expected)| (key, expected, service(key)))
        .filter(|(_, expected, found)| found != *expected)
        .map(|(key, expected, found)| format!("{key}\n  expected: {expected}\n  found:    {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The message for `driver_opts` of a volume; positions are those of line 3.
#[test]
fn volume_options() {
    let of = |options: &str, more: &str| {
        errors(&format!(
            "services: {{web: {{image: a, volumes: ['v:/v']{more}}}}}\nvolumes:\n  v: {{driver_opts: {options}}}\n"
        ))
    };
    for (options, more, expected) in [
        (
            "{type: nfs, o: addr=x, device: ':/x'}",
            "",
            "compose.yml:3:27: volumes.v.driver_opts.type: mounting `nfs` on the device needs root; there are `none` with \
             `o: bind`, and `tmpfs`",
        ),
        (
            "{type: none, o: 'bind,ro', device: /x}",
            "",
            "compose.yml:3:36: volumes.v.driver_opts.o: the mount option `ro` has no place here",
        ),
        (
            "{type: none, o: bind}",
            "",
            "compose.yml:3:20: volumes.v.driver_opts.device: a bind needs the path of a folder",
        ),
        (
            "{size: 1g}",
            "",
            "compose.yml:3:21: volumes.v.driver_opts.size: the `local` driver has no such option",
        ),
        (
            "{type: tmpfs, o: size=much}",
            "",
            "compose.yml:3:37: volumes.v.driver_opts.o: `much` is not a size, expected a number and b, k, m, g or t",
        ),
        (
            "{type: tmpfs}",
            ", scale: 2",
            "compose.yml:3:6: volumes.v.driver_opts: a tmpfs that several containers see needs root; each can have one of \
             its own (`tmpfs:`)",
        ),
    ] {
        assert_eq!(of(options, more), expected, "{options}");
    }
}

#[test]
fn logging() {
    check(&[
        (
            "logging: {driver: syslog}",
            "compose.yml:4:23: services.web.logging.driver: log driver `syslog` needs a service of the machine; there \
             are `json-file`, `local` and `none`",
        ),
        (
            "logging: {options: {max-sise: 1m}}",
            "compose.yml:4:25: services.web.logging.options.max-sise: log driver `json-file` has no such option; \
             those that matter here are `max-size` and `max-file`",
        ),
        (
            "logging: {driver: local, options: {tag: x}}",
            "compose.yml:4:40: services.web.logging.options.tag: log driver `local` has no such option; \
             those that matter here are `max-size` and `max-file`",
        ),
        (
            "logging: {options: {max-size: ten}}",
            "compose.yml:4:35: services.web.logging.options.max-size: `ten` is not a size, expected a number and b, k, \
             m, g or t",
        ),
        (
            "logging: {options: {max-size: -5}}",
            "compose.yml:4:35: services.web.logging.options.max-size: `-5` is not a size, expected a number and b, k, m, \
             g or t",
        ),
        (
            "logging: {options: {max-size: \"0\"}}",
            "compose.yml:4:35: services.web.logging.options.max-size: expected a size above 0",
        ),
        (
            "logging: {options: {max-file: \"0\"}}",
            "compose.yml:4:35: services.web.logging.options.max-file: expected a number of files from 1 on, found `0`",
        ),
        (
            "logging: {options: {compress: maybe}}",
            "compose.yml:4:35: services.web.logging.options.compress: expected `true` or `false`, found `maybe`",
        ),
    ]);
}

#[test]
fn keys() {
    check(&[
        ("prots: []", "compose.yml:4:5: services.web.prots: unknown key\n  hint: did you mean `ports`?"),
        (
            "workingDir: /",
            "compose.yml:4:5: services.web.workingDir: unknown key\n  hint: did you mean `working_dir`?",
        ),
        (
            "enviroment: {}",
            "compose.yml:4:5: services.web.enviroment: unknown key\n  hint: did you mean `environment`?",
        ),
        ("something_else: 1", "compose.yml:4:5: services.web.something_else: unknown key"),
        (
            "external_links: [db]",
            "compose.yml:4:5: services.web.external_links: links to containers of other projects do not exist here",
        ),
        (
            "runtime: runsc",
            "compose.yml:4:5: services.web.runtime: the executable is the runtime, it runs containers itself",
        ),
        (
            "gpus: all",
            "compose.yml:4:5: services.web.gpus: needs a vendor's container runtime on the device, there is none",
        ),
        (
            "ports: [{target: 80, publish: 80}]",
            "compose.yml:4:26: services.web.ports[0].publish: unknown key\n  hint: did you mean `published`?",
        ),
        (
            "cgroup_parent: x",
            "compose.yml:4:5: services.web.cgroup_parent: groups beside the one that the user was given need root",
        ),
        (
            "storage_opt: {size: 1g}",
            "compose.yml:4:5: services.web.storage_opt: limits of the writable layer are quotas, which only root sets",
        ),
        (
            "userns_mode: keep-id",
            "compose.yml:4:18: services.web.userns_mode: expected `host`, found `keep-id`",
        ),
        ("image: b", "compose.yml:4:5: key `image` is already defined in line 3"),
    ]);
    assert_eq!(
        errors("servces:\n  web: {image: a}\n"),
        "compose.yml:1:1: servces: unknown key\n  hint: did you mean `services`?"
    );
    assert_eq!(
        errors("models: {a: {model: b}}\nservices: {web: {image: a}}\n"),
        "compose.yml:1:1: models: language models need Docker's model runner, there is none on a device"
    );
    assert_eq!(
        errors("services: {web: {image: a}}\nnetworks:\n  n:\n    external: true\n"),
        "compose.yml:4:5: networks.n.external: everything an executable uses belongs to its project"
    );
}

#[test]
fn types() {
    let list_or_mapping = "expected a list or a mapping";
    check(&[
        (
            "environment: 3",
            &format!("compose.yml:4:18: services.web.environment: {list_or_mapping}, found a number"),
        ),
        (
            "environment:",
            &format!("compose.yml:4:5: services.web.environment: {list_or_mapping}, found nothing"),
        ),
        (
            "environment: {A: [1]}",
            "compose.yml:4:22: services.web.environment.A: expected a string, a number or a boolean, found a list",
        ),
        (
            "environment: [{A: 1}]",
            "compose.yml:4:19: services.web.environment[0]: expected a string, found a mapping",
        ),
        ("ports: 80:80", "compose.yml:4:12: services.web.ports: expected a list, found a string"),
        (
            "ports: [true]",
            "compose.yml:4:13: services.web.ports[0]: expected a string, a number or a mapping, found a boolean\n  hint: put it in quotes: \"true\"",
        ),
        (
            "hostname: 12",
            "compose.yml:4:15: services.web.hostname: expected a string, found a number\n  hint: put it in quotes: \"12\"",
        ),
        (
            "command: [sleep, 10]",
            "compose.yml:4:22: services.web.command[1]: expected a string, found a number\n  hint: put it in quotes: \"10\"",
        ),
        (
            "init: 1",
            "compose.yml:4:11: services.web.init: expected a string or a boolean, found a number\n  hint: put it in quotes: \"1\"",
        ),
        ("init: \"1\"", "compose.yml:4:11: services.web.init: expected true or false, found `1`"),
        (
            "read_only: ${SET}",
            "compose.yml:4:16: services.web.read_only: expected true or false, found `set`",
        ),
        (
            "depends_on: {web: }",
            "compose.yml:4:18: services.web.depends_on.web: expected a mapping, found nothing",
        ),
    ]);
    assert_eq!(errors("[]"), "compose.yml:1:1: expected a mapping, found a list");
    assert_eq!(
        errors("services: {web: a}"),
        "compose.yml:1:17: services.web: expected a mapping, found a string"
    );
}

#[test]
fn ports() {
    let at = "compose.yml:4:13: services.web.ports[0]:";
    let cases = [
        ("\"80-81:90-92\"", "the range `80-81` has 2 ports, the range `90-92` has 3"),
        ("\"a:80\"", "`a` is not a port number"),
        ("\"70000:80\"", "port 70000 is out of range, ports go up to 65535"),
        ("70000", "port 70000 is out of range, ports go up to 65535"),
        ("\"1.2.3:80:80\"", "`1.2.3` is not an IP address"),
        ("\"host:80:80\"", "`host` is not an IP address"),
        ("\"::1:80:80\"", "put the IPv6 address in brackets: `[::1]`"),
        ("\"82-80:82-80\"", "the range `82-80` ends before it starts"),
        ("\"80:0\"", "the port inside the container (`target`) is missing"),
        ("\"80:80/sctp\"", "protocol `sctp` is not supported, expected `tcp` or `udp`"),
        ("\"+1:80\"", "`+1` is not a port number"),
        ("80.5", "`80.5` is not a port number"),
        ("{published: 80}", "the port inside the container (`target`) is missing"),
        ("{target: 80, mode: foo}", "expected the mode `ingress` or `host`, found `foo`"),
    ];
    for (port, message) in cases {
        assert_eq!(service(&format!("ports: [{port}]")), format!("{at} {message}"), "{port}");
    }
    check(&[
        ("ports: [{target: x}]", "compose.yml:4:22: services.web.ports[0].target: `x` is not a port number"),
        (
            "ports: [{target: 1, host_ip: x}]",
            "compose.yml:4:34: services.web.ports[0].host_ip: `x` is not an IP address",
        ),
        ("expose: [x]", "compose.yml:4:14: services.web.expose[0]: `x` is not a port number"),
        (
            "expose: [80/sctp]",
            "compose.yml:4:14: services.web.expose[0]: protocol `sctp` is not supported, expected `tcp` or `udp`",
        ),
        (
            "scale: 2\n    ports: [\"81\", \"80:80\"]",
            "compose.yml:5:19: services.web.ports[1]: 2 containers cannot have one port of the device, 80; publish a \
             range (`8000-8010:80`)",
        ),
        (
            "ports: [\"80:80\", \"80:81\"]",
            "compose.yml:4:22: services.web.ports[1]: port 80 of the device is already taken by this service",
        ),
    ]);
    assert_eq!(
        errors(
            "services:\n  a: {image: a, ports: [\"80:80\"]}\n  b:\n    image: b\n    ports:\n      - 127.0.0.1:80:1\n"
        ),
        "compose.yml:6:9: services.b.ports[0]: port 80 of the device is already taken by service `a`"
    );
}

#[test]
fn mounts() {
    let at = "compose.yml:4:15: services.web.volumes[0]:";
    let cases = [
        ("\"/a:b\"", "the target `b` is not an absolute path"),
        ("a", "the target `a` is not an absolute path"),
        ("\"/a:/\"", "nothing can be mounted on `/`"),
        ("\"/a:/b/..\"", "nothing can be mounted on `/`"),
        ("\":/a\"", "`:/a` has an empty part, expected `[SOURCE:]TARGET[:OPTIONS]`"),
        ("\"/a:/b:/c:ro\"", "`/a:/b:/c:ro` has too many parts, expected `[SOURCE:]TARGET[:OPTIONS]`"),
        ("\"/a:/b:foo\"", "unknown mount option `foo`"),
        ("\"~you/a:/b\"", "the home of another user in `~you/a` is not supported"),
        ("{target: /a}", "the mount's `type` is missing"),
        ("{type: volume}", "the mount's `target` is missing"),
        ("{type: bind, target: /a}", "a bind mount needs a `source`"),
        ("{type: tmpfs, source: a, target: /a}", "a tmpfs has no `source`"),
        ("{type: image, target: /a}", "a mount of an image needs a `source`"),
        ("{type: npipe, source: a, target: /a}", "mounts of type `npipe` do not exist here"),
        ("{type: foo, target: /a}", "expected the type `bind`, `volume`, `tmpfs` or `image`, found `foo`"),
        ("{type: tmpfs, target: /a, bind: {}}", "`bind` does not go with the type `tmpfs`"),
        (
            "{type: bind, source: /a, target: /a, bind: {selinux: x}}",
            "expected the SELinux option `z` or `Z`, found `x`",
        ),
    ];
    for (mount, message) in cases {
        assert_eq!(service(&format!("volumes: [{mount}]")), format!("{at} {message}"), "{mount}");
    }
    // The text stands between quotes in the options of a mount.
    for option in
        ["label=on", "label=type", "label=type:", "label=colour:red", "label=level:s0\\\",upperdir=/"]
    {
        let found = service(&format!("security_opt: [\"{option}\"]"));
        assert!(
            found.contains("services.web.security_opt[0]: unknown option of SELinux labels `label="),
            "{found}"
        );
    }
    check(&[
        (
            "volumes: [data:/data]",
            "compose.yml:4:15: services.web.volumes[0]: there is no volume `data`\n  hint: define it under the top-level `volumes:`",
        ),
        ("tmpfs: run", "compose.yml:4:12: services.web.tmpfs[0]: the target `run` is not an absolute path"),
        ("tmpfs: /run:exec", "compose.yml:4:12: services.web.tmpfs[0]: tmpfs option `exec` is not supported"),
        (
            "tmpfs: /run:size=x",
            "compose.yml:4:12: services.web.tmpfs[0]: `x` is not a size, expected a number and b, k, m, g or t",
        ),
        ("tmpfs: /run:mode=9", "compose.yml:4:12: services.web.tmpfs[0]: `9` is not an octal file mode"),
        (
            "tmpfs: [/run, /run/]",
            "compose.yml:4:19: services.web.tmpfs[1]: something is mounted on `/run` already",
        ),
    ]);
    assert_eq!(
        errors("services: {web: {image: a, volumes: [\"dta:/x\"]}}\nvolumes: {data: }\n"),
        "compose.yml:1:38: services.web.volumes[0]: there is no volume `dta`\n  hint: did you mean `data`?"
    );
    assert_eq!(
        errors("services: {web: {image: a}}\nvolumes: {data: {driver: nfs}}\n"),
        "compose.yml:2:26: volumes.data.driver: driver `nfs` is not supported, expected `local`"
    );
}

#[test]
fn networks() {
    check(&[
        (
            "networks: [nope]",
            "compose.yml:4:16: services.web.networks: there is no network `nope`\n  hint: define it under the top-level `networks:`",
        ),
        (
            "networks: [default, default]",
            "compose.yml:4:25: services.web.networks[1]: `default` is already in the list",
        ),
        (
            "network_mode: bridge",
            "compose.yml:4:19: services.web.network_mode: `bridge` is not supported, there is no network that projects share",
        ),
        (
            "network_mode: hots",
            "compose.yml:4:19: services.web.network_mode: expected `host`, `none` or `service:NAME`, found `hots`",
        ),
    ]);
    assert_eq!(
        errors("services: {web: {image: a, network_mode: host, networks: [default]}}"),
        "compose.yml:1:58: services.web.network_mode: cannot be combined with `networks`"
    );
    assert_eq!(
        errors("services: {web: {image: a}}\nnetworks: {n: {driver: overlay}}\n"),
        "compose.yml:2:24: networks.n.driver: driver `overlay` is not supported, expected `bridge`"
    );
}

#[test]
fn dependencies() {
    let condition = "compose.yml:4:34: services.web.depends_on.db.condition:";
    let missing = "compose.yml:4:18: services.web.depends_on: there is no service `db`";
    check(&[
        ("depends_on: [db]", missing),
        (
            "depends_on: {db: {condition: started}}",
            &format!(
                "{missing}\n{condition} expected `service_started`, `service_healthy` or `service_completed_successfully`, found `started`"
            ),
        ),
        (
            "depends_on: [web]",
            "compose.yml:4:18: services.web.depends_on: services depend on each other in a circle: web -> web",
        ),
    ]);
    assert_eq!(
        errors(
            "services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b, depends_on: [c]}\n  c: {image: c, depends_on: [b]}\n  d: {image: c}\n"
        ),
        "compose.yml:3:30: services.b.depends_on: services depend on each other in a circle: b -> c -> b"
    );
}

#[test]
fn values() {
    check(&[
        (
            "restart: sometimes",
            "compose.yml:4:14: services.web.restart: expected `no`, `always`, `on-failure[:N]` or `unless-stopped`, found `sometimes`",
        ),
        (
            "restart: on-failure:x",
            "compose.yml:4:14: services.web.restart: expected `no`, `always`, `on-failure[:N]` or `unless-stopped`, found `on-failure:x`",
        ),
        (
            "stop_grace_period: \"10\"",
            "compose.yml:4:24: services.web.stop_grace_period: `10` is not a duration, expected something like `10s` or `1m30s`",
        ),
        (
            "stop_grace_period: -1s",
            "compose.yml:4:24: services.web.stop_grace_period: `-1s` is not a duration, expected something like `10s` or `1m30s`",
        ),
        ("stop_signal: SIGFOO", "compose.yml:4:18: services.web.stop_signal: `SIGFOO` is not a signal"),
        ("stop_signal: \"65\"", "compose.yml:4:18: services.web.stop_signal: `65` is not a signal"),
        ("hostname: a b", "compose.yml:4:15: services.web.hostname: `a b` is not a host name"),
        (
            "container_name: a/b",
            "compose.yml:4:21: services.web.container_name: `a/b` is not a container name, expected letters, digits, `_`, `.` and `-`",
        ),
        ("working_dir: srv", "compose.yml:4:18: services.web.working_dir: `srv` is not an absolute path"),
        ("user: a:b:c", "compose.yml:4:11: services.web.user: `a:b:c` is not `USER` or `USER:GROUP`"),
        (
            "command: 'a \"b'",
            "compose.yml:4:14: services.web.command: a quote or bracket is not closed, or a `(` stands without quotes",
        ),
        (
            "environment: [=x]",
            "compose.yml:4:19: services.web.environment[0]: a value without a name, expected `NAME=VALUE`",
        ),
        (
            "environment: {\"a=b\": x}",
            "compose.yml:4:19: services.web.environment: \"a=b\" cannot be the name of a variable",
        ),
        ("labels: {a: \"x\\0\"}", "compose.yml:4:17: services.web.labels.a: contains a NUL byte"),
    ]);
    assert_eq!(
        errors("services:\n  web:\n    hostname: a\n"),
        "compose.yml:2:3: services.web: neither `image` nor `build` is given"
    );
    assert_eq!(
        errors("services: {web: {image: 'a b'}}"),
        "compose.yml:1:25: services.web.image: \"a b\" is not an image reference"
    );
    assert_eq!(
        errors("services: {a: {image: a, container_name: xx}, b: {image: a, container_name: xx}}"),
        "compose.yml:1:77: services.b.container_name: service `a` has the same container name"
    );
    assert_eq!(
        errors("services: {\"a b\": {image: a}}"),
        "compose.yml:1:12: services.a b: names consist of letters, digits, `.`, `_` and `-`"
    );
    // On the device `volumes/..` would be the project's own folder.
    for name in [".", ".."] {
        assert_eq!(
            errors(&format!("services: {{a: {{image: a}}}}\nvolumes: {{{name}: }}")),
            format!("compose.yml:2:11: volumes.{name}: names consist of letters, digits, `.`, `_` and `-`")
        );
    }
    assert_eq!(errors("services: {}"), "compose.yml:1:1: there is no service in it");
    assert_eq!(
        errors("name: Shop\nservices: {web: {image: a}}"),
        "compose.yml:1:7: name: `Shop` is not a project name\n  hint: use lower-case letters, digits, `-` and `_`, and start with a letter or digit"
    );
}

#[test]
fn variables() {
    check(&[
        (
            "hostname: ${A:?set it}",
            "compose.yml:4:15: services.web.hostname: required variable `A` is missing a value: set it",
        ),
        (
            "hostname: ${A?}",
            "compose.yml:4:15: services.web.hostname: required variable `A` is missing a value",
        ),
        (
            "hostname: \"${A\"",
            "compose.yml:4:15: services.web.hostname: invalid interpolation format `${A`\n  hint: write `$$` for a dollar sign",
        ),
        (
            "hostname: \"${}\"",
            "compose.yml:4:15: services.web.hostname: invalid interpolation format `${}`\n  hint: write `$$` for a dollar sign",
        ),
        (
            "hostname: \"${A!b}\"",
            "compose.yml:4:15: services.web.hostname: invalid interpolation format `${A!b}`\n  hint: write `$$` for a dollar sign",
        ),
        (
            "hostname: \"${A:}\"",
            "compose.yml:4:15: services.web.hostname: invalid interpolation format `${A:}`\n  hint: write `$$` for a dollar sign",
        ),
    ]);
}

#[test]
fn yaml() {
    let cases = [
        (
            "services:\n  web:\n  image: a\n   x: b\n",
            "compose.yml:4:5: mapping values are not allowed in this context",
        ),
        ("a: [1, 2\n", "compose.yml:2:1: while parsing a flow sequence, expected ',' or ']'"),
        ("\t- a", "compose.yml:1:2: "),
        ("a: *x\n", "compose.yml:1:4: while parsing node, found unknown anchor"),
        ("a: &x [*x]\n", "compose.yml:1:8: the alias stands inside the value it refers to"),
        ("1: a\n", "compose.yml:1:1: keys are strings, found a number `1`"),
        ("a: {true: b}\n", "compose.yml:1:5: keys are strings, found a boolean `true`"),
        ("[a]: b\n", "compose.yml:1:1: keys are strings, found a list or a mapping"),
        ("a: {<<: b}\n", "compose.yml:1:9: `<<` merges a mapping or a list of mappings, found a string"),
        ("a: {<<: [b]}\n", "compose.yml:1:10: `<<` merges a mapping or a list of mappings, found a string"),
        ("a: !!int x\n", "compose.yml:1:4: `x` is not a value for the tag `!!int`"),
        ("\"!reset\": b\n", "compose.yml:1:1: `!reset` is a tag, it stands before a value"),
        ("", "compose.yml: the file is empty"),
        ("# nothing\n", "compose.yml: the file is empty"),
    ];
    for (text, expected) in cases {
        let found = errors(text);
        assert!(found.starts_with(expected), "{text:?}\nexpected {expected}\nfound    {found}");
    }
}

#[test]
fn several_files() {
    assert_eq!(
        errors_of(&["services: {web: {image: a, tmfps: {}}}", "services:\n  web:\n    prots: []\n",]),
        "compose.yml:1:28: services.web.tmfps: unknown key\n  hint: did you mean `tmpfs`?\n\
         compose.override.yml:3:5: services.web.prots: unknown key\n  hint: did you mean `ports`?"
    );
    assert_eq!(
        errors_of(&[
            "services: {web: {image: a, networks: [n]}}\nnetworks: {n: }",
            "services:\n  web:\n    networks: [m]\n"
        ]),
        "compose.override.yml:3:16: services.web.networks: there is no network `m`\n  hint: did you mean `n`?"
    );
}

#[test]
fn at_most_twenty_are_shown() {
    let services: String =
        (0..30).map(|n| format!("  s{n:02}: {{image: a, oom_kill_disable: true}}\n")).collect();
    let found = errors(&format!("services:\n{services}"));
    assert_eq!(found.lines().count(), 21);
    let first =
        "compose.yml:2:19: services.s00.oom_kill_disable: control groups of version 2 have no such switch\n";
    assert!(found.starts_with(first), "{found}");
    assert!(found.ends_with("\nand 10 more"), "{found}");
}

/// What came out of an executable has no line numbers.
#[test]
fn on_the_device_the_file_and_the_path_are_named() {
    let text = "services: {web: {image: \"a:${TAG:?which version}\"}}";
    let (model, _) = dpack_compose::parse("shop", &[("compose.yml".to_owned(), text.to_owned())]).unwrap();
    let model = Model::from_json(&model.to_json()).unwrap();
    let errors = interpolate(&model, &Environment::new([])).unwrap_err();
    assert_eq!(
        shown(&errors),
        "compose.yml: services.web.image: required variable `TAG` is missing a value: which version"
    );
}

#[test]
fn a_damaged_model_is_refused() {
    for (json, expected) in [
        ("{}", "embedded model: made by another version of dpack"),
        (r#"{"version": 2}"#, "embedded model: made by another version of dpack"),
        (r#"{"version": 1}"#, "embedded model: `folder` is missing or not a string"),
        (r#"{"version": 1, "folder": "a"}"#, "embedded model: `layers` is missing or not a list"),
        (
            r#"{"version": 1, "folder": "a", "layers": [{"file": "f", "content": {"x": 1}}], "environment": []}"#,
            "f: x: unknown key",
        ),
        (
            r#"{"version": 1, "folder": "a", "layers": [{"file": "f"}], "environment": []}"#,
            "embedded model: a layer without content",
        ),
    ] {
        let errors = Model::from_json(&serde_json::from_str(json).unwrap()).unwrap_err();
        assert_eq!(shown(&errors), expected, "{json}");
    }
    let mut deep = serde_json::json!(1);
    for _ in 0..1000 {
        deep = serde_json::json!([deep]);
    }
    let json = serde_json::json!({"version": 1, "folder": "a", "environment": [],
        "layers": [{"file": "f", "content": {"x-a": deep}}]});
    assert_eq!(shown(&Model::from_json(&json).unwrap_err()), "embedded model: nested too deep");
}

/// The messages for networks `a` and `b`, and a service on them; each line of the text starts at its own number.
fn on_networks(networks: &str, places: &str) -> String {
    errors(&format!("networks:\n{networks}services:\n  web:\n    image: a\n    networks:\n{places}"))
}

#[test]
fn subnets() {
    let ipam = |config: &str| {
        on_networks(&format!("  a: {{enable_ipv6: true, ipam: {{config: [{{{config}}}]}}}}\n"), "      a:\n")
    };
    for (config, expected) in [
        (
            "subnet: 10.1.0/24",
            "compose.yml:2:51: networks.a.ipam.config[0].subnet: `10.1.0/24` is not a subnet such as `10.1.0.0/24`",
        ),
        (
            "subnet: 10.1.0.5/24",
            "compose.yml:2:51: networks.a.ipam.config[0].subnet: `10.1.0.5/24` has bits behind its prefix\n  hint: the subnet is `10.1.0.0/24`",
        ),
        (
            "subnet: 10.1.0.0/31",
            "compose.yml:2:51: networks.a.ipam.config[0].subnet: 10.1.0.0/31 has no room for a gateway and a container",
        ),
        (
            "subnet: 127.1.0.0/16",
            "compose.yml:2:51: networks.a.ipam.config[0].subnet: 127.1.0.0/16 overlaps with 127.0.0.0/8, which means something else",
        ),
        (
            "subnet: 0.0.0.0/0",
            "compose.yml:2:51: networks.a.ipam.config[0].subnet: 0.0.0.0/0 overlaps with 0.0.0.0/8, which means something else",
        ),
        (
            "subnet: \"fe80::/64\"",
            "compose.yml:2:51: networks.a.ipam.config[0].subnet: fe80::/64 overlaps with fe80::/10, which means something else",
        ),
        ("gateway: 10.1.0.1", "compose.yml:2:52: networks.a.ipam.config[0].gateway: no `subnet` is given"),
        (
            "subnet: 10.1.0.0/24, gateway: 10.2.0.1",
            "compose.yml:2:73: networks.a.ipam.config[0].gateway: 10.2.0.1 is outside of the subnet 10.1.0.0/24",
        ),
        (
            "subnet: 10.1.0.0/24, gateway: 10.1.0.255",
            "compose.yml:2:73: networks.a.ipam.config[0].gateway: 10.1.0.255 is nobody's: it stands for all of the subnet 10.1.0.0/24",
        ),
        (
            "subnet: 10.1.0.0/24, gateway: \"fd00::1\"",
            "compose.yml:2:73: networks.a.ipam.config[0].gateway: fd00::1 is outside of the subnet 10.1.0.0/24",
        ),
        (
            "subnet: 10.1.0.0/24, gateway: x",
            "compose.yml:2:73: networks.a.ipam.config[0].gateway: `x` is not such an address",
        ),
        (
            "subnet: 10.1.0.0/24, ip_range: 10.1.0.0/16",
            "compose.yml:2:74: networks.a.ipam.config[0].ip_range: 10.1.0.0/16 is not part of the subnet 10.1.0.0/24",
        ),
        (
            "subnet: 10.1.0.0/24, aux_addresses: {nas: 10.2.0.7}",
            "compose.yml:2:85: networks.a.ipam.config[0].aux_addresses.nas: 10.2.0.7 is outside of the subnet 10.1.0.0/24",
        ),
        (
            "subnet: 10.1.0.0/24}, {subnet: 10.2.0.0/24",
            "compose.yml:2:74: networks.a.ipam.config[1].subnet: a network has one subnet of a family, and 10.1.0.0/24 is there already",
        ),
    ] {
        assert_eq!(ipam(config), expected, "{config}");
    }
    let two = on_networks(
        "  a: {ipam: {config: [{subnet: 10.1.0.0/16}]}}\n  b: {ipam: {config: [{subnet: 10.1.2.0/24}]}}\n",
        "      a:\n      b:\n",
    );
    assert_eq!(
        two,
        "compose.yml:3:32: networks.b.ipam: 10.1.2.0/24 overlaps with 10.1.0.0/16 of network `a`"
    );
    let neither = on_networks("  a: {enable_ipv4: false}\n", "      a:\n");
    assert_eq!(
        neither,
        "compose.yml:2:20: networks.a.enable_ipv4: without IPv4, the network needs `enable_ipv6: true`"
    );
}

#[test]
fn too_many_networks() {
    let names = |form: &str| (10..41).map(|n| form.replace('N', &n.to_string())).collect::<String>();
    assert_eq!(
        on_networks(&names("  nN: {}\n"), &names("      nN:\n")),
        "compose.yml:32:3: networks.n40: there are subnets for 30 networks, and this is one more\n  \
         hint: give networks a `subnet` each under `ipam.config`"
    );
}

#[test]
fn fixed_addresses() {
    let network = "  a: {ipam: {config: [{subnet: 10.1.0.0/24, aux_addresses: {nas: 10.1.0.7}}]}}\n  b: {}\n";
    let place = |place: &str| on_networks(network, &format!("      {place}\n"));
    for (written, expected) in [
        (
            "a: {ipv4_address: 10.2.0.5}",
            "compose.yml:8:25: services.web.networks.a.ipv4_address: 10.2.0.5 is outside of the subnet 10.1.0.0/24",
        ),
        (
            "a: {ipv4_address: 10.1.0.0}",
            "compose.yml:8:25: services.web.networks.a.ipv4_address: 10.1.0.0 is nobody's: it stands for all of the subnet 10.1.0.0/24",
        ),
        (
            "a: {ipv4_address: 10.1.0.1}",
            "compose.yml:8:25: services.web.networks.a.ipv4_address: 10.1.0.1 is the gateway of network `a`",
        ),
        (
            "a: {ipv4_address: 10.1.0.7}",
            "compose.yml:8:25: services.web.networks.a.ipv4_address: 10.1.0.7 is reserved for `nas` by `aux_addresses` of network `a`",
        ),
        (
            "a: {ipv4_address: \"fd00::1\"}",
            "compose.yml:8:25: services.web.networks.a.ipv4_address: `fd00::1` is not such an address",
        ),
        (
            "a: {ipv6_address: \"fd00::5\"}",
            "compose.yml:8:25: services.web.networks.a.ipv6_address: network `a` does not have `enable_ipv6`",
        ),
        (
            "b: {ipv4_address: 10.1.0.5}",
            "compose.yml:8:25: services.web.networks.b.ipv4_address: network `b` has no `subnet` under `ipam.config` that the address is of",
        ),
        (
            "a: {mac_address: \"01:00:5e:00:00:01\"}",
            "compose.yml:8:24: services.web.networks.a.mac_address: `01:00:5e:00:00:01` is not the MAC address of one interface: the lowest bit of its first byte must be 0",
        ),
        (
            "a: {mac_address: x}",
            "compose.yml:8:24: services.web.networks.a.mac_address: `x` is not a MAC address",
        ),
        (
            "a: {interface_name: a/b}",
            "compose.yml:8:27: services.web.networks.a.interface_name: `a/b` cannot be the name of an interface",
        ),
        (
            "a: {interface_name: lo}",
            "compose.yml:8:27: services.web.networks.a.interface_name: `lo` cannot be the name of an interface",
        ),
        (
            "a: {link_local_ips: [10.1.0.9]}",
            "compose.yml:8:28: services.web.networks.a.link_local_ips[0]: 10.1.0.9 is no link-local address: those are 169.254.0.0/16 and fe80::/64",
        ),
        (
            "a: {link_local_ips: [\"fe80::9\"]}",
            "compose.yml:8:27: services.web.networks.a.link_local_ips[0]: network `a` does not have `enable_ipv6`",
        ),
    ] {
        assert_eq!(place(written), expected, "{written}");
    }
    let services = |services: &str| errors(&format!("networks:\n{network}services:\n{services}"));
    assert_eq!(
        services(
            "  one: {image: a, networks: {a: {ipv4_address: 10.1.0.5}}}\n  two: {image: a, networks: {a: {ipv4_address: 10.1.0.5}}}\n"
        ),
        "compose.yml:6:48: services.two.networks.a.ipv4_address: service `one` has 10.1.0.5 already"
    );
    assert_eq!(
        services("  one: {image: a, scale: 2, networks: {a: {ipv4_address: 10.1.0.5}}}\n"),
        "compose.yml:5:58: services.one.networks.a.ipv4_address: several containers cannot have one address"
    );
    assert_eq!(
        services("  one: {image: a, networks: {a: {interface_name: x}, b: {interface_name: x}}}\n"),
        "compose.yml:5:74: services.one.networks.b.interface_name: the interface of network `a` has the same name"
    );
    assert_eq!(
        services(
            "  one: {image: a, mac_address: \"02:42:00:00:00:01\", networks: {b: {mac_address: \"02:42:00:00:00:02\"}}}\n"
        ),
        "compose.yml:5:32: services.one.mac_address: on network `b` the service has another one, 02:42:00:00:00:02"
    );
    // However it is written, and wherever.
    let two = |second: &str| {
        services(&format!(
            "  one: {{image: a, mac_address: \"02:42:AC:00:00:01\", networks: [b]}}\n  two: {{image: a, {second}}}\n"
        ))
    };
    assert_eq!(
        two("mac_address: \"02-42-ac-00-00-01\", networks: [b]"),
        "compose.yml:6:32: services.two.mac_address: service `one` has 02-42-ac-00-00-01 already on network `b`"
    );
    assert_eq!(
        two("networks: {b: {mac_address: \"02:42:aC:00:00:01\"}}"),
        "compose.yml:6:47: services.two.networks.b.mac_address: service `one` has 02:42:ac:00:00:01 already"
    );
}

#[test]
fn options_of_networks() {
    let options =
        |options: &str| on_networks(&format!("  a: {{driver_opts: {{{options}}}}}\n"), "      a:\n");
    for (written, expected) in [
        (
            "com.docker.network.driver.mtu: 67",
            "compose.yml:2:52: networks.a.driver_opts.com.docker.network.driver.mtu: `67` is not the size of packets: 68 to 65535, with IPv6 at least 1280",
        ),
        (
            "com.docker.network.bridge.enable_icc: maybe",
            "compose.yml:2:59: networks.a.driver_opts.com.docker.network.bridge.enable_icc: expected `true` or `false`, found `maybe`",
        ),
        (
            "com.docker.network.bridge.enable_ip_masquerade: \"false\"",
            "compose.yml:2:21: networks.a.driver_opts.com.docker.network.bridge.enable_ip_masquerade: containers reach the outside in the name of the device only; `internal: true` has no way out",
        ),
        (
            "com.docker.network.bridge.host_binding_ipv4: 127.0.0.1",
            "compose.yml:2:21: networks.a.driver_opts.com.docker.network.bridge.host_binding_ipv4: write the address before the published port: `127.0.0.1:80:80`",
        ),
        (
            "parent: eth0",
            "compose.yml:2:21: networks.a.driver_opts.parent: no such option of a bridge is known here",
        ),
        (
            "com.docker.network.container_iface_prefix: lan/",
            "compose.yml:2:64: networks.a.driver_opts.com.docker.network.container_iface_prefix: `lan/` cannot begin the names of interfaces",
        ),
    ] {
        assert_eq!(options(written), expected, "{written}");
    }
}

#[test]
fn ranges_of_ports() {
    check(&[
        (
            "ports: [\"8090-8080:80\"]",
            "compose.yml:4:13: services.web.ports[0]: the range `8090-8080` ends before it starts",
        ),
        (
            "ports: [\"80:70000\"]",
            "compose.yml:4:13: services.web.ports[0]: port 70000 is out of range, ports go up to 65535",
        ),
        (
            "ports: [{target: 80, published: \"9-8\"}]",
            "compose.yml:4:13: services.web.ports[0]: the range `9-8` ends before it starts",
        ),
    ]);
    // A range, of which one port is chosen.
    let replicas = |ports: &str, replicas: u32| {
        let other = "b: {image: b, ports: [\"81:80\", \"127.0.0.1:82:80\", \"83:80/udp\"]}";
        format!("services:\n  {other}\n  a:\n    image: a\n    scale: {replicas}\n    ports: [{ports}]\n")
    };
    for (ports, count, expected) in [
        ("\"81-83:80\"", 2, "the range 81-83 has not enough ports: 2 needed, 1 left"),
        ("\"[::1]:81-82:80\"", 2, "the range 81-82 has not enough ports: 2 needed, 1 left"),
        ("{target: 80, published: 81-82}", 1, "the range 81-82 has not enough ports: 1 needed, 0 left"),
        ("\"0-9:80\"", 1, "port 0 of the range `0-9` is not a port"),
    ] {
        let found = errors(&replicas(ports, count));
        assert_eq!(found, format!("compose.yml:6:13: services.a.ports[0]: {expected}"), "{ports}");
    }
    let (model, _) =
        dpack_compose::parse("shop", &[("compose.yml".to_owned(), replicas("\"81-84:80\"", 2))]).unwrap();
    let project = interpolate(&model, &Environment::default()).unwrap().project;
    let port = &project.services["a"].ports[0];
    assert_eq!((port.published, port.published_last), (Some(81), Some(84)));
}
