//! What of newer kernels is there, for `doctor`: every call is tried with arguments that change nothing, by a process that may
//! mount, as those are that need them.
//!
//! `compat` has what stands in for those that are missing.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::OpenTreeFlags;
use rustix::process::PidfdFlags;

use crate::sys;

/// Something of the kernel that is used where it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// As the manual calls it.
    pub name: &'static str,
    /// First Linux that has it.
    pub since: &'static str,
    /// It is there, and no filter takes it away.
    pub there: bool,
    /// What is done where it is missing.
    pub without: &'static str,
}

/// The calls that have a stand-in.
pub fn calls() -> Vec<Feature> {
    let feature = |name, since, there, without| Feature { name, since, there, without };
    let opened = rustix::fs::openat2(CWD, ".", OFlags::PATH, Mode::empty(), ResolveFlags::empty());
    let process = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let tree = rustix::mount::open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC);
    vec![
        feature(
            "openat2",
            "5.6",
            opened.is_ok(),
            "paths in a container are followed one component at a time",
        ),
        feature("pidfd_open", "5.3", process.is_ok(), "processes are held by their folders in /proc"),
        feature("open_tree", "5.2", tree.is_ok(), "mounts are made aside and moved"),
        feature("mount_setattr", "5.12", has_mount_setattr(), "trees are remounted mount by mount"),
        feature("close_range", "5.9", sys::has_close_range(), "descriptors are closed one by one"),
        feature(
            "landlock",
            "5.13",
            sys::landlock::version().is_some(),
            "our own processes keep the user's access to files",
        ),
    ]
}

/// On a descriptor that is no mount's it is an error, but another one.
fn has_mount_setattr() -> bool {
    let Ok(file) = File::open("/proc/self/status") else { return false };
    let tried = sys::set_mount_attributes(&file, false, &sys::MountAttributes::default());
    !tried.is_err_and(|error| is_missing(&error))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOSYS | nix::libc::EPERM))
}

/// AppArmor is switched on.
pub fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// System calls can be filtered (CONFIG_SECCOMP_FILTER; the file is there since Linux 4.14).
pub fn has_filters() -> bool {
    Path::new("/proc/sys/kernel/seccomp/actions_avail").exists()
}
