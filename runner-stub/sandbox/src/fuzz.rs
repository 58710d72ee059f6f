//! What must be true of everything that crosses a boundary into this crate, whatever it is. For the targets in `fuzz`; each
//! function panics when it finds otherwise.
#![expect(clippy::expect_used, reason = "to panic is what it is for")]

use std::path::Path;

use crate::channel::Message;
use crate::idmap::{self, Range};
use crate::seccomp::{self, Architecture};
use crate::spec::{Seccomp, Spec};
use crate::{cgroup, ids, process, record, rootfs, stat};

/// `config.json`. What is not refused confines as it says.
pub fn bundle(text: &[u8]) {
    let Ok(spec) = Spec::parse(text, Path::new("config.json")) else { return };
    let _ = process::check(&spec.process);
    let _ = rootfs::sysctls::check(&spec);
    for mount in &spec.mounts {
        rootfs::hold_to_rules(mount);
    }
    if let Some(resources) = &spec.linux.resources {
        cgroup::limits(resources);
    }
    if let Some(seccomp) = &spec.linux.seccomp {
        filter(seccomp);
    }
}

/// A profile of seccomp, as `security_opt: seccomp=FILE` brings it.
pub fn profile(text: &[u8]) {
    if let Ok(seccomp) = serde_json::from_slice::<Seccomp>(text) {
        filter(&seccomp);
    }
}

/// A filter that the kernel takes comes to an end for each call, with an action that it knows. A call that a profile has
/// a denying default for and no rule is denied.
fn filter(seccomp: &Seccomp) {
    let Ok(filter) = seccomp::compile(seccomp) else { return };
    assert!(filter.instructions.len() <= 4096);
    let denies = !["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"].contains(&seccomp.default_action.as_str());
    let unknown = 0x3fff_fff0;
    for architecture in Architecture::ALL {
        for (number, arguments) in [(0, [0; 6]), (59, [u64::MAX; 6]), (435, [1 << 63; 6]), (unknown, [0; 6])]
        {
            let code = &filter.instructions;
            let action = seccomp::interpret_call(code, architecture as u32, number, arguments);
            let known = [0, 0x8000_0000, 0x0003_0000, 0x0005_0000, 0x7ffc_0000, 0x7fff_0000];
            assert!(known.contains(&(action & 0xffff_0000)), "{action:#x}");
            assert!(!denies || number != unknown || action != 0x7fff_0000, "{architecture:?}");
        }
    }
}

/// The files of IDs, for a user of that name in the first of them: `/etc/passwd`, `/etc/subuid`, `/proc/PID/uid_map`. A map
/// that is made has no ID twice on either side, for which the kernel would refuse it.
pub fn ids(text: &str) {
    let mut parts = text.splitn(3, '\u{1}');
    let mut part = || parts.next().unwrap_or_default();
    let (passwd, subordinate, map) = (part(), part(), part());
    let user = idmap::user_name(passwd, 1000);
    let own = 1000;
    let layout = idmap::layout(own, &idmap::subordinate(subordinate, user.as_deref(), own));
    assert_eq!(layout.first(), Some(&Range { inside: 0, outside: own, count: 1 }));
    for (index, range) in layout.iter().enumerate() {
        assert!(range.count > 0);
        for other in &layout[..index] {
            assert!(apart((range.inside, range.count), (other.inside, other.count)), "{range:?} {other:?}");
            assert!(apart((range.outside, range.count), (other.outside, other.count)), "{range:?} {other:?}");
        }
    }
    let _ = idmap::total(map);
    for id in [0, 1000, u32::MAX] {
        let _ = idmap::outside(map, id);
    }
}

fn apart(one: (u32, u32), other: (u32, u32)) -> bool {
    let end = |(first, count): (u32, u32)| u64::from(first) + u64::from(count);
    end(one) <= u64::from(other.0) || end(other) <= u64::from(one.0)
}

/// What other processes send and leave behind: messages between ours, those of systemd, owners in attributes.
pub fn message(bytes: &[u8]) {
    cgroup::message(bytes);
    ids::owner(bytes);
    if let Ok(message) = serde_json::from_slice::<Message>(bytes) {
        let again = serde_json::to_vec(&message).expect("what was read can be written");
        serde_json::from_slice::<Message>(&again).expect("what was written can be read");
    }
}

/// `/proc/PID/stat` with a name that the process chose, and `/proc/PID/cgroup` before `/proc/self/mountinfo`.
pub fn proc(text: &str) {
    let (first, second) = text.split_once('\u{1}').unwrap_or((text, ""));
    cgroup::folders(first, second);
    let _ = stat::state(first);
    // A name may look like the rest of the line: it ends at the last parenthesis (proc_pid_stat(5)).
    let line = |name: &str| format!("1 ({name}) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20");
    assert_eq!(record::stat(&line(first)), record::stat(&line("x")));
    assert_eq!(stat::state(&line(first)), Some('S'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzing_starts_from_holds() {
        bundle(include_bytes!("../fuzz/seeds/bundle/all.json"));
        profile(include_bytes!("../fuzz/seeds/profile/arguments.json"));
        for text in ["", "a:x:1000\u{1}a:100000:65536\n1000:165536:10\u{1}0 1000 1\n1 100000 65536\n"] {
            ids(text);
        }
        for bytes in
            [&b"\"Start\""[..], br#"{"Created":{"init_pid":5}}"#, &[0x08, 0xe7, 0x07, 0x10, 0xe8, 0x07]]
        {
            message(bytes);
        }
        proc("0::/a\n4:memory:/b\n\u{1}1 0 0:1 / /sys/fs/cgroup rw - cgroup2 none rw\n");
        proc(") R 1 2 (");
    }
}
