//! What lies outside of all file systems: keys of the kernel (keyrings(7)), and processes of others.

#![expect(unsafe_code, reason = "the point is to make calls that nobody wraps")]

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use libc::c_long;

// linux/keyctl.h
const SESSION: c_long = -3;
const USER_SESSION: c_long = -5;
const JOIN_SESSION: c_long = 1;
const LINK: c_long = 8;
const SEARCH: c_long = 10;
const READ: c_long = 11;
// linux/ptrace.h
const ATTACH: c_long = 16;
const SEIZE: c_long = 0x4206;

/// Executes a command; returns only on failure.
pub(crate) fn with_key(name: &str, word: &str, command: &[&str]) -> Error {
    let key = || -> Result<c_long> {
        keyctl(JOIN_SESSION, 0, 0, 0, 0)?;
        let (kind, name) = (CString::new("user")?, CString::new(name)?);
        // SAFETY: both texts end in null and the word is as long as is said; all live through the call.
        let key = unsafe {
            libc::syscall(libc::SYS_add_key, kind.as_ptr(), name.as_ptr(), word.as_ptr(), word.len(), SESSION)
        };
        if key < 0 { Err(Error::last_os_error()) } else { Ok(key) }
    };
    let (Some((program, arguments)), key) = (command.split_first(), key()) else {
        return Error::other("a command is needed");
    };
    match key {
        Ok(key) => Command::new(program).args(arguments).env("KEY", key.to_string()).exec(),
        Err(error) => error,
    }
}

/// Each finding on a line of its own, then how much was tried.
pub(crate) fn reach(name: &str, word: &str, serial: i32, processes: &[i32]) -> Result<()> {
    let mut findings = Vec::new();
    let mut tried = 0;
    let mut attempt = |what: String, worked: bool| {
        tried += 1;
        if worked {
            findings.push(what);
        }
    };
    let serial = c_long::from(serial);
    attempt(format!("key {serial} is read"), reads(serial, word));
    // Whoever can link a key to a keyring of his own possesses it.
    attempt(format!("key {serial} is linked"), keyctl(LINK, serial, SESSION, 0, 0).is_ok());
    attempt(format!("key {serial} is read once linked"), reads(serial, word));
    let (kind, name) = (CString::new("user")?, CString::new(name)?);
    for ring in [SESSION, USER_SESSION] {
        let found = keyctl(SEARCH, ring, kind.as_ptr() as c_long, name.as_ptr() as c_long, 0);
        attempt(format!("a key is found in {ring}"), found.is_ok());
    }
    // SAFETY: both texts end in null and live through the call; null means that nobody is asked.
    let requested =
        unsafe { libc::syscall(libc::SYS_request_key, kind.as_ptr(), name.as_ptr(), 0_usize, 0_usize) };
    attempt("a key is requested".to_owned(), requested >= 0);
    for &pid in processes {
        // A process of our own may have the number by chance.
        if Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        for (call, how) in calls(pid) {
            attempt(format!("process {pid} by {how}"), call >= 0);
        }
    }
    for finding in &findings {
        println!("leak: {finding}");
    }
    println!("tried {tried}, {} leaks", findings.len());
    Ok(())
}

fn calls(pid: i32) -> [(c_long, &'static str); 5] {
    let mut memory = [0_u8; 8];
    let ours = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
    let theirs = libc::iovec { iov_base: 0x1_0000 as *mut _, iov_len: memory.len() };
    let (pid, one) = (c_long::from(pid), 1_usize);
    // SAFETY: numbers, but for the two vectors and the memory of the first, which live through the call. What the second
    // names is another process's.
    unsafe {
        [
            (libc::syscall(libc::SYS_kill, pid, 0_usize), "signal"),
            (libc::syscall(libc::SYS_ptrace, ATTACH, pid, 0_usize, 0_usize), "PTRACE_ATTACH"),
            (libc::syscall(libc::SYS_ptrace, SEIZE, pid, 0_usize, 0_usize), "PTRACE_SEIZE"),
            (
                libc::syscall(
                    libc::SYS_process_vm_readv,
                    pid,
                    &raw const ours,
                    one,
                    &raw const theirs,
                    one,
                    0_usize,
                ),
                "process_vm_readv",
            ),
            (libc::syscall(libc::SYS_pidfd_open, pid, 0_usize), "pidfd_open"),
        ]
    }
}

fn reads(key: c_long, word: &str) -> bool {
    let mut content = [0_u8; 256];
    let length = keyctl(READ, key, content.as_mut_ptr() as c_long, content.len() as c_long, 0);
    length
        .is_ok_and(|length| content.get(..length as usize).is_some_and(|content| content == word.as_bytes()))
}

fn keyctl(operation: c_long, second: c_long, third: c_long, fourth: c_long, fifth: c_long) -> Result<c_long> {
    // SAFETY: what of the arguments is an address is one of memory of ours that lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, operation, second, third, fourth, fifth) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}
