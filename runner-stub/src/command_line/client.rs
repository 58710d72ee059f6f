//! The command line's side of the supervisor's socket: finds the supervisor, or starts one.
//!
//! Two `up` at the same time: both may start a supervisor; one gets the lock, the other says so and leaves, and its
//! client connects to the first.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use dpack_sandbox::idmap::{self, IdMap};
use dpack_sandbox::record;
use dpack_sandbox::role::Spawn;

use super::settings::Settings;
use super::uplink;
use crate::container;
use crate::failure::{Context as _, Failure};
use crate::json;
use crate::protocol::{self, Done, Envelope, Event, Request};
use crate::supervisor::{self, Commission, Ready};

/// How long a supervisor may take to be ready, and one that leaves to be gone. A machine that just booted is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the supervisor and waits for the result; `show` sees every event before the last.
pub(crate) fn request(settings: &Settings, request: &Request, show: &mut dyn FnMut(&Event)) -> Result<Done> {
    connect(settings, request, show).map(|(done, _)| done)
}

/// Like [`request()`]; the connection that comes back keeps the supervisor from leaving.
pub(crate) fn connect(
    settings: &Settings,
    request: &Request,
    show: &mut dyn FnMut(&Event),
) -> Result<(Done, UnixStream)> {
    let envelope = Envelope {
        version: protocol::VERSION,
        build: settings.executable.build(),
        uplink: settings.is_root(),
        request: serde_json::value::to_raw_value(request).context("failed to encode a request")?,
    };
    let line = protocol::encode(&envelope).context("failed to encode a request")?;
    settings.project.make_runtime(settings.uid)?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(5);
    loop {
        // One that was started a moment ago by somebody else says where it is.
        let project = settings.paths.find_project(&settings.name);
        let stream = match UnixStream::connect(project.socket()) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                start(settings)?;
                expect_time(settings, deadline, pause)?;
                pause = (pause * 2).min(Duration::from_secs(1));
                continue;
            }
            Err(error) => return Err(error).context("failed to reach the supervisor"),
        };
        match converse(settings, &stream, &line, show)? {
            Answer::Done(done) => return Ok((done, stream)),
            Answer::Failed(failure) => return Err(failure.into()),
            // It was leaving when we came, or leaves to make room for our build.
            Answer::Gone => expect_time(settings, deadline, pause)?,
            Answer::Lost => {
                return Err(Failure::environment("the supervisor ended before it was done")
                    .hint(format!(
                        "its last words are in {}; containers go on",
                        settings.project.supervisor_log().display()
                    ))
                    .into());
            }
        }
    }
}

fn expect_time(settings: &Settings, deadline: Instant, pause: Duration) -> Result<()> {
    if Instant::now() >= deadline {
        return Err(Failure::environment("the supervisor does not answer")
            .hint(format!("see {}", settings.project.supervisor_log().display()))
            .into());
    }
    std::thread::sleep(pause);
    Ok(())
}

enum Answer {
    Done(Done),
    Failed(Failure),
    Gone,
    Lost,
}

fn converse(
    settings: &Settings,
    stream: &UnixStream,
    line: &[u8],
    show: &mut dyn FnMut(&Event),
) -> Result<Answer> {
    if (&mut &*stream).write_all(line).is_err() {
        return Ok(Answer::Gone);
    }
    let mut reader = BufReader::new(stream);
    let (mut answer, mut heard) = (Vec::new(), false);
    loop {
        answer.clear();
        let read = (&mut reader).take(protocol::LONGEST as u64).read_until(b'\n', &mut answer);
        if !answer.ends_with(b"\n") {
            let gone = !heard
                && read
                    .as_ref()
                    .map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |count| *count == 0);
            return Ok(if gone { Answer::Gone } else { Answer::Lost });
        }
        heard = true;
        match json::decode(&answer).context("the supervisor's answer makes no sense")? {
            Event::Done(done) => return Ok(Answer::Done(done)),
            Event::Failed(failure) => return Ok(Answer::Failed(failure)),
            Event::Superseded => return Ok(Answer::Gone),
            Event::Uplink => {
                if let Err(reason) = uplink::make(settings) {
                    show(&Event::Warning(format!("connections to the outside are relayed: {reason}")));
                }
                // A supervisor that has gone is noticed when the next answer is read.
                let _ = (&mut &*stream).write_all(b"\n");
            }
            event => show(&event),
        }
    }
}

/// The user namespace of a project: a live one, or what a new one is made of.
pub(crate) enum Namespace {
    /// One that is there, held open: the process that we found it by may end at any time.
    Join {
        /// Its `/proc/PID/ns/user`.
        namespace: OwnedFd,
        /// It has more than one ID.
        full: bool,
    },
    /// A new one.
    New(IdMap),
}

impl Namespace {
    /// Finds a live shim of the project.
    pub(crate) fn find(settings: &Settings) -> Result<Self> {
        for folder in container::folders(&settings.project)? {
            if let Ok(record::State::Running(running)) = record::state(&folder)
                && let Ok(namespace) = Self::of(running.shim.pid)
                // Otherwise it may be that of a later process with its number.
                && running.shim.is_alive()
            {
                return Ok(namespace);
            }
        }
        Ok(Self::New(IdMap::detect()))
    }

    /// That of a process.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let namespace = File::open(format!("/proc/{pid}/ns/user"))?.into();
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
        Ok(Self::Join { namespace, full: idmap::total(&map) > 1 })
    }

    /// `full` or `single`.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::New(map) => map.kind().to_owned(),
            Self::Join { full, .. } => if *full { "full" } else { "single" }.to_owned(),
        }
    }

    /// Puts a role into it.
    pub(crate) fn apply<'a>(&'a self, spawn: Spawn<'a>) -> Spawn<'a> {
        match self {
            Self::Join { namespace, .. } => spawn.join_open_user_namespace(namespace.as_fd()),
            Self::New(map) => spawn.new_user_namespace(map),
        }
    }
}

/// Starts a supervisor and waits until it can be asked, or until it turns out that another one is there.
fn start(settings: &Settings) -> Result<()> {
    settings.paths.make_data(&settings.project.folder)?;
    let namespace = Namespace::find(settings)?;
    let commission = Commission {
        paths: settings.paths.clone(),
        project: settings.name.clone(),
        id_map: namespace.kind(),
        new_namespace: matches!(namespace, Namespace::New(_)),
        driver: settings.driver,
    };
    let log = open_log(settings)?;
    let (ready, theirs) = std::io::pipe().context("failed to create a pipe")?;
    let commission = serde_json::to_string(&commission).context("failed to encode a commission")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    // What is never relabelled.
    let home = settings.home.clone().unwrap_or_default();
    let spawn = Spawn::new(supervisor::ROLE)
        .arg(commission)
        .clear_env()
        .env("PATH", path)
        .env("HOME", home)
        .fd(supervisor::READY, theirs.as_fd())
        .fd(supervisor::PAYLOAD, settings.executable.descriptor())
        .program_length(settings.executable.program_length())
        .detached(log.as_fd());
    namespace.apply(spawn).spawn().environment()?;
    drop(theirs);
    let mut text = String::new();
    BufReader::new(ready).read_line(&mut text).context("failed to hear from the supervisor")?;
    match json::decode(text.as_bytes()) {
        Ok(Ready::Listening | Ready::Another) => Ok(()),
        Ok(Ready::Failed(failure)) => Err(failure.into()),
        Err(_) => Err(Failure::environment("the supervisor ended before it was ready")
            .hint(format!("see {}", settings.project.supervisor_log().display()))
            .into()),
    }
}

/// The supervisor's log, emptied when it has grown large: it is no place where anything needs to be kept.
fn open_log(settings: &Settings) -> Result<File> {
    let path = settings.project.supervisor_log();
    let large = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 1 << 20);
    if large {
        let _ = fs::remove_file(&path);
    }
    let open = || OpenOptions::new().create(true).append(true).open(&path);
    let opened = open().or_else(|_| {
        // A supervisor that leaves removes the folder when nothing of the project is left in it.
        fs::create_dir_all(&settings.project.folder)?;
        open()
    });
    opened.with_context(|| format!("failed to open `{}`", path.display())).environment()
}
