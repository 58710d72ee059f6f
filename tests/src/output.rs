//! What a command left behind.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Exit status and output of a finished command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 + n after signal n.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command without standard input and waits for it.
    pub fn of(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output =
            command.stdin(Stdio::null()).output().with_context(|| format!("failed to start `{program}`"))?;
        Ok(output.into())
    }

    /// This output, if the status is 0; else an error with everything in it.
    pub fn success(self) -> Result<Self> {
        self.with_status(0)
    }

    /// This output, if the status is the expected one; else an error with everything in it.
    pub fn with_status(self, expected: i32) -> Result<Self> {
        if self.status != expected {
            bail!(
                "exit status {}, expected {expected}\n--- stdout\n{}\n--- stderr\n{}",
                self.status,
                self.stdout,
                self.stderr
            );
        }
        Ok(self)
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            status: status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
