//! Which user and group IDs a user namespace of this user can have.
//!
//! *Full*: `newuidmap` and a subordinate range are there; 0 is the user, 1 and up the whole range.
//! *Single*: only 0 exists and is the user; a seccomp filter makes changes of owner and user succeed without effect.
//!
//! Parsing is apart from reading, so that the rules of subuid(5) are tested without a machine that has them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The ID map that a new user namespace gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMap {
    /// Many IDs.
    Full(Full),
    /// One ID.
    Single {
        /// Why there is no full map, for `doctor`.
        reason: String,
    },
}

/// The two halves of a full map and how they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// User IDs.
    pub uids: Vec<Range>,
    /// Group IDs.
    pub gids: Vec<Range>,
    /// `newuidmap` and `newgidmap`; none when we may write the maps ourselves (root).
    pub helpers: Option<(PathBuf, PathBuf)>,
}

/// One line of `/proc/PID/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First ID inside.
    pub inside: u32,
    /// First ID outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The kernel takes 340 lines, `newuidmap` a command line; nobody has more than a handful of ranges.
const MOST_RANGES: usize = 64;

impl IdMap {
    /// Finds out what this user can have. Reads `/etc/subuid`, `/etc/subgid`, `/etc/passwd` and `PATH`; executes nothing.
    pub fn detect() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        if uid == 0 {
            return for_root();
        }
        match full(uid, gid) {
            Ok(full) => IdMap::Full(full),
            Err(reason) => IdMap::Single { reason },
        }
    }

    /// `full` or `single`: the word used in the store's folder names.
    pub fn kind(&self) -> &'static str {
        match self {
            IdMap::Full(_) => "full",
            IdMap::Single { .. } => "single",
        }
    }

    /// What `/proc/self/uid_map` and `/proc/self/gid_map` of a process get that writes them itself.
    pub(crate) fn lines(ranges: &[Range]) -> String {
        ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
    }
}

/// Root needs no helper and keeps the IDs as they are, as Docker does without `userns-remap`.
fn for_root() -> IdMap {
    let identity = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        contiguous_from_zero(&text)
            .map(|count| vec![Range { inside: 0, outside: 0, count: count.min(65_536) }])
    };
    match (identity("/proc/self/uid_map"), identity("/proc/self/gid_map")) {
        (Some(uids), Some(gids)) if uids[0].count > 1 && gids[0].count > 1 => {
            IdMap::Full(Full { uids, gids, helpers: None })
        }
        _ => IdMap::Single { reason: "this is a user namespace with one ID".to_owned() },
    }
}

fn full(uid: u32, gid: u32) -> Result<Full, String> {
    let user = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid);
    let ranges = |path: &str, own: u32| {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let parts = subordinate(&text, user.as_deref(), uid);
        if parts.is_empty() {
            return Err(format!("{path} has no range for this user"));
        }
        Ok(layout(own, &parts))
    };
    let (uids, gids) = (ranges("/etc/subuid", uid)?, ranges("/etc/subgid", gid)?);
    let helpers = (helper("newuidmap")?, helper("newgidmap")?);
    if rustix::thread::no_new_privs().unwrap_or(false) {
        return Err("no_new_privs is set, so newuidmap has no effect".to_owned());
    }
    Ok(Full { uids, gids, helpers: Some(helpers) })
}

/// The lines of `/proc/PID/uid_map` or `gid_map` (user_namespaces(7)); `None` for what makes no sense.
pub fn ranges(map: &str) -> Option<Vec<Range>> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|text| text.parse().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Range { inside, outside, count })
    };
    map.lines().map(range).collect()
}

/// How many IDs a map has.
pub fn total(map: &str) -> u64 {
    ranges(map).unwrap_or_default().iter().map(|range| u64::from(range.count)).sum()
}

/// How many IDs a map has from 0 on without a hole.
fn contiguous_from_zero(map: &str) -> Option<u32> {
    ranges(map)?.iter().find(|range| range.inside == 0).map(|range| range.count)
}

/// A user without an entry has no name, but subuid(5) takes numbers too.
pub(crate) fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// The name of a user; none when /etc/passwd has none.
pub(crate) fn name_of_user(uid: u32) -> Option<String> {
    user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), uid)
}

/// This process's user as its parent user namespace knows it: outside of ours.
pub(crate) fn outside_user() -> u32 {
    let own = rustix::process::geteuid().as_raw();
    outside(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default(), own).unwrap_or(own)
}

pub(crate) fn outside(map: &str, id: u32) -> Option<u32> {
    ranges(map)?.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
        range.outside.checked_add(offset)
    })
}

/// What an administrator does so that this user gets many IDs, a step a line. None where that is not what is missing.
pub fn remedy() -> Vec<String> {
    let uid = rustix::process::geteuid().as_raw();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut steps = Vec::new();
    for name in ["newuidmap", "newgidmap"] {
        match find_helper(name) {
            None => {
                steps.push(install_command(&read("/etc/os-release")).to_owned());
                break;
            }
            Some(file) if !is_privileged(&file) => steps.push(format!("sudo chmod u+s {}", file.display())),
            Some(_) => {}
        }
    }
    let name = name_of_user(uid);
    let lacking = |file: &&str| subordinate(&read(file), name.as_deref(), uid).is_empty();
    let files: Vec<&str> = ["/etc/subuid", "/etc/subgid"].into_iter().filter(lacking).collect();
    if !files.is_empty() {
        let first = free_range(&(read("/etc/subuid") + &read("/etc/subgid")));
        let name = name.unwrap_or_else(|| uid.to_string());
        steps.push(format!("echo {name}:{first}:65536 | sudo tee -a {}", files.join(" ")));
    }
    if rustix::thread::no_new_privs().unwrap_or(false) {
        steps.push("start it where no_new_privs is not set (systemd: NoNewPrivileges=no)".to_owned());
    }
    steps
}

/// First ID after all ranges that somebody has.
fn free_range(text: &str) -> u64 {
    let end = |line: &str| {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u64>().ok());
        fields.next()??.checked_add(fields.next()??)
    };
    text.lines().filter_map(end).fold(100_000, u64::max)
}

/// os-release(5) says which distribution this is, and which ones it is like.
fn install_command(os_release: &str) -> &'static str {
    let words: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches(['"', '\'']).split(' '))
        .collect();
    let is = |names: &[&str]| words.iter().any(|word| names.contains(word));
    if is(&["debian", "ubuntu"]) {
        "sudo apt-get install uidmap"
    } else if is(&["fedora", "rhel"]) {
        "sudo dnf install shadow-utils"
    } else if is(&["alpine"]) {
        "sudo apk add shadow-uidmap"
    } else if is(&["arch"]) {
        "sudo pacman -S shadow"
    } else if is(&["suse", "opensuse"]) {
        "sudo zypper install shadow"
    } else {
        "install newuidmap and newgidmap (package `uidmap`, `shadow-utils` or `shadow`), setuid root"
    }
}

/// `name-or-number:first:count` lines that belong to the user: (first, count).
pub(crate) fn subordinate(text: &str, user: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let mine = |owner: &str| Some(owner) == user || owner.parse() == Ok(uid);
    let parse = |line: &str| {
        let mut fields = line.trim().split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let (first, count) = (first.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
        (mine(owner) && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    text.lines().filter_map(parse).take(MOST_RANGES).collect()
}

/// 0 is the user itself; the ranges follow one after the other.
pub(crate) fn layout(own: u32, parts: &[(u32, u32)]) -> Vec<Range> {
    let mut ranges = vec![Range { inside: 0, outside: own, count: 1 }];
    let mut inside = 1_u32;
    for &(outside, count) in parts {
        // What would not fit below 2^32 is left out, and so is what is there already: the kernel takes no ID twice.
        let count = count.min(u32::MAX - inside);
        let last = outside.saturating_add(count);
        let again =
            |range: &Range| range.outside < last && outside < range.outside.saturating_add(range.count);
        if count > 0 && !ranges.iter().any(again) {
            ranges.push(Range { inside, outside, count });
            inside += count;
        }
    }
    ranges
}

/// `newuidmap` and `newgidmap`, or why they cannot be used.
pub(crate) fn helpers() -> Result<(PathBuf, PathBuf), String> {
    Ok((helper("newuidmap")?, helper("newgidmap")?))
}

/// The helper's path, when it has the privilege it needs: setuid root or a file capability.
fn helper(name: &str) -> Result<PathBuf, String> {
    let found = find_helper(name).ok_or_else(|| format!("{name} is not installed"))?;
    if is_privileged(&found) { Ok(found) } else { Err(format!("{} is not setuid root", found.display())) }
}

fn find_helper(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let standard = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"];
    let folders = std::env::split_paths(&path).chain(standard.iter().map(PathBuf::from));
    let executable = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(executable)
}

fn is_privileged(file: &Path) -> bool {
    let setuid_root = fs::metadata(file).is_ok_and(|data| data.uid() == 0 && data.mode() & 0o4000 != 0);
    let mut value = [0_u8; 64];
    setuid_root
        || rustix::fs::getxattr(file.as_os_str().as_bytes(), "security.capability", &mut value).is_ok()
}

/// What the user namespace of this process maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Only ID 0 exists.
    pub(crate) single: bool,
}

impl Mapped {
    /// Reads `/proc/self/uid_map`.
    pub(crate) fn current() -> Self {
        let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Mapped { single: total(&text) == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_user_by_name_and_number_are_laid_out_one_after_the_other() {
        let text = "root:1:2\ndev:100000:65536\nother:5:5\n1000:300000:10\ndev:bad:1\ndev:4294967295:9\n";
        let parts = subordinate(text, Some("dev"), 1000);
        assert_eq!(parts, [(100_000, 65_536), (300_000, 10)]);
        let ranges = layout(1000, &parts);
        assert_eq!(IdMap::lines(&ranges), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
    }

    #[test]
    fn a_map_never_overflows() {
        let ranges = layout(7, &[(1, u32::MAX - 1), (5, 100)]);
        let last = ranges.last().unwrap();
        assert!(u64::from(last.inside) + u64::from(last.count) <= u64::from(u32::MAX));
    }

    #[test]
    fn ranges_that_meet_are_taken_once() {
        let once =
            layout(1000, &[(100_000, 65_536), (100_000, 65_536), (900, 200), (165_536, 1), (165_535, 9)]);
        let ids: Vec<_> = once.iter().map(|range| (range.outside, range.count)).collect();
        assert_eq!(ids, [(1000, 1), (100_000, 65_536), (165_536, 1)]);
    }

    #[test]
    fn an_id_is_found_outside() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(
            (outside(map, 0), outside(map, 33), outside(map, 70000)),
            (Some(1000), Some(100_032), None)
        );
    }

    #[test]
    fn a_range_that_nobody_has_and_the_distributions_command_are_found() {
        assert_eq!(free_range(""), 100_000);
        assert_eq!(free_range("a:100000:65536\nb:300000:10\nbroken\nc:x:1\n"), 300_010);
        assert_eq!(
            install_command("NAME=\"Raspbian\"\nID=raspbian\nID_LIKE=debian\n"),
            "sudo apt-get install uidmap"
        );
        assert_eq!(install_command("ID=\"alpine\"\n"), "sudo apk add shadow-uidmap");
        assert!(install_command("").contains("newuidmap"));
    }

    #[test]
    fn user_names_come_from_passwd() {
        assert_eq!(user_name("a:x:1:1::/:/bin/sh\nb:x:2:2::/:/bin/sh\n", 2).as_deref(), Some("b"));
        assert_eq!(user_name("a:x:1\nbroken\n", 2), None);
    }
}
