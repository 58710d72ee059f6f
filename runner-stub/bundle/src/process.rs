//! What is executed, as whom, where and with which environment.
//!
//! Command line (moby: `daemon/commit.go`, `merge`): an entrypoint of the service replaces the image's and drops the image's
//! command; an empty one only takes the image's entrypoint away. A command of the service replaces the image's command; an
//! empty one leaves it. Environment (moby: `container.CreateDaemonEnvironment`): defaults, image, service, each over the
//! one before, in place; `HOME` comes from the user database where nobody has set it (runc).

use dpack_compose::project::Service;

use crate::image::ImageConfig;
use crate::input::BundleInput;
use crate::security::Security;
use crate::spec::{Capabilities, Process, User};
use crate::users::{self, ResolvedUser, UserError};

/// Docker's default search path.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why it is not clear what to execute.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProcessError {
    /// Neither service nor image has a command.
    #[error(
        "no command specified: neither the service nor the image `{image}` has an entrypoint or a command\n\
         hint: add `command:` to the service"
    )]
    NoCommand {
        /// The service's image.
        image: String,
    },
    /// A name, argument or variable has a NUL byte, which no process can be given.
    #[error("{what} contains a NUL byte")]
    Nul {
        /// Which one.
        what: String,
    },
    /// The working directory is relative.
    #[error("the working directory `{0}` is invalid: it must be an absolute path")]
    WorkingDir(String),
    /// The user does not exist.
    #[error(transparent)]
    User(#[from] UserError),
}

/// The `process` of a bundle.
pub(crate) fn process(
    input: &BundleInput<'_>,
    hostname: &str,
    security: &Security,
) -> Result<Process, ProcessError> {
    let args = command_line(input.service, input.image)?;
    let user = user(input)?;
    let mut env = environment(input.service, input.image, hostname, input.tty)?;
    set_home(&mut env, &user.home);
    Ok(Process {
        terminal: input.tty,
        capabilities: Some(capabilities(user.uid, &security.capabilities)),
        rlimits: security.rlimits.clone(),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.apparmor_profile.clone(),
        selinux_label: security.labels.as_ref().map(|labels| labels.process.to_string()),
        user: User { uid: user.uid, gid: user.gid, additional_gids: user.groups },
        args,
        env,
        cwd: working_dir(input.service, input.image)?,
        oom_score_adj: input.service.resources.oom_score_adj,
    })
}

/// Entrypoint and command of service and image put together.
pub fn command_line(service: &Service, image: &ImageConfig) -> Result<Vec<String>, ProcessError> {
    let own_command = service.command.as_deref().unwrap_or_default();
    let (entrypoint, mut command) = match &service.entrypoint {
        None => (image.entrypoint.as_slice(), own_command),
        Some(entrypoint) => (entrypoint.as_slice(), own_command),
    };
    // An entrypoint of the service brings its own command. `[""]` counts as one: it is how Docker is told to have none.
    let keeps_image_command = service.entrypoint.as_ref().is_none_or(Vec::is_empty);
    if command.is_empty() && keeps_image_command {
        command = &image.cmd;
    }
    let entrypoint = if entrypoint == [""] { &[] } else { entrypoint };
    let line = [entrypoint, command].concat();
    if line.is_empty() {
        return Err(ProcessError::NoCommand { image: service.image.clone() });
    }
    match line.iter().find(|argument| argument.contains('\0')) {
        Some(argument) => Err(nul("the argument", argument)),
        None => Ok(line),
    }
}

/// The environment, without `HOME` unless somebody sets it.
pub fn environment(
    service: &Service,
    image: &ImageConfig,
    hostname: &str,
    tty: bool,
) -> Result<Vec<String>, ProcessError> {
    let mut env = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    for entry in &image.env {
        if entry.contains('\0') {
            return Err(nul("the image's environment variable", entry));
        }
        set(&mut env, entry.clone());
    }
    for (key, value) in &service.environment {
        if key.contains('\0') || value.contains('\0') {
            return Err(nul("the environment variable", key));
        }
        set(&mut env, format!("{key}={value}"));
    }
    Ok(env)
}

/// Adds `HOME` where it is missing or empty, as runc does; `exec` as another user does the same.
pub fn set_home(env: &mut Vec<String>, home: &str) {
    let present = env.iter().any(|entry| entry.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()));
    if !present {
        set(env, format!("HOME={home}"));
    }
}

/// The signal that asks the container to stop: the service's, else the image's, else `SIGTERM`.
pub fn stop_signal<'a>(service: &'a Service, image: &'a ImageConfig) -> &'a str {
    service.stop_signal.as_deref().or(image.stop_signal.as_deref()).unwrap_or("SIGTERM")
}

/// The service's user, else the image's, looked up in the image.
fn user(input: &BundleInput<'_>) -> Result<ResolvedUser, UserError> {
    let name = input.service.user.as_deref().filter(|name| !name.is_empty()).unwrap_or(&input.image.user);
    let mut user = users::resolve(name, input.users)?;
    for group in &input.service.group_add {
        let gid = users::group(group, input.users)?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

fn working_dir(service: &Service, image: &ImageConfig) -> Result<String, ProcessError> {
    let own = service.working_dir.as_deref().filter(|dir| !dir.is_empty());
    if let Some(dir) = own.filter(|dir| !dir.starts_with('/')) {
        return Err(ProcessError::WorkingDir(dir.to_owned()));
    }
    let dir = own.unwrap_or(&image.working_dir);
    if dir.contains('\0') {
        return Err(nul("the working directory", dir));
    }
    Ok(clean(dir))
}

/// The path from `/` without `.`, `..`, and doubled slashes.
pub(crate) fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Root has the capabilities; another user has them only within reach of set-user-ID programs, as after execve(2).
fn capabilities(uid: u32, all: &[String]) -> Capabilities {
    let all = all.to_vec();
    if uid == 0 {
        Capabilities {
            bounding: all.clone(),
            effective: all.clone(),
            permitted: all,
            ..Capabilities::default()
        }
    } else {
        Capabilities { bounding: all, ..Capabilities::default() }
    }
}

/// Puts `entry` where its key stands already, else at the end. A key without `=` takes the variable away (moby:
/// `container.ReplaceOrAppendEnvValues`).
fn set(env: &mut Vec<String>, entry: String) {
    let key = entry.split_once('=').map(|(key, _)| key.to_owned());
    let matches = |old: &String, key: &str| old.split_once('=').is_some_and(|(old, _)| old == key);
    match key {
        None => env.retain(|old| !matches(old, &entry)),
        Some(key) => match env.iter_mut().find(|old| matches(old, &key)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        },
    }
}

fn nul(what: &str, text: &str) -> ProcessError {
    ProcessError::Nul { what: format!("{what} `{}`", text.escape_debug()) }
}
