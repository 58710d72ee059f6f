//! Whole bundles: what Docker would do with the same service and image, and that others can read the result.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not recognise as such")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dpack_bundle::image::ImageConfig;
use dpack_bundle::mounts::{ResolvedMount, plan};
use dpack_bundle::process::{command_line, environment, set_home, stop_signal};
use dpack_bundle::seccomp::Machine;
use dpack_bundle::spec::{NamespaceKind, Spec};
use dpack_bundle::users::UserDatabase;
use dpack_bundle::{BundleError, BundleInput, Host, spec};
use dpack_compose::project::{Mount, MountSource, NetworkMode, Service};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const USERS: UserDatabase<'_> = UserDatabase {
    passwd: "root:x:0:0:root:/root:/bin/sh\nredis:x:999:998::/home/redis:/bin/sh\n",
    group: "root:x:0:\nredis:x:998:\nlog:x:4:redis\n",
};

fn strings(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// A redis image, as its registry has it.
fn redis() -> ImageConfig {
    ImageConfig {
        env: strings("PATH=/usr/bin:/bin REDIS_VERSION=7"),
        entrypoint: strings("docker-entrypoint.sh"),
        cmd: strings("redis-server"),
        working_dir: "/data".into(),
        volumes: strings("/data"),
        ..ImageConfig::default()
    }
}

/// The bundle of a service with volumes below `/volumes`.
fn bundle(service: &Service, image: &ImageConfig) -> Result<Spec, BundleError> {
    let mounts: Vec<ResolvedMount> = plan(service, image)
        .unwrap()
        .into_iter()
        .map(|mount| ResolvedMount {
            source: Path::new("/volumes").join(&mount.target[1..]),
            layers: Vec::new(),
            mount,
        })
        .collect();
    spec(&BundleInput {
        service,
        image,
        id: ID,
        container_dir: Path::new("/c"),
        layers: &[PathBuf::from("/l/low"), PathBuf::from("/l/high")],
        mounts: &mounts,
        users: USERS,
        host: Host {
            hostname: "device",
            single_id: false,
            machine: Machine { name: "amd64", kernel: (6, 1) },
            labels: None,
        },
        resources: None,
        tty: false,
        volatile: false,
    })
}

fn service() -> Service {
    Service { image: "redis:7".into(), ..Service::default() }
}

fn targets(spec: &Spec) -> Vec<&str> {
    spec.mounts.iter().map(|mount| mount.destination.as_str()).collect()
}

fn options(spec: &Spec, target: &str) -> String {
    spec.mounts.iter().find(|mount| mount.destination == target).unwrap().options.join(",")
}

#[test]
fn command_lines_are_combined_as_docker_does() {
    // Service's entrypoint and command, image's entrypoint and command, result.
    type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, Option<&'a str>);
    let cases: [Case<'_>; 12] = [
        (None, None, "e", "c d", Some("e c d")),
        (None, Some("x"), "e", "c", Some("e x")),
        (None, Some(""), "e", "c", Some("e c")),
        (Some("x"), None, "e", "c", Some("x")),
        (Some("x"), Some("y"), "e", "c", Some("x y")),
        (Some(""), None, "e", "c", Some("c")),
        (Some(""), Some("y"), "e", "c", Some("y")),
        (None, None, "", "c", Some("c")),
        (None, None, "e", "", Some("e")),
        (None, None, "", "", None),
        (Some(""), None, "e", "", None),
        (None, Some("y"), "", "", Some("y")),
    ];
    for (entrypoint, command, image_entrypoint, image_command, expected) in cases {
        let service =
            Service { entrypoint: entrypoint.map(strings), command: command.map(strings), ..service() };
        let image = ImageConfig {
            entrypoint: strings(image_entrypoint),
            cmd: strings(image_command),
            ..ImageConfig::default()
        };
        let line = command_line(&service, &image);
        assert_eq!(
            line.ok(),
            expected.map(strings),
            "{entrypoint:?} {command:?} {image_entrypoint} {image_command}"
        );
    }
    let cleared = Service { entrypoint: Some(vec![String::new()]), ..service() };
    let error = command_line(&cleared, &redis()).unwrap_err().to_string();
    assert!(error.starts_with("no command specified") && error.contains("`redis:7`"), "{error}");
    let nul = Service { command: Some(vec!["a\0b".into()]), ..service() };
    assert_eq!(
        command_line(&nul, &redis()).unwrap_err().to_string(),
        "the argument `a\\0b` contains a NUL byte"
    );
}

#[test]
fn environments_are_merged_in_place() {
    let image = ImageConfig { env: strings("PATH=/bin A=image B=image HOSTNAME"), ..ImageConfig::default() };
    let variables = [("B", "service"), ("C", "x=y"), ("EMPTY", "")];
    let service = Service {
        environment: variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..service()
    };
    let env = environment(&service, &image, "host", true).unwrap();
    // A name alone takes the variable away, as in Docker.
    assert_eq!(env, strings("PATH=/bin TERM=xterm A=image B=service C=x=y EMPTY="));
    let env = environment(&Service::default(), &ImageConfig::default(), "host", false).unwrap();
    assert_eq!(
        env,
        strings("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOSTNAME=host")
    );
    for (env, expected) in
        [("A=1", "A=1 HOME=/x"), ("HOME=/mine", "HOME=/mine"), ("HOME= A=1", "HOME=/x A=1")]
    {
        let mut env = strings(env);
        set_home(&mut env, "/x");
        assert_eq!(env, strings(expected));
    }
}

#[test]
fn a_redis_service_runs_as_docker_would_run_it() {
    let spec = bundle(&service(), &redis()).unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("0123456789ab"));
    assert_eq!(spec.process.args, ["docker-entrypoint.sh", "redis-server"]);
    assert_eq!(
        spec.process.env,
        strings("PATH=/usr/bin:/bin HOSTNAME=0123456789ab REDIS_VERSION=7 HOME=/root")
    );
    assert_eq!(spec.process.cwd, "/data");
    assert!(!spec.process.no_new_privileges && !spec.root.readonly && !spec.process.terminal);
    let capabilities = spec.process.capabilities.as_ref().unwrap();
    assert_eq!(capabilities.bounding.len(), 14);
    assert_eq!(
        (&capabilities.effective, &capabilities.permitted),
        (&capabilities.bounding, &capabilities.bounding)
    );
    assert!(capabilities.inheritable.is_empty() && capabilities.ambient.is_empty());
    assert_eq!(
        targets(&spec).join(" "),
        "/proc /dev /dev/pts /sys /sys/fs/cgroup /dev/mqueue /dev/shm /data /etc/hosts /etc/hostname /etc/resolv.conf"
    );
    assert_eq!(options(&spec, "/data"), "rbind,rprivate,rw,x-dpack.copyup");
    assert_eq!(options(&spec, "/etc/hosts"), "rbind,rprivate,rw");
    assert!(options(&spec, "/dev/pts").ends_with(",gid=5"));
    assert_eq!(spec.annotations["dev.dpack.layers"], r#"["/l/low","/l/high"]"#);
    assert_eq!(spec.annotations["dev.dpack.upper"], "/c/upper");
    assert_eq!(spec.annotations["dev.dpack.work"], "/c/work");
    assert!(["dev.dpack.init", "dev.dpack.volatile"].iter().all(|key| !spec.annotations.contains_key(*key)));
    assert_eq!(spec.linux.sysctl["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(stop_signal(&service(), &redis()), "SIGTERM");
}

#[test]
fn another_user_has_capabilities_only_within_reach() {
    let spec = bundle(&Service { user: Some("redis".into()), ..service() }, &redis()).unwrap();
    assert_eq!((spec.process.user.uid, spec.process.user.gid), (999, 998));
    assert_eq!(spec.process.user.additional_gids, [998, 4]);
    assert_eq!(spec.process.env.last().unwrap(), "HOME=/home/redis");
    let capabilities = spec.process.capabilities.unwrap();
    assert_eq!(
        (capabilities.bounding.len(), capabilities.effective.len(), capabilities.permitted.len()),
        (14, 0, 0)
    );
    let error = bundle(&Service { user: Some("nobody".into()), ..service() }, &redis()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unable to find user nobody: no matching entries in passwd file of the image"
    );
}

#[test]
fn mounts_of_the_service_replace_defaults_and_go_from_shallow_to_deep() {
    let mount = |target: &str, read_only, source| Mount { target: target.into(), read_only, source };
    let volume = || MountSource::Volume {
        source: Some("v".into()),
        nocopy: true,
        subpath: None,
        labels: BTreeMap::new(),
        selinux: None,
    };
    let bind = || MountSource::bind("/x");
    let service = Service {
        volumes: vec![
            mount("/data/deep/er", false, volume()),
            mount("/data", true, bind()),
            mount("/etc/hosts", false, bind()),
            mount("/dev/shm", false, MountSource::Tmpfs { volume: false, size: Some(1024), mode: None }),
        ],
        ..service()
    };
    let spec = bundle(&service, &redis()).unwrap();
    assert_eq!(
        targets(&spec).join(" "),
        "/proc /dev /dev/pts /sys /sys/fs/cgroup /dev/mqueue \
         /data /etc/hostname /etc/resolv.conf /etc/hosts /dev/shm /data/deep/er"
    );
    assert_eq!(options(&spec, "/data"), "rbind,rprivate,ro,rro");
    assert_eq!(options(&spec, "/data/deep/er"), "rbind,rprivate,rw");
    assert_eq!(options(&spec, "/dev/shm"), "noexec,nosuid,nodev,rprivate,size=1024,mode=1777");
    let everything = Service { volumes: vec![mount("/dev", false, bind())], ..service };
    assert!(
        !targets(&bundle(&everything, &redis()).unwrap()).iter().any(|target| target.starts_with("/dev/"))
    );
}

#[test]
fn a_read_only_root_leaves_volumes_writable() {
    let spec = bundle(&Service { read_only: true, init: true, ..service() }, &redis()).unwrap();
    assert!(spec.root.readonly);
    assert_eq!(options(&spec, "/data"), "rbind,rprivate,rw,x-dpack.copyup");
    assert_eq!(options(&spec, "/etc/hostname"), "rbind,rprivate,ro,rro");
    assert!(!options(&spec, "/dev/shm").contains("ro"));
    assert_eq!(spec.annotations["dev.dpack.init"], "true");
}

#[test]
fn the_devices_network_brings_its_name_and_no_namespace() {
    let of = |network| bundle(&Service { network, ..service() }, &redis()).unwrap();
    let host = of(NetworkMode::Host);
    assert_eq!(host.hostname.as_deref(), Some("device"));
    assert!(!host.linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Network));
    assert_eq!(options(&host, "/sys"), "rbind,rprivate,rnosuid,rnoexec,rnodev,rro");
    assert!(host.linux.sysctl.is_empty());
    let none = of(NetworkMode::None);
    assert!(none.linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Network));
    assert_eq!(none.linux.namespaces.len(), 6);
}

#[test]
fn working_directories_are_absolute() {
    let of = |own: Option<&str>, image: &str| {
        let service = Service { working_dir: own.map(str::to_owned), ..service() };
        bundle(&service, &ImageConfig { working_dir: image.into(), ..redis() }).map(|spec| spec.process.cwd)
    };
    assert_eq!(of(None, "").unwrap(), "/");
    assert_eq!(of(None, "a/../b").unwrap(), "/b");
    assert_eq!(of(Some("/x//y/"), "/data").unwrap(), "/x/y");
    assert!(of(Some("x"), "/data").unwrap_err().to_string().contains("`x`"));
}

/// `oci-spec` reads what we write and means the same by it.
#[test]
fn another_implementation_reads_the_same_document() {
    let volumes = vec![Mount {
        target: "/t".into(),
        read_only: false,
        source: MountSource::Tmpfs { volume: false, size: Some(1), mode: Some(0o700) },
    }];
    let mut spec =
        bundle(&Service { init: true, volumes, user: Some("redis".into()), ..service() }, &redis()).unwrap();
    spec.process.rlimits.push(dpack_bundle::spec::Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        soft: 1024,
        hard: 4096,
    });
    // A set there: all capabilities but one have to be in the order of chance.
    spec.process.capabilities.as_mut().unwrap().bounding.truncate(1);
    let ours = serde_json::to_value(&spec).unwrap();
    let theirs: oci_spec::runtime::Spec = serde_json::from_value(ours.clone()).unwrap();
    let back: Spec = serde_json::from_value(serde_json::to_value(&theirs).unwrap()).unwrap();
    assert_eq!(back, spec);
    assert_eq!(theirs.process().as_ref().unwrap().rlimits().as_ref().unwrap().len(), 1);
    // Nothing of ours is unknown to them: every member comes back.
    fn contains(theirs: &serde_json::Value, ours: &serde_json::Value, path: &str) {
        match (theirs, ours) {
            (serde_json::Value::Object(theirs), serde_json::Value::Object(ours)) => {
                for (key, value) in ours {
                    let path = format!("{path}.{key}");
                    let default = *value == serde_json::Value::Bool(false);
                    match theirs.get(key) {
                        Some(theirs) => contains(theirs, value, &path),
                        None => assert!(default, "{path} is lost"),
                    }
                }
            }
            (serde_json::Value::Array(theirs), serde_json::Value::Array(ours)) => {
                assert_eq!(theirs.len(), ours.len(), "{path}");
                theirs.iter().zip(ours).for_each(|(theirs, ours)| contains(theirs, ours, path));
            }
            _ => assert_eq!(theirs, ours, "{path}"),
        }
    }
    contains(&serde_json::to_value(&theirs).unwrap(), &ours, "");
}
