//! The report: what a process in this place can see and do, as one JSON object.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Places that a container must not be able to read (OCI runtime-spec, `maskedPaths`, as container engines set it).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Places that it must not be able to write. Opened for writing only, never written.
const READ_ONLY: &[&str] = &[
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/core_pattern",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
];

/// Kernel parameters that say what a container may do, or are its own namespaces'.
const PARAMETERS: &[&str] = &[
    "fs/mqueue/msg_max",
    "kernel/msgmax",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmmax",
    "net/core/somaxconn",
    "net/ipv4/conf/all/accept_source_route",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/send_redirects",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
    "net/ipv6/conf/all/accept_ra",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/all/forwarding",
];

/// Everything, in words of `/proc` where there are any.
pub(crate) fn report() -> Value {
    let status = status();
    let field = |name: &str| status.get(name).cloned().unwrap_or_default();
    let numbers = |name: &str| -> Vec<u64> {
        field(name).split_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    json!({
        "pid": std::process::id(),
        "parent": numbers("PPid").first(),
        "uid": numbers("Uid"),
        "gid": numbers("Gid"),
        "groups": numbers("Groups"),
        "uid_map": table("/proc/self/uid_map"),
        "gid_map": table("/proc/self/gid_map"),
        "capabilities": {
            "inheritable": field("CapInh"), "permitted": field("CapPrm"), "effective": field("CapEff"),
            "bounding": field("CapBnd"), "ambient": field("CapAmb"),
        },
        "no_new_privs": field("NoNewPrivs") == "1",
        "seccomp": numbers("Seccomp").first(),
        "umask": field("Umask"),
        "hostname": text("/proc/sys/kernel/hostname").trim(),
        "working_directory": std::env::current_dir().ok(),
        "environment": std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), json!(value.to_string_lossy())))
            .collect::<Map<_, _>>(),
        "mounts": mounts(),
        "namespaces": links("/proc/self/ns"),
        "limits": limits(),
        "descriptors": links("/proc/self/fd"),
        "interfaces": names("/sys/class/net"),
        "processes": names("/proc").iter().filter_map(|name| name.parse::<u32>().ok()).collect::<Vec<_>>(),
        "control_group": text("/proc/self/cgroup"),
        "oom_score_adjustment": text("/proc/self/oom_score_adj").trim().parse::<i32>().ok(),
        "devices": names("/dev"),
        "root": names("/"),
        "readable_masked_paths": MASKED.iter().filter(|path| has_content(path)).collect::<Vec<_>>(),
        "writable_system_paths": READ_ONLY.iter().filter(|path| opens_for_writing(path)).collect::<Vec<_>>(),
        "root_is_writable": creates_a_file("/"),
        "parameters": PARAMETERS.iter().map(|name| (*name, json!(parameter(name)))).collect::<BTreeMap<_, _>>(),
        "resolver": text("/etc/resolv.conf"),
        "hosts": text("/etc/hosts"),
    })
}

/// `/proc/self/status`, by name.
fn status() -> BTreeMap<String, String> {
    let text = text("/proc/self/status");
    let pair =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// proc_pid_mountinfo(5): by mount point; of several mounts on one, the topmost.
fn mounts() -> Map<String, Value> {
    let mut mounts = Map::new();
    for line in text("/proc/self/mountinfo").lines() {
        let Some((mount, source)) = line.split_once(" - ") else { continue };
        let mount: Vec<&str> = mount.split(' ').collect();
        let source: Vec<&str> = source.split(' ').collect();
        if let ([_, _, _, root, point, options, propagation @ ..], [kind, device, settings @ ..]) =
            (&mount[..], &source[..])
        {
            let value = json!({
                "root": root, "options": options.split(',').collect::<Vec<_>>(), "propagation": propagation,
                "type": kind, "source": device, "settings": settings.join(" "),
            });
            mounts.insert((*point).to_owned(), value);
        }
    }
    mounts
}

/// `/proc/self/limits`: soft and hard, by name.
fn limits() -> Map<String, Value> {
    text("/proc/self/limits")
        .lines()
        .skip(1)
        .filter_map(|line| {
            let (name, values) = line.split_at_checked(26)?;
            let mut values = values.split_whitespace();
            Some((name.trim().to_owned(), json!([values.next()?, values.next()?])))
        })
        .collect()
}

fn table(path: &str) -> Vec<Vec<u64>> {
    let row = |line: &str| line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    text(path).lines().map(row).collect()
}

fn links(folder: &str) -> Map<String, Value> {
    let target = |name: &String| fs::read_link(Path::new(folder).join(name)).ok();
    names(folder).into_iter().filter_map(|name| target(&name).map(|target| (name, json!(target)))).collect()
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A masked file is empty or an error, a masked folder has no entries.
fn has_content(path: &str) -> bool {
    let mut byte = [0];
    let is_file_with_content =
        File::open(path).and_then(|mut file| file.read(&mut byte)).is_ok_and(|count| count > 0);
    is_file_with_content || !names(path).is_empty()
}

/// A parameter's value, and whether it opens for writing.
fn parameter(name: &str) -> (String, bool) {
    let path = format!("/proc/sys/{name}");
    (text(&path).split_whitespace().collect::<Vec<_>>().join(" "), opens_for_writing(&path))
}

fn opens_for_writing(path: &str) -> bool {
    fs::OpenOptions::new().write(true).open(path).is_ok()
}

fn creates_a_file(folder: &str) -> bool {
    let path = Path::new(folder).join(format!(".probe-{}", std::process::id()));
    File::create_new(&path).is_ok_and(|_| fs::remove_file(&path).is_ok())
}
