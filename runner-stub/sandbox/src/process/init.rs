//! `init: true`: PID 1 stays ours, the command is its child. It reaps whatever is orphaned in the container and forwards
//! signals, which a command that is PID 1 itself would not get without handlers of its own.

use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Error;
use crate::sys;

/// Returns in the child, which goes on to become the command. The parent ends with the command's status.
pub(super) fn become_init(terminal: bool) -> Result<(), Error> {
    let failed = |source| Error::System { step: "fork the command", source };
    // PID 1 stays a copy of the shim, or of `run` with its caller's environment and what it was told of other services.
    // Nothing of that is readable through `/proc/1` or ptrace(2); the command becomes readable when it is executed.
    let hidden = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(hidden).map_err(super::confine("hide from tracing"))?;
    // Blocked before the fork: none is lost between.
    let _ = SigSet::all().thread_block();
    match sys::fork().map_err(failed)? {
        None => {
            // A process group of its own, so that a signal to the command's group does not come back here.
            let _ = rustix::process::setpgid(None, None);
            if terminal {
                let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
            }
            Ok(())
        }
        Some(child) => {
            // The socket on which the success of `execve` shows is the child's alone from here on.
            let _ = sys::close_from(3, true);
            let _ = rustix::thread::set_name(c"dpack-init");
            forward(Pid::from_raw(child))
        }
    }
}

fn forward(child: Pid) -> ! {
    let signals = SigSet::all();
    loop {
        match sys::wait_for_signal(&signals) {
            nix::libc::SIGCHLD => {
                if let Some(status) = reap(child) {
                    sys::exit_now(status);
                }
            }
            signal => drop(sys::signal_number(child.as_raw(), signal)),
        }
    }
}

/// Reaps all that has ended; the command's status once it is among them.
fn reap(child: Pid) -> Option<i32> {
    let mut result = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => result = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => result = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return result,
            Ok(_) => {}
        }
    }
}
