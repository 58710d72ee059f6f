//! Commands inside of containers that nobody sits in front of: health checks, and the hooks of a service.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dpack_bundle::users::{self, UserDatabase};
use dpack_compose::project::Hook;
use dpack_sandbox::exec::{self, ExecOptions, User};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;

use super::create::sandbox_failure;
use super::pidfd;
use super::state::Unit;
use crate::failure::Failure;
use crate::health::OUTPUT;

/// Largest `/etc/passwd` that is read from a container.
const LARGEST_DATABASE: u64 = 4 << 20;

/// A command inside a container that nobody sits in front of.
pub(crate) struct Inside {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// `NAME=value` over the container's own.
    pub(crate) env: Vec<String>,
    /// Working directory; the container's own when absent.
    pub(crate) cwd: Option<String>,
    /// User; the container's own when absent.
    pub(crate) user: Option<User>,
    /// How long it may take; it is killed then.
    pub(crate) limit: Option<Duration>,
}

/// How a command inside a container ended.
pub(crate) struct Outcome {
    /// Exit status.
    pub(crate) code: i32,
    /// The beginning of what it wrote.
    pub(crate) output: String,
}

/// Executes a command in a container and waits for its end.
pub(crate) async fn inside(unit: &Unit, inside: Inside) -> Result<Outcome> {
    let folder = unit.folder.clone();
    let (output, theirs) = std::io::pipe().context("failed to create a pipe")?;
    let spawned = spawn_blocking(move || {
        let options = ExecOptions {
            container_dir: &folder,
            args: inside.command,
            env: inside.env,
            cwd: inside.cwd,
            user: inside.user,
            capabilities: None,
            tty: false,
            stdin: false,
        };
        exec::spawn(&options, theirs.as_fd(), inside.limit)
    });
    let child = spawned.await.context("an execution was cut short")??;
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))
        .context("failed to read the output of a command")?;
    let mut text = Vec::new();
    let mut block = [0; 1024];
    let ended = pidfd::status(child.pidfd);
    tokio::pin!(ended);
    let mut open = true;
    let code = loop {
        tokio::select! {
            // What was written before the end is read before it.
            biased;
            read = output.read(&mut block), if open => match read {
                Ok(length @ 1..) => {
                    let room = OUTPUT.saturating_sub(text.len());
                    text.extend_from_slice(&block[..length.min(room)]);
                }
                _ => open = false,
            },
            code = &mut ended => break code?,
        }
    };
    Ok(Outcome { code, output: String::from_utf8_lossy(&text).into_owned() })
}

/// A user of a container by name or number, and its home, by the container's own files.
pub(crate) fn user(folder: &Path, spec: &str) -> Result<(User, String)> {
    let read = |path| -> Result<String> {
        let bytes = exec::read_file(folder, path, LARGEST_DATABASE).map_err(sandbox_failure)?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let resolved = users::resolve(spec, UserDatabase { passwd: &passwd, group: &group })
        .map_err(|error| Failure::usage(error.to_string()))?;
    let user = User { uid: resolved.uid, gid: resolved.gid, additional_gids: resolved.groups };
    Ok((user, resolved.home))
}

/// Runs the hooks of a service one after the other; the first that fails is the last.
pub(crate) async fn run_hooks(unit: &Unit, hooks: &[Hook]) -> Result<()> {
    let name = &unit.identity.name;
    for hook in hooks {
        if hook.privileged {
            let what = format!("container {name}: hooks with `privileged` are not supported");
            return Err(Failure::input(what).into());
        }
        let mut env: Vec<String> =
            hook.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let user = match hook.user.clone() {
            Some(spec) => {
                let folder = unit.folder.clone();
                let found = spawn_blocking(move || user(&folder, &spec)).await;
                let (user, home) = found.context("a look at users was cut short")??;
                env.insert(0, format!("HOME={home}"));
                Some(user)
            }
            None => None,
        };
        let command =
            Inside { command: hook.command.clone(), env, cwd: hook.working_dir.clone(), user, limit: None };
        let outcome = inside(unit, command).await?;
        if outcome.code != 0 {
            let said = outcome.output.trim_end();
            return Err(Failure::environment(format!(
                "container {name}: hook `{}` exited with status {}{}{said}",
                hook.command.join(" "),
                outcome.code,
                if said.is_empty() { "" } else { ": " }
            ))
            .into());
        }
    }
    Ok(())
}
