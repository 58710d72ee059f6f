//! Images of `build:`: made by docker buildx, buildah or podman, whichever is there, one platform after the other, and read
//! back from the archive that the tool writes.
//!
//! The tool runs with the environment of `dpack`, uses its own cache and speaks for itself: what it writes is passed on as it
//! comes. Images that it keeps besides are its own business.

mod command;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dpack_compose::project::{Build, FileSource, Project};
use dpack_payload::platform::Platform;
use tempfile::TempDir;

use self::command::{Input, Secret};
use crate::cancel::{Cancel, Cancelled};
use crate::error::Kind;
use crate::pull::LocalSource;
use crate::reporter::{Event, Reporter};

/// Lines of a tool that an error repeats.
const TAIL: usize = 20;

/// A program that makes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `docker buildx build`
    Docker,
    /// `buildah build`
    Buildah,
    /// `podman build`
    Podman,
}

impl Tool {
    /// In the order in which they are looked for.
    pub const ALL: [Tool; 3] = [Tool::Docker, Tool::Buildah, Tool::Podman];

    /// Name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Tool::Docker => "docker",
            Tool::Buildah => "buildah",
            Tool::Podman => "podman",
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tool::Docker => "docker buildx",
            Tool::Buildah => "buildah",
            Tool::Podman => "podman",
        })
    }
}

/// What building images takes of the machine.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The tool to use; the first one that is installed when absent.
    pub tool: Option<Tool>,
    /// Where programs are looked for, as in `PATH`.
    pub search_path: Option<OsString>,
    /// User's home folder, for `~`.
    pub home: Option<PathBuf>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No program to build with.
    #[error("{place}: there is no program to build it with: {wanted} not found")]
    NoTool {
        /// Where `build` stands.
        place: String,
        /// What was looked for.
        wanted: String,
    },
    /// A key that the tool has no way to be told.
    #[error("{place}: {reason}")]
    Unsupported {
        /// Where it stands.
        place: String,
        /// Why.
        reason: String,
    },
    /// A secret without a value.
    #[error("{place}: the secret `{secret}` is from the variable `{variable}`, which is not set")]
    Secret {
        /// Where `build` stands.
        place: String,
        /// Key of the secret.
        secret: String,
        /// The variable.
        variable: String,
    },
    /// The tool does not start.
    #[error("failed to run `{}`", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file for the tool, or of it.
    #[error("failed to {what} `{}`", .path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The tool says no.
    #[error("{place}: {tool} failed for {platform} ({status}):\n{tail}")]
    Failed {
        /// Where `build` stands.
        place: String,
        /// Which tool.
        tool: Tool,
        /// For which platform.
        platform: Box<Platform>,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines it wrote.
        tail: String,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoTool { .. } | Error::Run { .. } | Error::Io { .. } => Kind::Environment,
            Error::Unsupported { .. } | Error::Secret { .. } | Error::Failed { .. } => Kind::Input,
            Error::Cancelled(_) => Kind::Interrupted,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoTool { .. } => Some(
                "install docker buildx, buildah or podman, or bring the image along with: --from NAME=oci-archive:FILE"
                    .to_owned(),
            ),
            Error::Unsupported { .. } => Some("another tool is chosen with: --builder NAME".to_owned()),
            Error::Failed { tail, platform, .. } if tail.to_lowercase().contains("exec format error") => {
                let architecture = platform.architecture();
                Some(format!("this machine cannot run programs for {architecture}: install qemu-user-static and binfmt-support"))
            }
            Error::Failed { tail, .. } if tail.contains("OCI exporter is not supported") => {
                Some("make a builder that can write archives: docker buildx create --use".to_owned())
            }
            _ => None,
        }
    }
}

/// A tool that was found.
pub(crate) struct ImageTool<'a> {
    tool: Tool,
    program: PathBuf,
    options: &'a Options,
    project_dir: &'a Path,
    reporter: &'a dyn Reporter,
    cancel: &'a Cancel,
}

/// An image in an archive; the archive goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Built {
    /// The archive.
    pub(crate) source: LocalSource,
    _folder: TempDir,
}

impl<'a> ImageTool<'a> {
    /// Finds the tool; `place` is where the first `build` stands.
    pub(crate) fn find(
        options: &'a Options,
        project_dir: &'a Path,
        reporter: &'a dyn Reporter,
        cancel: &'a Cancel,
        place: &str,
    ) -> Result<Self, Error> {
        let wanted = options.tool.as_ref().map_or(&Tool::ALL[..], std::slice::from_ref);
        let path = options.search_path.as_deref().unwrap_or_default();
        let found = wanted.iter().find_map(|tool| Some((*tool, installed(*tool, path)?)));
        let Some((tool, program)) = found else {
            let names: Vec<String> = wanted.iter().map(Tool::to_string).collect();
            return Err(Error::NoTool { place: place.to_owned(), wanted: names.join(", ") });
        };
        Ok(Self { tool, program, options, project_dir, reporter, cancel })
    }

    /// Makes one image for one platform; `place` is where its `build` stands.
    pub(crate) fn build(
        &self,
        project: &Project,
        build: &Build,
        place: &str,
        platform: &Platform,
        scratch: &Path,
    ) -> Result<Built, Error> {
        let folder = tempfile::tempdir_in(scratch).map_err(io_error("create a folder in", scratch))?;
        let inline = folder.path().join("Dockerfile");
        if let Some(text) = &build.dockerfile_inline {
            write(&inline, text)?;
        }
        let mut variables = BTreeMap::new();
        let secrets = self.secrets(project, build, place, folder.path(), &mut variables)?;
        let input = Input {
            build,
            platform,
            project_dir: self.project_dir,
            home: self.options.home.as_deref(),
            scratch: folder.path(),
            inline: build.dockerfile_inline.as_ref().map(|_| inline.as_path()),
            secrets: &secrets,
        };
        let arguments = command::build(self.tool, &input).map_err(|error| Error::Unsupported {
            place: format!("{place}.{}", error.key),
            reason: error.reason,
        })?;
        let (tool, from) = (self.tool.to_string(), place.to_owned());
        self.reporter.report(Event::BuildStarted { tool, place: from, platform: platform.clone() });
        self.run(&arguments, &variables, place, platform)?;
        if self.tool != Tool::Docker {
            let path = folder.path().join(command::IMAGE_ID);
            let id = fs::read_to_string(&path).map_err(io_error("read", &path))?;
            if let Some(arguments) = command::export(self.tool, id.trim(), folder.path()) {
                self.run(&arguments, &BTreeMap::new(), place, platform)?;
            }
        }
        Ok(Built { source: command::archive(self.tool, folder.path()), _folder: folder })
    }

    /// Where the tool finds each secret.
    fn secrets(
        &self,
        project: &Project,
        build: &Build,
        place: &str,
        folder: &Path,
        variables: &mut BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, Secret>, Error> {
        let mut secrets = BTreeMap::new();
        for (id, key) in &build.secrets {
            // That it is there was checked with the model.
            let Some(object) = project.secrets.get(key) else { continue };
            let secret = match &object.source {
                FileSource::File(path) => {
                    Secret::File(on_this_machine(path, self.project_dir, self.options.home.as_deref()))
                }
                FileSource::Environment { variable, value } => {
                    let value = value.clone().ok_or_else(|| Error::Secret {
                        place: place.to_owned(),
                        secret: key.clone(),
                        variable: variable.clone(),
                    })?;
                    variables.insert(variable.clone(), value);
                    Secret::Variable(variable.clone())
                }
                FileSource::Content(text) => {
                    let path = folder.join(format!("secret{}", secrets.len()));
                    write(&path, text)?;
                    Secret::File(path)
                }
            };
            secrets.insert(id.clone(), secret);
        }
        Ok(secrets)
    }

    /// Runs the tool; its two streams come as one, as on a terminal.
    fn run(
        &self,
        arguments: &[OsString],
        variables: &BTreeMap<String, String>,
        place: &str,
        platform: &Platform,
    ) -> Result<(), Error> {
        let run_error = |source| Error::Run { program: self.program.clone(), source };
        let (reader, writer) = io::pipe().map_err(run_error)?;
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(variables).current_dir(self.project_dir).stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(run_error)?).stderr(writer);
        let mut child = command.spawn().map_err(run_error)?;
        // Our ends of the pipe are in it; the reader ends when the tool's are closed.
        drop(command);
        let mut tail = VecDeque::new();
        let status = std::thread::scope(|scope| {
            let lines = scope.spawn(|| {
                for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if tail.len() == TAIL {
                        tail.pop_front();
                    }
                    tail.push_back(line.clone());
                    self.reporter.report(Event::Output(line));
                }
            });
            let status = loop {
                if let Some(status) = child.try_wait().map_err(run_error)? {
                    break status;
                }
                if self.cancel.check().is_err() {
                    child.kill().map_err(run_error)?;
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            // A tool may leave processes behind that hold the pipe; they end soon or are nobody we wait for.
            let _ = lines.join();
            Ok::<_, Error>(status)
        })?;
        self.cancel.check()?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Failed {
            place: place.to_owned(),
            tool: self.tool,
            platform: Box::new(platform.clone()),
            status,
            tail: Vec::from(tail).join("\n"),
        })
    }
}

/// The program of a tool that can be used.
fn installed(tool: Tool, search_path: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let mut candidates = std::env::split_paths(search_path).filter(|folder| folder.is_absolute());
    let program = candidates.find_map(|folder| Some(folder.join(tool.program())).filter(executable))?;
    if tool == Tool::Docker {
        // The client is often there without this plugin.
        let mut plugin = Command::new(&program);
        plugin.args(["buildx", "version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        plugin.status().ok().filter(std::process::ExitStatus::success)?;
    }
    Some(program)
}

/// A path of a Compose file on this machine.
fn on_this_machine(path: &str, project_dir: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~').map(|rest| rest.trim_start_matches('/')), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => match path.strip_prefix("./").unwrap_or(path) {
            "." | "" => project_dir.to_owned(),
            path => project_dir.join(path),
        },
    }
}

/// A file that only the user reads.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io_error("write", path))
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}
