//! Every system call by its number, with arguments that make no sense: what is left of the kernel's surface behind a filter.
//!
//! Each call is made by a process of its own, because some end it, block, or change what the next would see.

use std::io::Result;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// Higher than any number of today's kernels.
const HIGHEST: u32 = 475;
/// A call that has not returned by then waits for something.
const PATIENCE: Duration = Duration::from_millis(1500);

/// No descriptor, no address, no process.
const NONSENSE: libc::c_long = -1;

/// By number: an error's name or number, `ok`, `blocks`, or how the process ended.
pub(crate) fn table() -> Result<Value> {
    let program = std::env::current_exe()?;
    let mut table = Map::new();
    for number in 0..HIGHEST {
        let mut child = Command::new(&program)
            .args(["call", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let begin = Instant::now();
        let outcome = loop {
            match child.try_wait()? {
                Some(status) => break status.code().map_or_else(|| "ends".to_owned(), described),
                None if begin.elapsed() > PATIENCE => {
                    child.kill()?;
                    child.wait()?;
                    break "blocks".to_owned();
                }
                None => std::thread::sleep(Duration::from_micros(300)),
            }
        };
        table.insert(number.to_string(), json!(outcome));
    }
    Ok(table.into())
}

fn described(status: i32) -> String {
    match status {
        0 => "ok".to_owned(),
        1 => "EPERM".to_owned(),
        38 => "ENOSYS".to_owned(),
        errno => errno.to_string(),
    }
}

/// Makes one call; the exit status is its error.
#[expect(unsafe_code, reason = "the point is to make calls that nobody wraps")]
pub(crate) fn call(number: u32) -> u8 {
    // SAFETY: every pointer among the arguments is one that the kernel refuses; calls that change memory of their own accord
    // (fork without exec, sigreturn) concern this process alone, which does nothing but end afterwards.
    let result = unsafe {
        libc::syscall(number as libc::c_long, NONSENSE, NONSENSE, NONSENSE, NONSENSE, NONSENSE, NONSENSE)
    };
    if result >= 0 {
        return 0;
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    errno.and_then(|errno| u8::try_from(errno).ok()).unwrap_or(255)
}
