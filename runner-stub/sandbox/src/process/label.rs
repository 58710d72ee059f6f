//! What the command and its keyring are for AppArmor and SELinux, where the host has them.
//!
//! The files of `/proc/self/attr` take effect at the next `execve` or the next keyring. The container's own `/proc` is
//! written to, so it is checked to be one (CVE-2019-16884).

use std::io;

use rustix::fs::{Mode, OFlags};

use crate::spec::Process;
use crate::{Error, selinux};

/// The first since Linux 5.8, where several modules can have labels.
const APPARMOR: [&str; 2] = ["self/attr/apparmor/exec", "self/attr/exec"];

/// Finds out whether the host has what is asked for. In front of all namespaces: a container sees less of it.
pub(super) fn check(process: &Process) -> Result<(), Error> {
    if named(&process.selinux_label).is_some() && !selinux::is_enabled() {
        return Err(Error::NoModule { property: "process.selinuxLabel", module: "SELinux" });
    }
    if named(&process.apparmor_profile).is_some() && !crate::features::has_apparmor() {
        return Err(Error::NoModule { property: "process.apparmorProfile", module: "AppArmor" });
    }
    Ok(())
}

/// The same for what the container's mounts hold.
pub(crate) fn check_mounts(label: Option<&str>) -> Result<(), Error> {
    if label.is_some() && !selinux::is_enabled() {
        return Err(Error::NoModule { property: "linux.mountLabel", module: "SELinux" });
    }
    Ok(())
}

fn named(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

/// Takes effect at `execve`.
pub(super) fn set_for_command(process: &Process) -> Result<(), Error> {
    if let Some(profile) = named(&process.apparmor_profile) {
        let failed = |source| Error::Profile { name: profile.to_owned(), source };
        write(&APPARMOR, &format!("exec {profile}")).map_err(failed)?;
    }
    if let Some(label) = named(&process.selinux_label) {
        let failed = |source| Error::Label { label: label.to_owned(), source };
        write(&["self/attr/exec"], label).map_err(failed)?;
    }
    Ok(())
}

/// The keyring that `make` makes has the label of the command, which could not use it otherwise.
pub(super) fn with_keyring(process: &Process, make: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
    let Some(label) = named(&process.selinux_label) else { return make() };
    let failed = |source| Error::Label { label: label.to_owned(), source };
    match write(&["self/attr/keycreate"], label) {
        // Kernels without keyrings.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(),
        result => result.map_err(failed)?,
    }
    make()?;
    write(&["self/attr/keycreate"], "").map_err(failed)
}

/// Writes to the first of the files that is there.
fn write(files: &[&str], text: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
    if rustix::fs::fstatfs(&proc)?.f_type as u64 != nix::libc::PROC_SUPER_MAGIC as u64 {
        return Err(io::Error::other("/proc is not procfs"));
    }
    let open =
        |path: &&str| rustix::fs::openat(&proc, *path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let mut opened = Err(rustix::io::Errno::NOENT);
    for path in files {
        opened = opened.or_else(|_| open(path));
    }
    // write(2) of nothing may not reach the module; a text that ends at once is the same to it.
    let text = if text.is_empty() { "\0" } else { text };
    rustix::io::write(&opened?, text.as_bytes())?;
    Ok(())
}
