//! `exec`: one more process, as a document of the specification's `process` or from arguments.

use std::convert::Infallible;
use std::path::Path;

use super::connect_console;
use super::create::preserved;
use super::state::{Record, Status};
use crate::Error;
use crate::exec::{self, ExecOptions, User, Ways};
use crate::role::Child;
use crate::spec::{Bundle, Process};

/// What `exec` is told.
#[derive(Debug, Clone, Default)]
pub struct Exec<'a> {
    /// A file with a `process` document; else the options below change the container's own.
    pub process: Option<&'a Path>,
    /// Command and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// User and groups.
    pub user: Option<User>,
    /// With a pseudo-terminal.
    pub tty: bool,
    /// Do not wait for its end.
    pub detach: bool,
    /// Receives its number.
    pub pid_file: Option<&'a Path>,
    /// Receives the pseudo-terminal's master.
    pub console_socket: Option<&'a Path>,
    /// How many descriptors from 3 on the command gets.
    pub preserve_fds: u32,
}

/// Becomes the process that joins the container; its exit status is the caller's. Returns only on failure.
pub fn exec(root: &Path, id: &str, options: &Exec<'_>) -> Result<Infallible, Error> {
    let record = Record::load(root, id)?;
    record.expect(id, &[Status::Running, Status::Created], "entered")?;
    let init =
        Child::of(record.pid()).map_err(|source| Error::System { step: "open the container", source })?;
    let bundle = Bundle::load_with_hooks(&record.bundle)?;
    let process = match options.process {
        Some(path) => document(path)?,
        None => {
            let changed = ExecOptions {
                container_dir: &record.bundle,
                args: options.args.clone(),
                env: options.env.clone(),
                cwd: options.cwd.clone(),
                user: options.user.clone(),
                capabilities: None,
                tty: options.tty,
                stdin: true,
            };
            exec::process(&bundle.spec.process, &changed)?
        }
    };
    let invalid =
        |reason: &str| Error::Invalid { property: "console-socket".to_owned(), reason: reason.to_owned() };
    if options.console_socket.is_some() && !process.terminal {
        return Err(invalid("a console socket needs a terminal"));
    }
    if process.terminal && options.detach && options.console_socket.is_none() {
        return Err(invalid("a terminal in the background needs a console socket"));
    }
    let console = options.console_socket.map(connect_console).transpose()?;
    let preserved = preserved(options.preserve_fds)?;
    let pid_file = options.pid_file.map(|path| {
        std::fs::File::create(path).map_err(|source| Error::Write { path: path.to_owned(), source })
    });
    let ways = Ways { pid_file: pid_file.transpose()?.map(Into::into), console, preserved };
    exec::become_joined(init, &bundle, process, record.group.as_ref(), options.detach, ways)
}

fn document(path: &Path) -> Result<Process, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let process: Process =
        serde_json::from_slice(&text).map_err(|source| Error::Parse { path: path.to_owned(), source })?;
    process.check()?;
    Ok(process)
}
