//! Every key of the Compose specification, section by section, and what becomes of it.
//!
//! A key's shape says what its value may look like, and what turns it into the one form that later stages see. To run a
//! key, read it in `typed`, change `refused` to `yes` or `limit` here, and change its row in COMPOSE.md; how lists and
//! mappings of several files are merged is in `merge`.

use super::State::{Build, Limit, Refused, Runs};
use super::{BOOL, Fields, Key, NULL, NUMBER, Shape, TEXT};
use crate::canonical::{self, files, mounts, ports};

/// It does what it says.
const fn yes(name: &'static str, shape: &'static Shape) -> Key {
    Key { name, shape, state: Runs }
}

/// It does what it says, but for this.
const fn limit(name: &'static str, shape: &'static Shape, what: &'static str) -> Key {
    Key { name, shape, state: Limit(what) }
}

/// It is dealt with when the executable is built.
const fn build(name: &'static str, shape: &'static Shape, how: &'static str) -> Key {
    Key { name, shape, state: Build(how) }
}

/// It cannot be done, for this reason.
const fn refused(name: &'static str, shape: &'static Shape, reason: &'static str) -> Key {
    Key { name, shape, state: Refused(reason) }
}

const NOTHING: Shape = Shape::scalars(0);
const STRING: Shape = Shape::scalars(TEXT);
const FLAG: Shape = Shape::scalars(TEXT | BOOL).convert(canonical::flag);
const INTEGER: Shape = Shape::scalars(TEXT | NUMBER).convert(canonical::integer);
const DECIMAL: Shape = Shape::scalars(TEXT | NUMBER).convert(canonical::decimal);
const SIZE: Shape = Shape::scalars(TEXT | NUMBER).convert(canonical::size);
const DURATION: Shape = STRING.convert(canonical::duration);
/// A string that may be written as a number.
const LABEL: Shape = Shape::scalars(TEXT | NUMBER).convert(canonical::text);
const SCALAR: Shape = Shape::scalars(TEXT | NUMBER | BOOL | NULL);
const ANYTHING: Shape = Shape::ANYTHING;
const STRINGS: Shape = NOTHING.list(&STRING);
const LABELS: Shape = NOTHING.list(&LABEL);
const STRING_OR_LIST: Shape = STRING.list(&STRING).convert(canonical::listed);
const COMMAND: Shape = Shape::scalars(TEXT | NULL).list(&STRING).convert(canonical::command);
/// `KEY` alone takes its value from outside.
const VARIABLES: Shape = NOTHING.list(&STRING).fields(Fields::Any(&SCALAR)).convert(canonical::variables);
/// `KEY` alone has an empty value.
const PAIRS: Shape = NOTHING.list(&STRING).fields(Fields::Any(&SCALAR)).convert(canonical::pairs);
const OPTIONS: Shape = NOTHING.fields(Fields::Any(&SCALAR)).convert(canonical::pairs);
const EXTRA_HOSTS: Shape =
    NOTHING.list(&STRING).fields(Fields::Any(&SCALAR.list(&STRING))).convert(canonical::extra_hosts);
const ULIMITS: Shape = NOTHING.fields(Fields::Any(
    &Shape::scalars(TEXT | NUMBER)
        .fields(Fields::Keys(&[yes("hard", &INTEGER), yes("soft", &INTEGER)]))
        .convert(canonical::ulimit),
));

/// A whole file.
pub(crate) const FILE: Shape = NOTHING.fields(Fields::Keys(&[
    yes("configs", &Shape::scalars(NULL).fields(Fields::Names(&CONFIG))),
    yes("include", &NOTHING.list(&INCLUDE)),
    refused(
        "models",
        &NOTHING.fields(Fields::Names(&ANYTHING)),
        "language models need Docker's model runner, there is none on a device",
    ),
    yes("name", &STRING),
    yes("networks", &Shape::scalars(NULL).fields(Fields::Names(&NETWORK))),
    yes("secrets", &Shape::scalars(NULL).fields(Fields::Names(&SECRET))),
    yes("services", &Shape::scalars(NULL).fields(Fields::Names(&SERVICE))),
    limit("version", &STRING, "obsolete, ignored with a warning"),
    yes("volumes", &Shape::scalars(NULL).fields(Fields::Names(&VOLUME))),
]));

const INCLUDE: Shape = STRING.fields(Fields::Keys(&[
    yes("env_file", &STRING_OR_LIST),
    yes("path", &STRING_OR_LIST),
    yes("project_directory", &STRING),
]));

const WINDOWS: &str = "means something on Windows only";
const NO_GPU: &str = "needs a vendor's container runtime on the device, there is none";

const SERVICE: Shape = NOTHING.fields(Fields::Keys(&[
    yes("annotations", &PAIRS),
    yes("attach", &FLAG),
    yes("blkio_config", &NOTHING.fields(Fields::Keys(BLOCK_IO))),
    build(
        "build",
        &STRING.fields(Fields::Keys(BUILD)).convert(canonical::build),
        "by docker buildx, buildah or podman, whichever is installed",
    ),
    yes("cap_add", &STRINGS),
    yes("cap_drop", &STRINGS),
    yes("cgroup", &STRING),
    refused("cgroup_parent", &STRING, "groups beside the one that the user was given need root"),
    yes("command", &COMMAND),
    yes("configs", &NOTHING.list(&FILE_MOUNT)),
    yes("container_name", &STRING),
    refused("cpu_count", &INTEGER, WINDOWS),
    refused("cpu_percent", &DECIMAL, WINDOWS),
    yes("cpu_period", &INTEGER),
    yes("cpu_quota", &INTEGER),
    refused("cpu_rt_period", &INTEGER, "real-time groups need root, the runner has none"),
    refused("cpu_rt_runtime", &INTEGER, "real-time groups need root, the runner has none"),
    yes("cpu_shares", &INTEGER),
    yes("cpus", &DECIMAL),
    yes("cpuset", &STRING),
    refused(
        "credential_spec",
        &NOTHING.fields(Fields::Keys(&[
            yes("config", &STRING),
            yes("file", &STRING),
            yes("registry", &STRING),
        ])),
        WINDOWS,
    ),
    yes(
        "depends_on",
        &NOTHING.list(&STRING).fields(Fields::Names(&DEPENDENCY)).convert(canonical::depends_on),
    ),
    yes("deploy", &Shape::scalars(NULL).fields(Fields::Keys(DEPLOY))),
    limit("develop", &ANYTHING, "for `docker compose watch`, ignored"),
    refused("device_cgroup_rules", &STRINGS, "device rules need root, the runner has none"),
    yes("devices", &NOTHING.list(&DEVICE)),
    yes("dns", &STRING_OR_LIST),
    yes("dns_opt", &STRINGS),
    yes("dns_search", &STRING_OR_LIST),
    yes("domainname", &STRING),
    yes("entrypoint", &COMMAND),
    yes("env_file", &STRING.list(&ENV_FILE).convert(canonical::listed)),
    yes("environment", &VARIABLES),
    yes("expose", &LABELS),
    yes("extends", &STRING.fields(Fields::Keys(&[yes("file", &STRING), yes("service", &STRING)]))),
    refused("external_links", &STRINGS, "links to containers of other projects do not exist here"),
    yes("extra_hosts", &EXTRA_HOSTS),
    refused("gpus", &STRING.list(&GPU).convert(canonical::gpus), NO_GPU),
    yes("group_add", &LABELS),
    yes("healthcheck", &NOTHING.fields(Fields::Keys(HEALTHCHECK))),
    yes("hostname", &STRING),
    yes("image", &STRING),
    yes("init", &FLAG),
    yes("ipc", &STRING),
    refused("isolation", &STRING, WINDOWS),
    yes("label_file", &STRING_OR_LIST),
    yes("labels", &PAIRS),
    yes("links", &STRINGS),
    yes(
        "logging",
        &NOTHING.fields(Fields::Keys(&[
            limit("driver", &STRING, "`json-file`, `local` and `none`; others need a service of the machine"),
            limit(
                "options",
                &NOTHING.fields(Fields::Any(&SCALAR)).convert(canonical::pairs),
                "`max-size` and `max-file`; what compresses or tags changes nothing",
            ),
        ])),
    ),
    yes("mac_address", &STRING),
    yes("mem_limit", &SIZE),
    yes("mem_reservation", &SIZE),
    yes("mem_swappiness", &SIZE),
    yes("memswap_limit", &SIZE),
    refused(
        "models",
        &NOTHING.list(&STRING).fields(Fields::Any(&ANYTHING)),
        "language models need Docker's model runner, there is none on a device",
    ),
    limit("network_mode", &STRING, "no `bridge`; `container:` of the project only"),
    yes(
        "networks",
        &Shape::scalars(NULL)
            .list(&STRING)
            .fields(Fields::Names(&ATTACHMENT))
            .convert(canonical::names_to_map),
    ),
    refused("oom_kill_disable", &FLAG, "control groups of version 2 have no such switch"),
    yes("oom_score_adj", &INTEGER),
    limit(
        "pid",
        &Shape::scalars(TEXT | NULL),
        "`service:` and `container:` of the project; `host` would reach every process of the user",
    ),
    yes("pids_limit", &INTEGER),
    build("platform", &STRING, "platforms are chosen with `dpack build --platform`; another one is an error"),
    yes("ports", &NOTHING.list(&PORT).convert(ports::long)),
    yes("post_start", &NOTHING.list(&HOOK)),
    limit("pre_start", &NOTHING.list(&HOOK), "runs again for each container that is made anew"),
    yes("pre_stop", &NOTHING.list(&HOOK)),
    limit("privileged", &FLAG, "everything that the user may do, and no more"),
    yes("profiles", &STRINGS),
    refused("provider", &ANYTHING, "providers are programs of the machine, the device has none"),
    build("pull_policy", &STRING, "images are pulled when the executable is built"),
    build("pull_refresh_after", &STRING, "images are pulled when the executable is built"),
    yes("read_only", &FLAG),
    limit("restart", &STRING, "after a reboot not before somebody calls `up`"),
    refused("runtime", &STRING, "the executable is the runtime, it runs containers itself"),
    yes("scale", &INTEGER),
    yes("secrets", &NOTHING.list(&FILE_MOUNT)),
    yes("security_opt", &STRINGS),
    yes("shm_size", &SIZE),
    yes("stdin_open", &FLAG),
    yes("stop_grace_period", &DURATION),
    yes("stop_signal", &STRING),
    refused("storage_opt", &OPTIONS, "limits of the writable layer are quotas, which only root sets"),
    yes("sysctls", &PAIRS),
    yes("tmpfs", &STRING_OR_LIST),
    yes("tty", &FLAG),
    limit("ulimits", &ULIMITS, "up to the hard limits of the user's session"),
    refused("use_api_socket", &FLAG, "there is no Docker Engine whose socket could be used"),
    yes("user", &STRING),
    limit("userns_mode", &STRING, "`host` is the project's user namespace, which every container is in"),
    limit("uts", &STRING, "`host` only, as in Docker Compose"),
    yes("volumes", &NOTHING.list(&MOUNT).convert(mounts::long)),
    yes("volumes_from", &STRINGS),
    yes("working_dir", &STRING),
]));

const IN_REGISTRIES: &str = "buildah and podman: in registries only";
const BY_DOCKER: &str = "docker buildx only";
const IN_DOCKERFILE: &str = "the Dockerfile says it: `RUN --mount=type=secret,…`";

const BUILD: &[Key] = &[
    limit("additional_contexts", &PAIRS, "no images of other services"),
    yes("args", &VARIABLES),
    limit("cache_from", &STRINGS, IN_REGISTRIES),
    limit("cache_to", &STRINGS, IN_REGISTRIES),
    yes("context", &STRING),
    yes("dockerfile", &STRING),
    yes("dockerfile_inline", &STRING),
    limit("entitlements", &STRINGS, BY_DOCKER),
    yes("extra_hosts", &EXTRA_HOSTS),
    refused("isolation", &STRING, WINDOWS),
    yes("labels", &PAIRS),
    yes("network", &STRING),
    yes("no_cache", &FLAG),
    limit("no_cache_filter", &STRING_OR_LIST, BY_DOCKER),
    limit("platforms", &STRINGS, "`dpack build --platform` says which ones are built"),
    refused("privileged", &FLAG, "the tools that build have no such switch; use `entitlements`"),
    limit("provenance", &Shape::scalars(TEXT | BOOL).convert(canonical::text), "not part of the image"),
    yes("pull", &FLAG),
    limit("sbom", &Shape::scalars(TEXT | BOOL).convert(canonical::text), "not part of the image"),
    yes(
        "secrets",
        &NOTHING.list(
            &STRING
                .fields(Fields::Keys(&[
                    refused("gid", &LABEL, IN_DOCKERFILE),
                    refused("mode", &Shape::scalars(TEXT | NUMBER).convert(files::mode), IN_DOCKERFILE),
                    yes("source", &STRING),
                    yes("target", &STRING),
                    refused("uid", &LABEL, IN_DOCKERFILE),
                ]))
                .convert(files::mount),
        ),
    ),
    yes("shm_size", &SIZE),
    yes("ssh", &NOTHING.list(&STRING).fields(Fields::Any(&SCALAR)).convert(canonical::lines)),
    limit("tags", &STRINGS, "the image is only in the executable"),
    yes("target", &STRING),
    yes("ulimits", &ULIMITS),
];

const BLOCK_IO: &[Key] = &[
    yes("device_read_bps", &NOTHING.list(&BLOCK_LIMIT)),
    yes("device_read_iops", &NOTHING.list(&BLOCK_LIMIT)),
    yes("device_write_bps", &NOTHING.list(&BLOCK_LIMIT)),
    yes("device_write_iops", &NOTHING.list(&BLOCK_LIMIT)),
    yes("weight", &INTEGER),
    yes(
        "weight_device",
        &NOTHING.list(&NOTHING.fields(Fields::Keys(&[yes("path", &STRING), yes("weight", &INTEGER)]))),
    ),
];

const BLOCK_LIMIT: Shape = NOTHING.fields(Fields::Keys(&[yes("path", &STRING), yes("rate", &SIZE)]));

const DEPLOY: &[Key] = &[
    limit("endpoint_mode", &STRING, "names are always resolved to the containers' addresses"),
    limit("labels", &PAIRS, "labels of Swarm services, ignored"),
    yes("mode", &STRING),
    limit(
        "placement",
        &NOTHING.fields(Fields::Keys(&[
            yes("constraints", &STRINGS),
            yes("max_replicas_per_node", &INTEGER),
            yes("preferences", &NOTHING.list(&NOTHING.fields(Fields::Keys(&[yes("spread", &STRING)])))),
        ])),
        "there is one device, ignored",
    ),
    yes("replicas", &INTEGER),
    yes("resources", &NOTHING.fields(Fields::Keys(RESOURCES))),
    yes(
        "restart_policy",
        &NOTHING.fields(Fields::Keys(&[
            yes("condition", &STRING),
            yes("delay", &DURATION),
            yes("max_attempts", &INTEGER),
            limit("window", &DURATION, "ignored, as by Docker Compose"),
        ])),
    ),
    limit("rollback_config", &NOTHING.fields(Fields::Keys(UPDATE)), "for Swarm, ignored"),
    limit(
        "update_config",
        &NOTHING.fields(Fields::Keys(UPDATE)),
        "containers are replaced all at once, as by Docker Compose",
    ),
];

const UPDATE: &[Key] = &[
    yes("delay", &DURATION),
    limit("failure_action", &STRING, "for Swarm, ignored"),
    limit("max_failure_ratio", &DECIMAL, "for Swarm, ignored"),
    limit("monitor", &DURATION, "for Swarm, ignored"),
    yes("order", &STRING),
    yes("parallelism", &INTEGER),
];

const RESOURCES: &[Key] = &[
    yes(
        "limits",
        &NOTHING.fields(Fields::Keys(&[yes("cpus", &DECIMAL), yes("memory", &SIZE), yes("pids", &INTEGER)])),
    ),
    yes(
        "reservations",
        &NOTHING.fields(Fields::Keys(&[
            yes("cpus", &DECIMAL),
            refused("devices", &NOTHING.list(&GPU), NO_GPU),
            limit("generic_resources", &NOTHING.list(&ANYTHING), "for Swarm, ignored"),
            yes("memory", &SIZE),
        ])),
    ),
];

const GPU: Shape = NOTHING.fields(Fields::Keys(&[
    yes("capabilities", &STRINGS),
    yes("count", &Shape::scalars(TEXT | NUMBER).convert(canonical::count)),
    yes("device_ids", &STRINGS),
    yes("driver", &STRING),
    yes("options", &PAIRS),
]));

const DEVICE: Shape = STRING
    .fields(Fields::Keys(&[yes("permissions", &STRING), yes("source", &STRING), yes("target", &STRING)]))
    .convert(canonical::device);

const ENV_FILE: Shape = STRING
    .fields(Fields::Keys(&[yes("format", &STRING), yes("path", &STRING), yes("required", &FLAG)]))
    .convert(files::env_file);

const FILE_MOUNT: Shape = STRING
    .fields(Fields::Keys(&[
        yes("gid", &LABEL),
        yes("mode", &Shape::scalars(TEXT | NUMBER).convert(files::mode)),
        yes("source", &STRING),
        yes("target", &STRING),
        yes("uid", &LABEL),
    ]))
    .convert(files::mount);

const HEALTHCHECK: &[Key] = &[
    yes("disable", &FLAG),
    yes("interval", &DURATION),
    yes("retries", &INTEGER),
    yes("start_interval", &DURATION),
    yes("start_period", &DURATION),
    yes("test", &STRING.list(&STRING).convert(canonical::test)),
    yes("timeout", &DURATION),
];

/// `image` and `per_replica` are for `pre_start` only.
const HOOK: Shape = NOTHING.fields(Fields::Keys(&[
    yes("command", &COMMAND),
    yes("environment", &VARIABLES),
    yes("image", &STRING),
    yes("per_replica", &FLAG),
    refused("privileged", &FLAG, "a hook has no more privileges than its container"),
    yes("user", &STRING),
    yes("working_dir", &STRING),
]));

const DEPENDENCY: Shape = NOTHING.fields(Fields::Keys(&[
    yes("condition", &STRING),
    yes("required", &Shape::scalars(BOOL)),
    yes("restart", &FLAG),
]));

/// A service on a network.
const ATTACHMENT: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    yes("aliases", &STRINGS),
    refused("driver_opts", &OPTIONS, "no option of an interface is known here"),
    yes("gw_priority", &INTEGER),
    yes("interface_name", &STRING),
    yes("ipv4_address", &STRING),
    yes("ipv6_address", &STRING),
    yes("link_local_ips", &STRINGS),
    yes("mac_address", &STRING),
    yes("priority", &INTEGER),
]));

const PORT: Shape = Shape::scalars(TEXT | NUMBER).fields(Fields::Keys(&[
    limit("app_protocol", &STRING, "informs only"),
    yes("host_ip", &STRING),
    yes("mode", &STRING),
    limit("name", &STRING, "informs only"),
    yes("protocol", &STRING),
    yes("published", &Shape::scalars(TEXT | NUMBER)),
    yes("target", &Shape::scalars(TEXT | NUMBER)),
]));

const MOUNT: Shape = STRING.fields(Fields::Keys(&[
    yes("bind", &NOTHING.fields(Fields::Keys(BIND))),
    limit("consistency", &STRING, "Docker Desktop's caches, without meaning on Linux"),
    yes("image", &NOTHING.fields(Fields::Keys(&[yes("subpath", &STRING)]))),
    yes("read_only", &FLAG),
    yes("source", &STRING),
    yes("target", &STRING),
    yes(
        "tmpfs",
        &NOTHING.fields(Fields::Keys(&[
            yes("mode", &Shape::scalars(TEXT | NUMBER).convert(mounts::mode)),
            yes("size", &SIZE),
        ])),
    ),
    limit("type", &STRING, "`bind`, `volume`, `tmpfs`, `image`"),
    yes("volume", &NOTHING.fields(Fields::Keys(MOUNTED_VOLUME))),
]));

const BIND: &[Key] = &[
    yes("create_host_path", &FLAG),
    limit("propagation", &STRING, "nothing that a container mounts reaches the device"),
    yes("recursive", &STRING),
    yes("selinux", &STRING),
];

const MOUNTED_VOLUME: &[Key] =
    &[limit("labels", &PAIRS, "shown nowhere"), yes("nocopy", &FLAG), yes("subpath", &STRING)];

const EXTERNAL_SHAPE: Shape =
    Shape::scalars(TEXT | BOOL).fields(Fields::Keys(&[yes("name", &STRING)])).convert(canonical::external);
const EXTERNAL: &str = "everything an executable uses belongs to its project";

const NETWORK: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    limit("attachable", &FLAG, "for Swarm, ignored"),
    limit("driver", &STRING, "`bridge` only"),
    limit(
        "driver_opts",
        &OPTIONS,
        "Docker's `mtu`, `enable_icc` and `container_iface_prefix`; `bridge.name` is ignored",
    ),
    yes("enable_ipv4", &FLAG),
    yes("enable_ipv6", &FLAG),
    refused("external", &EXTERNAL_SHAPE, EXTERNAL),
    yes("internal", &FLAG),
    yes(
        "ipam",
        &NOTHING.fields(Fields::Keys(&[
            yes("config", &NOTHING.list(&POOL)),
            limit("driver", &STRING, "`default` only"),
            limit("options", &OPTIONS, "of other drivers, ignored"),
        ])),
    ),
    yes("labels", &PAIRS),
    yes("name", &STRING),
]));

const POOL: Shape = NOTHING.fields(Fields::Keys(&[
    yes("aux_addresses", &OPTIONS),
    yes("gateway", &STRING),
    yes("ip_range", &STRING),
    yes("subnet", &STRING),
]));

const VOLUME: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    limit("driver", &STRING, "`local` only"),
    limit("driver_opts", &OPTIONS, "binds, and a tmpfs for one container; other file systems need root"),
    refused("external", &EXTERNAL_SHAPE, EXTERNAL),
    yes("labels", &PAIRS),
    yes("name", &STRING),
]));

const CONFIG: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    yes("content", &STRING),
    yes("environment", &STRING),
    refused("external", &EXTERNAL_SHAPE, EXTERNAL),
    yes("file", &STRING),
    yes("labels", &PAIRS),
    yes("name", &STRING),
    refused("template_driver", &STRING, "templates are Swarm's"),
]));

const SECRET: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    refused("driver", &STRING, "drivers are Swarm's"),
    refused("driver_opts", &OPTIONS, "drivers are Swarm's"),
    yes("environment", &STRING),
    refused("external", &EXTERNAL_SHAPE, EXTERNAL),
    yes("file", &STRING),
    yes("labels", &PAIRS),
    yes("name", &STRING),
    refused("template_driver", &STRING, "templates are Swarm's"),
]));

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables list the specification's keys once each: a service has 93.
    #[test]
    fn tables_are_complete() {
        let sections =
            [("file", FILE, 9), ("service", SERVICE, 93), ("network", NETWORK, 10), ("volume", VOLUME, 5)];
        for (name, shape, count) in sections {
            let Some(Fields::Keys(keys)) = shape.fields else { panic!("{name} has no keys") };
            let names: std::collections::BTreeSet<_> = keys.iter().map(|key| key.name).collect();
            assert_eq!(names.len(), keys.len(), "a key of {name} is listed twice");
            assert_eq!(keys.len(), count, "{name}");
        }
    }
}
