//! Every key of the Compose specification, section by section, and what becomes of it.
//!
//! To support a key, give it a shape here and read it in `typed`; how it is merged is in `merge`, its short forms are in
//! `canonical`.

use super::State::{NotYet, Refused, Supported};
use super::{BOOL, Fields, Key, NULL, NUMBER, Shape, TEXT};

const fn yes(name: &'static str, shape: &'static Shape) -> Key {
    Key { name, state: Supported(shape) }
}

const fn not_yet(name: &'static str) -> Key {
    Key { name, state: NotYet }
}

const fn refused(name: &'static str, reason: &'static str) -> Key {
    Key { name, state: Refused(reason) }
}

const NOTHING: Shape = Shape::scalars(0);
const STRING: Shape = Shape::scalars(TEXT);
const STRING_OR_NUMBER: Shape = Shape::scalars(TEXT | NUMBER);
const FLAG: Shape = Shape::scalars(TEXT | BOOL);
const SCALAR: Shape = Shape::scalars(TEXT | NUMBER | BOOL | NULL);
const STRINGS: Shape = NOTHING.list(&STRING);
const STRING_OR_LIST: Shape = STRING.list(&STRING);
const COMMAND: Shape = Shape::scalars(TEXT | NULL).list(&STRING);
const LIST_OR_MAPPING: Shape = NOTHING.list(&STRING).fields(Fields::Any(&SCALAR));

/// A whole file.
pub(crate) const FILE: Shape = NOTHING.fields(Fields::Keys(&[
    yes("name", &STRING),
    yes("services", &NOTHING.fields(Fields::Names(&SERVICE))),
    yes("networks", &NOTHING.fields(Fields::Names(&NETWORK))),
    yes("volumes", &NOTHING.fields(Fields::Names(&VOLUME))),
    // Obsolete; accepted with a warning.
    yes("version", &STRING),
    not_yet("configs"),
    not_yet("include"),
    refused("models", "language models need Docker's model runner, there is none on a device"),
    not_yet("secrets"),
]));

const SERVICE: Shape = NOTHING.fields(Fields::Keys(&[
    yes("command", &COMMAND),
    yes("container_name", &STRING),
    yes("depends_on", &NOTHING.list(&STRING).fields(Fields::Names(&DEPENDENCY))),
    yes("entrypoint", &COMMAND),
    yes("environment", &LIST_OR_MAPPING),
    yes("expose", &NOTHING.list(&STRING_OR_NUMBER)),
    yes("hostname", &STRING),
    yes("image", &STRING),
    yes("init", &FLAG),
    yes("labels", &LIST_OR_MAPPING),
    yes("network_mode", &STRING),
    yes("networks", &NOTHING.list(&STRING).fields(Fields::Names(&ATTACHMENT))),
    yes("ports", &NOTHING.list(&PORT)),
    yes("read_only", &FLAG),
    yes("restart", &STRING),
    yes("stop_grace_period", &STRING),
    yes("stop_signal", &STRING),
    yes("tmpfs", &STRING_OR_LIST),
    yes("user", &STRING),
    yes("volumes", &NOTHING.list(&MOUNT)),
    yes("working_dir", &STRING),
    not_yet("annotations"),
    not_yet("attach"),
    not_yet("blkio_config"),
    refused("build", "building images is not supported yet, name one with `image`"),
    not_yet("cap_add"),
    not_yet("cap_drop"),
    not_yet("cgroup"),
    not_yet("cgroup_parent"),
    not_yet("configs"),
    not_yet("cpu_count"),
    not_yet("cpu_percent"),
    not_yet("cpu_period"),
    not_yet("cpu_quota"),
    not_yet("cpu_rt_period"),
    not_yet("cpu_rt_runtime"),
    not_yet("cpu_shares"),
    not_yet("cpus"),
    not_yet("cpuset"),
    not_yet("credential_spec"),
    not_yet("deploy"),
    not_yet("develop"),
    not_yet("device_cgroup_rules"),
    not_yet("devices"),
    not_yet("dns"),
    not_yet("dns_opt"),
    not_yet("dns_search"),
    not_yet("domainname"),
    not_yet("env_file"),
    not_yet("extends"),
    not_yet("external_links"),
    not_yet("extra_hosts"),
    not_yet("gpus"),
    not_yet("group_add"),
    not_yet("healthcheck"),
    not_yet("ipc"),
    not_yet("isolation"),
    not_yet("label_file"),
    not_yet("links"),
    not_yet("logging"),
    not_yet("mac_address"),
    not_yet("mem_limit"),
    not_yet("mem_reservation"),
    not_yet("mem_swappiness"),
    not_yet("memswap_limit"),
    not_yet("models"),
    not_yet("oom_kill_disable"),
    not_yet("oom_score_adj"),
    not_yet("pid"),
    not_yet("pids_limit"),
    refused("platform", "not supported yet, platforms are chosen with `dpack build --platform`"),
    not_yet("post_start"),
    not_yet("pre_start"),
    not_yet("pre_stop"),
    not_yet("privileged"),
    not_yet("profiles"),
    not_yet("provider"),
    not_yet("pull_policy"),
    not_yet("pull_refresh_after"),
    not_yet("runtime"),
    not_yet("scale"),
    not_yet("secrets"),
    not_yet("security_opt"),
    not_yet("shm_size"),
    not_yet("stdin_open"),
    not_yet("storage_opt"),
    not_yet("sysctls"),
    not_yet("tty"),
    not_yet("ulimits"),
    not_yet("use_api_socket"),
    not_yet("userns_mode"),
    not_yet("uts"),
    not_yet("volumes_from"),
]));

const DEPENDENCY: Shape = NOTHING.fields(Fields::Keys(&[
    yes("condition", &STRING),
    yes("required", &Shape::scalars(BOOL)),
    yes("restart", &FLAG),
]));

/// A service on a network.
const ATTACHMENT: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    yes("aliases", &STRINGS),
    not_yet("driver_opts"),
    not_yet("gw_priority"),
    not_yet("interface_name"),
    not_yet("ipv4_address"),
    not_yet("ipv6_address"),
    not_yet("link_local_ips"),
    not_yet("mac_address"),
    not_yet("priority"),
]));

const PORT: Shape = STRING_OR_NUMBER.fields(Fields::Keys(&[
    yes("app_protocol", &STRING),
    yes("host_ip", &STRING),
    yes("mode", &STRING),
    yes("name", &STRING),
    yes("protocol", &STRING),
    yes("published", &STRING_OR_NUMBER),
    yes("target", &STRING_OR_NUMBER),
]));

const MOUNT: Shape = STRING.fields(Fields::Keys(&[
    yes("bind", &NOTHING.fields(Fields::Keys(BIND))),
    // Docker Desktop's caches; without meaning on Linux.
    yes("consistency", &STRING),
    not_yet("image"),
    yes("read_only", &FLAG),
    yes("source", &STRING),
    yes("target", &STRING),
    yes("tmpfs", &NOTHING.fields(Fields::Keys(TMPFS))),
    yes("type", &STRING),
    yes("volume", &NOTHING.fields(Fields::Keys(MOUNTED_VOLUME))),
]));

const BIND: &[Key] =
    &[yes("create_host_path", &FLAG), not_yet("propagation"), not_yet("recursive"), yes("selinux", &STRING)];

const MOUNTED_VOLUME: &[Key] = &[not_yet("labels"), yes("nocopy", &FLAG), not_yet("subpath")];

const TMPFS: &[Key] = &[yes("mode", &STRING_OR_NUMBER), yes("size", &STRING_OR_NUMBER)];

const EXTERNAL: &str = "not supported yet, everything an executable uses belongs to its project";

const NETWORK: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    not_yet("attachable"),
    yes("driver", &STRING),
    not_yet("driver_opts"),
    not_yet("enable_ipv4"),
    not_yet("enable_ipv6"),
    refused("external", EXTERNAL),
    yes("internal", &FLAG),
    not_yet("ipam"),
    yes("labels", &LIST_OR_MAPPING),
    yes("name", &STRING),
]));

const VOLUME: Shape = Shape::scalars(NULL).fields(Fields::Keys(&[
    yes("driver", &STRING),
    not_yet("driver_opts"),
    refused("external", EXTERNAL),
    yes("labels", &LIST_OR_MAPPING),
    yes("name", &STRING),
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
