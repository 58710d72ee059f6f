//! `old_kernel COMMAND…`: runs a command as if the kernel were Linux 4.19, as far as it can be taken away from it.
//!
//! - Every system call that is newer does not exist. From 424 (`pidfd_send_signal`, 5.1) on they have the same numbers on all
//!   machines.
//! - overlayfs cannot be mounted in a user namespace (5.11). Which file system it is cannot be seen by a filter; the runner
//!   mounts nothing else with only `nodev` and options.
//! - Whiteouts cannot be made (5.8), and nobody can be asked about system calls (`SECCOMP_FILTER_FLAG_NEW_LISTENER`, 5.0).

#![allow(unsafe_code, clippy::expect_used, reason = "a test program that installs a filter")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::libc::{self, sock_filter, sock_fprog};

/// Of the first call that Linux 4.19 does not have.
const FIRST_NEW: u32 = 424;
const NUMBER: u32 = 0;

const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const fn instruction(code: u32, value: u32, jump_true: u8, jump_false: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: jump_true, jf: jump_false, k: value }
}

const fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Skips `count` instructions unless the value is equal.
const fn unless_equal(value: u32, count: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, count)
}

const fn answer(errno: i32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32, 0, 0)
}

const ALLOW: sock_filter = instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0);
const AND_TYPE: sock_filter = instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, libc::S_IFMT, 0, 0);
const AND_LISTENER: sock_filter = instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 1 << 3, 0, 0);

fn filter() -> Vec<sock_filter> {
    let at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    vec![
        load(NUMBER),
        instruction(at_least, FIRST_NEW, 0, 1),
        answer(libc::ENOSYS),
        unless_equal(libc::SYS_mount as u32, 6),
        load(argument(3)),
        unless_equal(libc::MS_NODEV as u32, 3),
        load(argument(4)),
        // Without options it is something else.
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 0),
        answer(libc::EPERM),
        ALLOW,
        unless_equal(libc::SYS_mknodat as u32, 5),
        load(argument(2)),
        AND_TYPE,
        unless_equal(libc::S_IFCHR, 1),
        answer(libc::EPERM),
        ALLOW,
        unless_equal(libc::SYS_seccomp as u32, 5),
        load(argument(1)),
        AND_LISTENER,
        unless_equal(1 << 3, 1),
        answer(libc::EINVAL),
        ALLOW,
        ALLOW,
    ]
}

fn main() {
    let filter = filter();
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, which copies it. Who is not root gives up set-user-ID programs.
    let installed = unsafe {
        if libc::geteuid() != 0 {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    assert!(installed == 0, "{}", std::io::Error::last_os_error());
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().expect("a command");
    let mut command = Command::new(command);
    command.args(arguments);
    loop {
        let error = command.exec();
        // Another test's fork still has the program open that was just written.
        assert!(error.raw_os_error() == Some(libc::ETXTBSY), "{error}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
