//! Signals by name and number, sent to a container's PID 1 by pidfd.

use std::path::Path;
use std::str::FromStr;

use crate::Error;
use crate::compat::pidfd;
use crate::record::{self, State};
use crate::role::Child;

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

/// By number from 1; the same on x86-64 and ARM.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// As C libraries count: the first two real-time signals are their own.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGINT.
    pub const INT: Signal = Signal(2);

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// Not a signal.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a signal")]
pub struct ParseSignalError(String);

impl FromStr for Signal {
    type Err = ParseSignalError;

    /// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
            Some(number) => number.parse::<i32>().ok().filter(|number| (0..64).contains(number)),
            None => rest.is_empty().then_some(0),
        };
        let number = if let Some(position) = NAMES.iter().position(|known| *known == name) {
            i32::try_from(position + 1).ok()
        } else if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+')
                .map(|number| REAL_TIME.start() + number)
                .filter(|number| REAL_TIME.contains(number))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-')
                .map(|number| REAL_TIME.end() - number)
                .filter(|number| REAL_TIME.contains(number))
        } else {
            name.parse().ok().filter(|number| (1..=64).contains(number))
        };
        number.map(Signal).ok_or_else(|| ParseSignalError(text.to_owned()))
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match usize::try_from(self.0 - 1).ok().and_then(|at| NAMES.get(at)) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "SIGRTMIN+{}", self.0 - REAL_TIME.start()),
        }
    }
}

/// Signals the container's PID 1. False when the container does not run.
pub fn send(container_dir: &Path, signal: Signal) -> Result<bool, Error> {
    let Some(init) = live_init(container_dir)? else { return Ok(false) };
    match pidfd::signal(&init.pidfd, signal.0) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(false),
        Err(source) => Err(Error::System { step: "signal the container", source }),
    }
}

/// PID 1 of a running container, held so that its number cannot become another's.
pub(crate) fn live_init(container_dir: &Path) -> Result<Option<Child>, Error> {
    let State::Running(running) = record::state(container_dir)? else { return Ok(None) };
    let Ok(child) = Child::of(running.init.pid) else { return Ok(None) };
    // Checked after it is held.
    Ok(running.init.is_alive().then_some(child))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("kill", 9),
            ("37", 37),
            ("SIGRTMIN+3", 37),
            ("rtmax", 64),
            ("RTMAX-1", 63),
            ("sigwinch", 28),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for text in ["", "0", "65", "SIGNOPE", "RTMIN+31", "RTMIN-1", "-9"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
        assert_eq!(Signal(37).to_string(), "SIGRTMIN+3");
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }
}
