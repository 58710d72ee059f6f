//! Running other programs: what was run stands in every error.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command with our standard streams and expects success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = describe(command);
    let status = command.status().with_context(|| format!("failed to start `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed with {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output, without the white space around it.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let text = describe(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("failed to start `{text}`"))?;
    if !output.status.success() {
        bail!("`{text}` failed with {}", output.status);
    }
    let stdout = String::from_utf8(output.stdout).with_context(|| format!("output of `{text}`"))?;
    Ok(stdout.trim().to_owned())
}

/// Whether a command is on the search path.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The command line, for messages; long ones are cut.
pub(crate) fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    if text.chars().count() > 200 {
        text = text.chars().take(200).chain(['…']).collect();
    }
    text
}
