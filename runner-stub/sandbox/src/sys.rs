//! System calls that no well-kept crate wraps safely: the only `unsafe` of the runner.
//!
//! Each function takes owned descriptors and typed arguments; none keeps a pointer after it has returned.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_long, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::libc;
use nix::unistd::ForkResult;

pub(crate) mod landlock;
pub(crate) mod notify;
pub(crate) mod packet;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `fork`. None in the child, its process ID in the parent.
///
/// The child of a process with several threads must call nothing that takes a lock or allocates until it has executed
/// another program.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the callers are single-threaded roles, or (role.rs) keep to system calls with data prepared beforehand.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child.as_raw())),
    }
}

/// `fork`, but the child is our parent's (`CLONE_PARENT`, clone(2)).
///
/// For single-threaded roles. The child must execute another program, and call nothing of the C library that asks for
/// its thread's number before: the library still knows ours.
pub(crate) fn fork_sibling() -> io::Result<Option<i32>> {
    let flags = c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    // SAFETY: numbers only; without CLONE_VM the child has its own copy of all memory, and the caller has one thread.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) })?;
    Ok((pid != 0).then(|| i32::try_from(pid).unwrap_or(i32::MAX)))
}

/// Ends at once: no destructors, no flushing of buffers that belong to the parent.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// A null-terminated array of C strings, made before `fork` so that the child need not allocate.
pub(crate) struct CStringArray {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStringArray {
    /// None when a string contains a null byte.
    pub(crate) fn new<S: AsRef<OsStr>>(strings: impl IntoIterator<Item = S>) -> Option<Self> {
        let strings: Vec<CString> =
            strings.into_iter().map(|s| CString::new(s.as_ref().as_bytes()).ok()).collect::<Option<_>>()?;
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Some(CStringArray { _strings: strings, pointers })
    }
}

/// `execve`; returns only on failure.
pub(crate) fn execute(path: &CStr, arguments: &CStringArray, environment: &CStringArray) -> io::Error {
    // SAFETY: path is a C string; both arrays end in null and own the strings they point to, by construction.
    unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// `execveat` of a descriptor; returns only on failure.
pub(crate) fn execute_fd(
    fd: BorrowedFd<'_>,
    arguments: &CStringArray,
    environment: &CStringArray,
) -> io::Error {
    // SAFETY: the descriptor is open; both arrays end in null and own the strings they point to, by construction.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// `struct mount_attr` of mount_setattr(2), version 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) user_namespace: u64,
}

const _: () = assert!(size_of::<MountAttributes>() == 32);

/// `mount_setattr` on the mount that `fd` is the root of (Linux 5.12).
pub(crate) fn set_mount_attributes(
    fd: impl AsFd,
    recursive: bool,
    attributes: &MountAttributes,
) -> io::Result<()> {
    const AT_RECURSIVE: c_int = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the structure outlives the call and its size is passed along; the kernel only reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Replaces the session keyring by a new, empty one, so that the caller's keys are out of reach.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>(), 0, 0, 0)
    })?;
    Ok(())
}

/// One instruction of classic BPF (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) value: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Installs a seccomp filter. Needs no_new_privs or CAP_SYS_ADMIN in the user namespace.
pub(crate) fn install_filter(filter: &[Instruction], flags: u64) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, instructions: filter.as_ptr() };
    const SECCOMP_SET_MODE_FILTER: c_int = 1;
    // SAFETY: program points to `length` instructions that outlive the call; the kernel copies and checks them.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags as c_ulong,
            std::ptr::from_ref(&program),
        )
    })?;
    Ok(())
}

/// Signals a process by descriptor. Takes real-time signals too, which is why it is here.
pub(crate) fn signal_process(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: no pointer but null.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// The next of the blocked signals; real-time ones too.
pub(crate) fn wait_for_signal(signals: &nix::sys::signal::SigSet) -> i32 {
    let mut number = 0;
    // SAFETY: both point to values that outlive the call; a failure leaves 0, which is no signal.
    unsafe { libc::sigwait(signals.as_ref(), &raw mut number) };
    number
}

/// Signals by number: a child that has not been reaped, or one that is known to be there.
pub(crate) fn signal_number(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: two numbers.
    check(c_long::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// Default action for each signal, none blocked: what a new program expects. `execve` keeps ignored ones ignored.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL is valid for each number (refused ones return an error, which changes nothing); the set is
    // initialised by sigemptyset before use.
    unsafe {
        for number in 1..=64 {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut empty = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut empty);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
    }
}

/// Ignores a signal.
pub(crate) fn ignore_signal(number: c_int) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Marks all descriptors from `first` on to be closed by `execve`, or closes them now.
pub(crate) fn close_from(first: RawFd, now: bool) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_int = 4;
    let flags = if now { 0 } else { CLOSE_RANGE_CLOEXEC };
    // SAFETY: with `now` the callers own no descriptor above `first` any more: they are about to loop or to execute.
    let result = check(unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) });
    match result {
        Ok(_) => Ok(()),
        // Linux 5.9 and 5.11 (the flag); before, one by one.
        Err(_) => each_open(first, |fd| {
            // SAFETY: as above; closed numbers only give EBADF.
            unsafe {
                if now {
                    libc::close(fd);
                } else {
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                }
            }
        }),
    }
}

/// `close_range` is there: of descriptors that cannot be.
pub(crate) fn has_close_range() -> bool {
    // SAFETY: there is no descriptor with this number, which is the highest.
    check(unsafe { libc::syscall(libc::SYS_close_range, c_int::MAX, c_int::MAX, 0) }).is_ok()
}

/// Calls for each open descriptor from `first` on. Allocates nothing: it may run between `fork` and `execve`.
fn each_open(first: RawFd, mut call: impl FnMut(RawFd)) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, RawDir};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty()) else {
        // A container without `/proc`; nobody here opens as many.
        (first..1 << 16).for_each(call);
        return Ok(());
    };
    let mut buffer = [std::mem::MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(&folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(fd) = name.filter(|fd| *fd >= first && *fd != folder.as_raw_fd()) {
            call(fd);
        }
    }
    Ok(())
}

/// Makes `from` available under the number `to`, to be inherited. `from` may be `to`.
pub(crate) fn duplicate_to(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: whatever `to` was is closed; the callers own the numbers they ask for (0, 1, 2 or agreed with a role).
    unsafe {
        if from == to {
            check(c_long::from(libc::fcntl(to, libc::F_SETFD, 0)))?;
        } else {
            check(c_long::from(libc::dup2(from, to)))?;
        }
    }
    Ok(())
}

/// Takes over a descriptor that this process was started with. None when it is not open.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_SETFD on a closed number only fails; an open one was given to this role under an agreed number and has
    // no other owner in this program, which asks once, at its start.
    unsafe {
        (libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0).then(|| OwnedFd::from_raw_fd(number))
    }
}

/// Raises `lo` in the network namespace of this thread.
pub(crate) fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data for which zero is valid; the name fits and stays null-terminated.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    check(c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    }))?;
    Ok(())
}
