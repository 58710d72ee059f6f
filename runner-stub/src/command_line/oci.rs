//! The OCI runtime command line, as podman, containerd and people call a runtime: `oci create …` of any executable, or the
//! verbs alone when the program is called `dpack-runner`.
//!
//! Errors go to standard error and, as callers want it, to `--log` in the form of `--log-format`. The exit status is 1 for
//! all failures, as with runc, except that `exec` passes on that of its command.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dpack_sandbox::exec::User;
use dpack_sandbox::oci::{self, Create, Exec};
use dpack_sandbox::{Error, Failure};

use super::output;

/// The name under which the program is this command line and nothing else.
pub(crate) const NAME: &str = "dpack-runner";
/// The verb under which it is reached otherwise.
pub(crate) const VERB: &str = "oci";

#[derive(Debug, Parser)]
#[command(name = "dpack-runner", about = "Runs OCI bundles", max_term_width = 110)]
struct Arguments {
    /// Folder of the containers' states
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// File that errors are appended to
    #[arg(long, value_name = "FILE", global = true)]
    log: Option<PathBuf>,
    /// How they are written there
    #[arg(long, value_enum, default_value_t, global = true)]
    log_format: LogFormat,
    /// Accepted: nothing more is written
    #[arg(long, global = true, hide = true)]
    debug: bool,
    /// Accepted: where systemd has to be asked for a control group is found out
    #[arg(long, global = true, hide = true)]
    systemd_cgroup: bool,
    /// Accepted: it is found out
    #[arg(long, value_name = "AUTO", global = true, hide = true)]
    rootless: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a container that waits in front of its command
    Create(CreateArguments),
    /// Execute the command of a created container
    Start(Container),
    /// Print the state
    State(Container),
    /// Send a signal
    Kill(KillArguments),
    /// Remove a stopped container
    Delete(DeleteArguments),
    /// Execute one more process
    Exec(Box<ExecArguments>),
    /// List the processes
    Ps(PsArguments),
    /// Freeze all processes
    Pause(Container),
    /// Let them go on
    Resume(Container),
    /// Print what this runtime can do
    Features,
}

#[derive(Debug, Args)]
struct Container {
    /// The container's ID
    id: String,
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// Folder with config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// File that receives the process ID
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Descriptors from 3 on that the command gets
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Accepted: a container always has a keyring of its own
    #[arg(long, hide = true)]
    no_new_keyring: bool,
    /// The container's ID
    id: String,
}

#[derive(Debug, Args)]
struct KillArguments {
    /// To every process
    #[arg(short, long)]
    all: bool,
    /// The container's ID
    id: String,
    /// Name or number
    #[arg(default_value = "SIGTERM")]
    signal: String,
}

#[derive(Debug, Args)]
struct DeleteArguments {
    /// Kill it first
    #[arg(short, long)]
    force: bool,
    /// The container's ID
    id: String,
}

#[derive(Debug, Args)]
struct PsArguments {
    /// How they are listed
    #[arg(short, long, value_enum, default_value_t)]
    format: PsFormat,
    /// The container's ID
    id: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PsFormat {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Args)]
struct ExecArguments {
    /// File with a `process` document
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return when the command runs
    #[arg(short, long)]
    detach: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Variable, `KEY=VALUE`
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// User and group by number
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Supplementary group by number
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File that receives the process ID
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that receives the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Descriptors from 3 on that the command gets
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// The container's ID
    id: String,
    /// Command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The arguments when the program was called as a runtime; none when it was not.
pub(crate) fn asked(mut arguments: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let program = arguments.next()?;
    let named = PathBuf::from(&program).file_name().is_some_and(|name| name == NAME);
    let mut rest = arguments.peekable();
    let verb = rest.next_if(|first| first == VERB).is_some();
    (named || verb).then(|| std::iter::once(program).chain(rest).collect())
}

/// Runs what was typed.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let Err(error) = run(&arguments) else { return ExitCode::SUCCESS };
    report(&arguments, "error", &Failure::from(&error));
    ExitCode::from(1)
}

/// On standard error, and in the log where there is one.
fn report(arguments: &Arguments, level: &str, failure: &Failure) {
    if let Some(path) = &arguments.log {
        log(path, arguments.log_format, level, failure);
    }
    let hint = failure.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    output::note(&format!("{level}: {}{hint}", failure.line()));
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let root = arguments.root.clone().unwrap_or_else(oci::default_root);
    match &arguments.verb {
        Verb::Create(create) => oci::create(&Create {
            root: &root,
            id: &create.id,
            bundle: &create.bundle,
            pid_file: create.pid_file.as_deref(),
            console_socket: create.console_socket.as_deref(),
            preserve_fds: create.preserve_fds,
        }),
        Verb::Start(container) => oci::start(&root, &container.id),
        Verb::State(container) => {
            print(&oci::state(&root, &container.id)?);
            Ok(())
        }
        Verb::Kill(kill) => {
            let signal = kill.signal.parse().map_err(|_| Error::Invalid {
                property: "signal".to_owned(),
                reason: format!("`{}` is not one", kill.signal),
            })?;
            oci::kill(&root, &kill.id, signal, kill.all)
        }
        Verb::Delete(delete) => {
            if let Some(warning) = oci::delete(&root, &delete.id, delete.force)? {
                report(arguments, "warning", &Failure::from(&warning));
            }
            Ok(())
        }
        Verb::Exec(exec) => execute(&root, exec).map(|never| match never {}),
        Verb::Ps(ps) => {
            let pids = oci::processes(&root, &ps.id)?;
            match ps.format {
                PsFormat::Json => print(&pids.into()),
                PsFormat::Table => {
                    let lines: Vec<String> = pids.iter().map(ToString::to_string).collect();
                    output::print(&format!("PID\n{}\n", lines.join("\n")));
                }
            }
            Ok(())
        }
        Verb::Pause(container) => oci::freeze(&root, &container.id, true),
        Verb::Resume(container) => oci::freeze(&root, &container.id, false),
        Verb::Features => {
            print(&oci::features());
            Ok(())
        }
    }
}

fn execute(root: &std::path::Path, arguments: &ExecArguments) -> Result<Infallible, Error> {
    let user = arguments.user.as_deref().map(|text| user(text, &arguments.additional_gids)).transpose()?;
    oci::exec(
        root,
        &arguments.id,
        &Exec {
            process: arguments.process.as_deref(),
            args: arguments.command.clone(),
            env: arguments.env.clone(),
            cwd: arguments.cwd.clone(),
            user,
            tty: arguments.tty,
            detach: arguments.detach,
            pid_file: arguments.pid_file.as_deref(),
            console_socket: arguments.console_socket.as_deref(),
            preserve_fds: arguments.preserve_fds,
        },
    )
}

/// `UID[:GID]`: a runtime knows no names.
fn user(text: &str, additional_gids: &[u32]) -> Result<User, Error> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok(User { uid, gid, additional_gids: additional_gids.to_vec() }),
        _ => Err(Error::Invalid {
            property: "user".to_owned(),
            reason: format!("`{text}` is not UID[:GID] in numbers"),
        }),
    }
}

fn print(value: &serde_json::Value) {
    output::print(&format!("{value:#}\n"));
}

/// As logrus does, which callers read.
fn log(path: &std::path::Path, format: LogFormat, level: &str, failure: &Failure) {
    let time = crate::time::format(crate::time::now());
    let line = match format {
        LogFormat::Json => {
            serde_json::json!({"level": level, "msg": failure.line(), "time": time}).to_string()
        }
        LogFormat::Text => format!("time={time:?} level={level} msg={:?}", failure.line()),
    };
    // The error is told on standard error, too.
    let _ =
        File::options().create(true).append(true).open(path).and_then(|mut file| writeln!(file, "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(words: &[&str]) -> Option<Vec<String>> {
        let found = asked(words.iter().map(OsString::from))?;
        Some(found.into_iter().map(|word| word.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn it_is_reached_by_name_and_by_verb() {
        assert_eq!(asked_by(&["./app", "up"]), None);
        assert_eq!(asked_by(&["./app", "oci", "state", "x"]).unwrap(), ["./app", "state", "x"]);
        assert_eq!(
            asked_by(&["/bin/dpack-runner", "state", "x"]).unwrap(),
            ["/bin/dpack-runner", "state", "x"]
        );
        assert_eq!(asked_by(&["dpack-runner", "oci", "state"]).unwrap(), ["dpack-runner", "state"]);
    }

    #[test]
    fn what_podman_types_is_understood() {
        let typed = "dpack-runner --root /r --log /l --log-format json create --bundle /b --pid-file /p \
                     --console-socket /c --preserve-fds 2 id";
        let parsed = Arguments::try_parse_from(typed.split_whitespace()).unwrap();
        assert!(
            matches!(&parsed.verb, Verb::Create(create) if create.preserve_fds == 2 && create.id == "id")
        );
        let typed = "dpack-runner exec --pid-file /p --process /q -d id";
        assert!(Arguments::try_parse_from(typed.split_whitespace()).is_ok());
        let typed = "dpack-runner kill --all id 9";
        assert!(Arguments::try_parse_from(typed.split_whitespace()).is_ok());
        assert!(user("a:b", &[]).is_err());
    }
}
