//! What can go wrong, one variant for each step; what to do about it; and how it crosses a process boundary.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A step of creating, starting or joining a container that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `unshare(CLONE_NEWUSER)`.
    #[error("failed to create a user namespace")]
    UserNamespace(#[source] io::Error),
    /// `newuidmap` or `newgidmap` ended with an error; it has told why on standard error.
    #[error("`{program}` did not write the ID map")]
    IdMapHelper {
        /// Its path.
        program: PathBuf,
    },
    /// `/proc/self/uid_map` and its kind.
    #[error("failed to write the ID map")]
    IdMap(#[source] io::Error),
    /// `setns` into the user namespace of a process.
    #[error("failed to join the user namespace of process {pid}")]
    JoinUserNamespace {
        /// Whose.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// Starting this program in another role.
    #[error("failed to start `{role}`: {step}")]
    Role {
        /// `argv[0]`.
        role: String,
        /// What was attempted.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Reading a file.
    #[error("failed to read `{path}`")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing a file.
    #[error("failed to write `{path}`")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// JSON that is not what it should be.
    #[error("failed to parse `{path}`")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A property of config.json that would be ignored if it were not refused.
    #[error("config.json: `{property}` is not supported")]
    Unsupported {
        /// Its path in the document.
        property: &'static str,
    },
    /// A value in config.json that makes no sense.
    #[error("config.json: `{property}`: {reason}")]
    Invalid {
        /// Its path in the document.
        property: String,
        /// What was expected.
        reason: String,
    },
    /// `unshare` of the container's namespaces.
    #[error("failed to create the {names} namespaces")]
    Namespaces {
        /// Which.
        names: String,
        /// Why.
        source: io::Error,
    },
    /// `setns` into a namespace given by path or by a container's process.
    #[error("failed to join `{path}`")]
    JoinNamespace {
        /// Of what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Copying a root file system into a folder.
    #[error("failed to copy the root file system to `{path}`")]
    Export {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Raising `lo` in a new network namespace.
    #[error("failed to raise the loopback interface")]
    Loopback(#[source] io::Error),
    /// `sethostname`, `setdomainname`.
    #[error("failed to set the host name to `{name}`")]
    Hostname {
        /// To what.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Changing propagation, so that no mount of ours gets out.
    #[error("failed to separate the mounts from the host's")]
    Propagation(#[source] io::Error),
    /// Opening an image layer, an upper or a work directory.
    #[error("failed to open the layer `{path}`")]
    Layer {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The overlay mount.
    #[error("failed to mount overlay of {layers} layers on `{path}`")]
    Overlay {
        /// Mount point.
        path: PathBuf,
        /// How many.
        layers: usize,
        /// Why.
        source: io::Error,
    },
    /// The root file system, or its bind mount onto itself.
    #[error("failed to open the root file system `{path}`")]
    Rootfs {
        /// Its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Finding or making a mount target inside the root file system.
    #[error("failed to make the mount target `{target}`")]
    Target {
        /// Path in the container.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The source of a bind mount.
    #[error("failed to open the mount source `{path}`")]
    Source {
        /// Path outside.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Any other mount.
    #[error("failed to mount {kind} on `{target}`{detail}")]
    Mount {
        /// File system type or `bind`.
        kind: String,
        /// Path in the container.
        target: String,
        /// What the kernel adds.
        detail: String,
        /// Why.
        source: io::Error,
    },
    /// Copying the image's content into an empty volume.
    #[error("failed to copy the image's `{target}` into the volume `{volume}`")]
    CopyUp {
        /// Path in the container.
        target: String,
        /// The volume's folder.
        volume: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A device node.
    #[error("failed to make the device `{path}`")]
    Device {
        /// Path in the container.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Masking a path or making it read-only.
    #[error("failed to cover `{path}`")]
    Cover {
        /// Path in the container.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A kernel parameter.
    #[error("failed to set the kernel parameter `{name}`")]
    Sysctl {
        /// Its dotted name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Making the root file system the root.
    #[error("failed to pivot to the root file system")]
    Pivot(#[source] io::Error),
    /// A control group.
    #[error("failed to set up the control group `{path}`")]
    ControlGroup {
        /// Its folder, or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A limit that cannot be enforced.
    #[error("the limit `{property}` cannot be enforced, because {reason}")]
    Limit {
        /// Its path in config.json.
        property: &'static str,
        /// Why.
        reason: String,
        /// What would help.
        hint: Option<String>,
    },
    /// A hook that failed, could not be started or took too long.
    #[error("the {stage} hook `{path}` failed")]
    Hook {
        /// Its name in config.json.
        stage: &'static str,
        /// Its program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An ID that is taken.
    #[error("container `{id}` exists already")]
    ContainerExists {
        /// The ID.
        id: String,
    },
    /// An ID that nobody has.
    #[error("container `{id}` does not exist")]
    NoContainer {
        /// The ID.
        id: String,
    },
    /// A verb that does not fit the state.
    #[error("container `{id}` is {status} and cannot be {what}")]
    WrongStatus {
        /// The ID.
        id: String,
        /// What it is.
        status: &'static str,
        /// What was asked.
        what: &'static str,
    },
    /// Freezing a container that has no control group of its own.
    #[error(
        "the container has no control group of its own, and only that can stop all its processes at once"
    )]
    NoFreezer,
    /// The pseudo-terminal.
    #[error("failed to set up the terminal: {step}")]
    Terminal {
        /// What was attempted.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// User, groups, capabilities, limits, filters.
    #[error("failed to confine the process: {step}")]
    Confine {
        /// What was attempted.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The working directory.
    #[error("failed to change to the working directory `{path}`")]
    WorkingDirectory {
        /// Path in the container.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Exit status 127. Docker's and runc's words: engines know the error by them.
    #[error("exec: \"{command}\": executable file not found in $PATH")]
    NotFound {
        /// `args[0]`.
        command: String,
    },
    /// Exit status 126.
    #[error("exec: \"{command}\": cannot be executed")]
    NotExecutable {
        /// `args[0]`.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// `fork`, `wait`, `poll`, sockets: what fails only when the system is out of something.
    #[error("failed to {step}")]
    System {
        /// What was attempted.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A label for a security module that this host does not have, or has switched off.
    #[error("config.json: `{property}` is there, but this host has no {module}")]
    NoModule {
        /// Its path in the document.
        property: &'static str,
        /// `AppArmor` or `SELinux`.
        module: &'static str,
    },
    /// `attr/apparmor/exec`
    #[error("failed to set the AppArmor profile `{name}`")]
    Profile {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// `attr/exec`, `attr/keycreate`, `security.selinux`
    #[error("failed to set the SELinux label `{label}`")]
    Label {
        /// The whole of it.
        label: String,
        /// Why.
        source: io::Error,
    },
    /// The other process ended without a word.
    #[error("{process} ended unexpectedly")]
    Vanished {
        /// Which.
        process: &'static str,
    },
    /// `exec` in a container that does not run.
    #[error("the container in `{container_dir}` is not running")]
    NotRunning {
        /// Its folder.
        container_dir: PathBuf,
    },
    /// Another shim has the container's folder.
    #[error("the container in `{container_dir}` is running already")]
    AlreadyRunning {
        /// Its folder.
        container_dir: PathBuf,
    },
    /// It failed in another of our processes.
    #[error(transparent)]
    Remote(Failure),
}

/// An error that came from another of our processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed.
    pub message: String,
    /// Its cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Failure>>,
    /// The remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// 126 or 127 when the command could not be executed or found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        fn chain(error: &dyn std::error::Error) -> Failure {
            let cause = error.source().map(|cause| Box::new(chain(cause)));
            Failure { message: error.to_string(), cause, hint: None, exit_code: None }
        }
        Failure { hint: error.hint(), exit_code: error.exit_code(), ..chain(error) }
    }
}

impl Failure {
    /// The whole chain in one line.
    pub fn line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {}", self.message, cause.line()),
            None => self.message.clone(),
        }
    }
}

impl Error {
    /// 126 or 127 when the command could not be executed or found.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Error::NotFound { .. } => Some(127),
            Error::NotExecutable { .. } | Error::WorkingDirectory { .. } => Some(126),
            Error::Remote(failure) => failure.exit_code,
            _ => None,
        }
    }

    /// The remedy where one is known, without the word `hint:`.
    pub fn hint(&self) -> Option<String> {
        use nix::libc::{EINVAL, ENODEV, ENOENT, ENOSPC, ENOSYS, EPERM, EXDEV};
        let text = match self {
            Error::Remote(failure) => return failure.hint.clone(),
            Error::UserNamespace(source) => return user_namespace_hint(source),
            Error::IdMap(source) if source.raw_os_error() == Some(EPERM) => {
                return user_namespace_hint(source);
            }
            Error::IdMapHelper { .. } => {
                "the ranges in /etc/subuid and /etc/subgid have to belong to this user and the helper has to be \
                 setuid root"
            }
            Error::Overlay { source, .. } | Error::Layer { source, .. } => match source.raw_os_error()? {
                ENODEV => "this kernel has no overlayfs; load it as root with `modprobe overlay`",
                EPERM => "overlayfs for ordinary users needs Linux 5.11 or newer",
                EINVAL | EXDEV => {
                    "the data folder's file system cannot carry an overlay (NFS, another overlay, a file system \
                     without user xattrs); set DPACK_DATA_DIR to a folder on ext4, xfs or btrfs"
                }
                ENOSPC => "no space is left where the data folder is",
                _ => return None,
            },
            Error::Mount { kind, source, .. } if kind == "proc" && source.raw_os_error() == Some(EPERM) => {
                "an ordinary user can mount proc only where the host's /proc is not covered in parts; inside \
                 another container, run that one with unmasked paths"
            }
            Error::Namespaces { source, .. } if source.raw_os_error() == Some(ENOSPC) => {
                "too many namespaces; raise the limits: `sysctl user.max_mnt_namespaces user.max_pid_namespaces \
                 user.max_net_namespaces`"
            }
            Error::Source { source, path } if source.raw_os_error() == Some(ENOENT) => {
                return Some(format!("create it first: `mkdir -p {}`", path.display()));
            }
            Error::Confine { step, source } if *step == crate::process::STEP_KEYRING => {
                match source.raw_os_error()? {
                    nix::libc::EDQUOT => {
                        "too many keyrings; raise the limit: `sysctl kernel.keys.maxkeys=2000`"
                    }
                    _ => return None,
                }
            }
            Error::Confine { step, source } if *step == crate::process::STEP_SECCOMP => {
                match source.raw_os_error()? {
                    EINVAL | ENOSYS => "this kernel lacks CONFIG_SECCOMP_FILTER",
                    _ => return None,
                }
            }
            Error::Limit { hint, .. } => return hint.clone(),
            Error::Confine { step, source } if *step == crate::process::STEP_LIMIT => {
                match source.raw_os_error()? {
                    EPERM => {
                        "an ordinary user cannot go above the hard limit of the session; raise it as root in \
                         /etc/security/limits.conf or, for services, by systemd's `Limit…=`"
                    }
                    _ => return None,
                }
            }
            Error::NoModule { module: "AppArmor", .. } => {
                "leave the profile out, or boot with `security=apparmor apparmor=1` a kernel that has it"
            }
            Error::NoModule { .. } => {
                "leave the label out, or boot with `security=selinux selinux=1` and a policy"
            }
            Error::Profile { source, .. } => match source.raw_os_error()? {
                ENOENT => "no profile of this name is loaded; as root: `apparmor_parser -r FILE`",
                EPERM | nix::libc::EACCES => {
                    "this program is confined by a profile itself, which has to allow `change_profile`"
                }
                _ => return None,
            },
            Error::Label { source, .. } => match source.raw_os_error()? {
                EINVAL => "the policy of this device knows no such user, role, type or level",
                EPERM | nix::libc::EACCES => {
                    "the policy of this device does not allow it; `ausearch -m avc -ts recent` as root shows the rule"
                }
                _ => return None,
            },
            Error::NotRunning { .. } => "start it with `up` or `start`",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// What keeps an ordinary user from a user namespace, by errno and by the switches that distributions have.
fn user_namespace_hint(source: &io::Error) -> Option<String> {
    let zero = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0");
    let one = |path: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    let text = match source.raw_os_error()? {
        nix::libc::ENOSPC | nix::libc::EUSERS => {
            "sudo sysctl user.max_user_namespaces=15000\nfor always: the same line in /etc/sysctl.d/90-dpack.conf"
        }
        nix::libc::EINVAL | nix::libc::ENOSYS => "this kernel lacks CONFIG_USER_NS",
        nix::libc::EPERM | nix::libc::EACCES => {
            if zero("/proc/sys/kernel/unprivileged_userns_clone") {
                "sudo sysctl kernel.unprivileged_userns_clone=1\nfor always: the same line in /etc/sysctl.d/90-dpack.conf"
            } else if one("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
                return Some(apparmor_hint());
            } else {
                "user namespaces are refused here: not allowed inside a chroot, and possibly by the seccomp profile \
                 of a surrounding container"
            }
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// Ubuntu 23.10 and newer allow user namespaces by a profile for each program.
fn apparmor_hint() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/path/to/this/program"));
    format!(
        "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\n\\nprofile dpack \"%s\" flags=(unconfined) {{\\n  userns,\\n}}\\n' '{}' | \
         sudo tee /etc/apparmor.d/dpack && sudo apparmor_parser -r /etc/apparmor.d/dpack\n\
         or, for all programs: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        attachment(&program.display().to_string())
    )
}

/// A path as a quoted profile attachment (apparmor.d(5), "Globbing"), inside of single quotes of a shell.
fn attachment(path: &str) -> String {
    let mut text = String::new();
    for character in path.chars() {
        match character {
            '\\' | '"' | '*' | '[' | ']' | '{' | '}' => text.extend(['\\', character]),
            '\'' => text.push_str("'\\''"),
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_for_this_path_whatever_is_in_it() {
        let line = format!("printf '%s' '{}'", attachment("/it's a \\ [\"*]"));
        let shell = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        // What apparmor_parser 5.0 takes for the path as it is.
        assert_eq!(String::from_utf8_lossy(&shell.stdout), r#"/it's a \\ \[\"\*\]"#);
    }
}
