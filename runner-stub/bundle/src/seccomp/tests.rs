//! Against the profiles that Debian packages as data; they are read where the packages are installed or unpacked.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;

fn names(profile: &Profile, capabilities: &[&str], machine: &'static str) -> BTreeSet<String> {
    let capabilities: Vec<String> = capabilities.iter().map(|&name| name.to_owned()).collect();
    let resolved = profile.resolve(&capabilities, Machine { name: machine, kernel: (6, 1) });
    let allowed = resolved.syscalls.into_iter().filter(|call| call.action == Action::ALLOW);
    allowed.flat_map(|call| call.names).collect()
}

fn default_capabilities() -> Vec<&'static str> {
    crate::security::CAPABILITIES.to_vec()
}

/// `$DPACK_SECCOMP_PROFILES` or where the packages put them.
fn packaged(path: &str) -> Option<Profile> {
    let root = std::env::var_os("DPACK_SECCOMP_PROFILES").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let text = std::fs::read_to_string(root.join(path)).ok()?;
    Some(Profile::parse(&text).unwrap())
}

#[test]
fn only_what_cannot_make_a_namespace_is_there_by_default() {
    let docker = Profile::docker();
    let allowed = names(&docker, &default_capabilities(), "amd64");
    for call in ["read", "execve", "clone", "socket", "ptrace", "chroot", "arch_prctl", "personality"] {
        assert!(allowed.contains(call), "{call}");
    }
    for call in [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "io_uring_setup",
        "keyctl",
        "clone3",
        "userfaultfd",
        "cacheflush",
        "syslog",
    ] {
        assert!(!allowed.contains(call), "{call}");
    }
    let more = names(&docker, &["CAP_SYS_ADMIN", "CAP_BPF"], "arm64");
    for call in ["mount", "unshare", "bpf", "clone3", "cacheflush"] {
        assert!(more.contains(call), "{call}");
    }
    assert!(!more.contains("chroot") && !more.contains("arch_prctl"));
}

#[test]
fn a_profile_of_dockers_form_is_read_and_resolved() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": null, "syscalls": [
        {"name": "chmod", "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": null, "comment": "x"},
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "9.0"}, "excludes": {}},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO",
         "args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_GT"}], "excludes": {"caps": ["CAP_X"]}}]}"#;
    let profile = Profile::parse(text).unwrap();
    let resolved = profile.resolve(&[], Machine::default());
    assert_eq!(resolved.syscalls.len(), 2);
    assert_eq!(
        (resolved.syscalls[0].names.as_slice(), resolved.syscalls[0].errno_ret),
        (&["chmod".to_owned()][..], Some(13))
    );
    assert_eq!(resolved.syscalls[1].args[0].op, Operator::Greater);
    assert_eq!(profile.resolve(&["CAP_X".to_owned()], Machine::default()).syscalls.len(), 1);
    assert!(Profile::parse(r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#).is_err());
}

/// A unit test cannot note that it was skipped, so it says so; in CI nothing may be skipped.
fn skip(package: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{package} is not installed");
    eprintln!("skipped: {package} is not installed (hint: cargo xtask setup)");
}

/// What Docker has added or taken away since the version that Debian 12 has.
#[test]
fn differences_from_dockers_packaged_profile_are_known() {
    let path = "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json";
    let Some(packaged) = packaged(path) else {
        return skip("golang-github-docker-docker-dev");
    };
    for machine in ["amd64", "arm64", "arm"] {
        let (ours, theirs) = (
            names(&Profile::docker(), &default_capabilities(), machine),
            names(&packaged, &default_capabilities(), machine),
        );
        let taken: Vec<&str> = theirs.difference(&ours).map(String::as_str).collect();
        assert_eq!(taken, ["io_uring_enter", "io_uring_register", "io_uring_setup"], "{machine}");
        let added: Vec<&str> = ours.difference(&theirs).map(String::as_str).collect();
        let expected = "cachestat fchmodat2 futex_requeue futex_wait futex_wake getxattrat listmount listxattrat \
            map_shadow_stack mseal name_to_handle_at pkey_alloc pkey_free pkey_mprotect process_vm_readv \
            process_vm_writev removexattrat setxattrat statmount uretprobe";
        assert_eq!(added, expected.split_whitespace().collect::<Vec<_>>(), "{machine}");
    }
}

/// Podman's default opens mount, unshare and others to everybody; ours is never wider but where it is listed.
#[test]
fn nothing_is_open_that_podman_closes_unless_it_is_listed() {
    let Some(packaged) = packaged("usr/share/containers/seccomp.json") else {
        return skip("golang-github-containers-common");
    };
    for machine in ["amd64", "arm64", "arm"] {
        let (ours, theirs) = (
            names(&Profile::docker(), &default_capabilities(), machine),
            names(&packaged, &default_capabilities(), machine),
        );
        let more: Vec<&str> = ours.difference(&theirs).map(String::as_str).collect();
        let expected = "cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat io_pgetevents \
            io_pgetevents_time64 listmount listxattrat map_shadow_stack mseal removexattrat setxattrat statmount \
            uretprobe vmsplice";
        assert_eq!(more, expected.split_whitespace().collect::<Vec<_>>(), "{machine}");
    }
}
