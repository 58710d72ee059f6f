//! landlock(7): restricting this process to parts of the file system, for good.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

use super::check;

const RULE_PATH_BENEATH: i32 = 1;
const CREATE_RULESET_VERSION: u32 = 1;

/// `struct landlock_path_beneath_attr`, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Version of the kernel's interface; none when it has none, or was started without.
pub(crate) fn version() -> Option<u32> {
    // SAFETY: with this flag the kernel reads no attributes; null and zero are what it wants.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u64>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// A set of rules that denies the rights in `handled` wherever no rule grants them, and what `scoped` says (sixth version)
/// beyond the processes that are in it.
pub(crate) fn create(handled: u64, scoped: u64) -> io::Result<OwnedFd> {
    // `struct landlock_ruleset_attr`: files, ports, scopes. A kernel of an earlier version wants what it does not know to be zero.
    let attributes = [handled, 0, scoped];
    // SAFETY: the structure is these numbers; pointer and size are those of a live value.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size_of_val(&attributes), 0_u32)
    })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Grants rights on what `beneath` is, and below it.
pub(crate) fn allow(rules: &OwnedFd, beneath: BorrowedFd<'_>, rights: u64) -> io::Result<()> {
    let attributes = PathBeneath { allowed_access: rights, parent_fd: beneath.as_raw_fd() };
    // SAFETY: the structure has the kernel's layout and outlives the call, which only reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            RULE_PATH_BENEATH,
            std::ptr::from_ref(&attributes),
            0_u32,
        )
    })
    .map(drop)
}

/// From here on, for this thread and all that it makes. Needs `no_new_privs`.
pub(crate) fn restrict(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) }).map(drop)
}
