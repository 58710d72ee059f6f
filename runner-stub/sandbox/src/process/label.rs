//! The AppArmor profile that the command gets, where the host has AppArmor.

use std::io;

use rustix::fs::{Mode, OFlags};

use crate::Error;

const STEP: &str = "set the AppArmor profile";
/// The first since Linux 5.1, where several modules can have labels.
const FILES: [&str; 2] = ["self/attr/apparmor/exec", "self/attr/exec"];

/// Takes effect at `execve`. The container's own `/proc` is written to, so it is checked to be one (CVE-2019-16884).
pub(super) fn set_for_command(profile: Option<&str>) -> Result<(), Error> {
    let Some(profile) = profile.filter(|profile| !profile.is_empty()) else { return Ok(()) };
    write(profile).map_err(|source| Error::Confine { step: STEP, source })
}

fn write(profile: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
    if rustix::fs::fstatfs(&proc)?.f_type as u64 != nix::libc::PROC_SUPER_MAGIC as u64 {
        return Err(io::Error::other("/proc is not procfs"));
    }
    let open = |path| rustix::fs::openat(&proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let file = open(FILES[0]).or_else(|_| open(FILES[1]))?;
    rustix::io::write(&file, format!("exec {profile}").as_bytes())?;
    Ok(())
}
