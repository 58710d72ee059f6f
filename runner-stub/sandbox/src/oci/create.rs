//! `create`: everything up to the command, in the bundle's own user namespace where it asks for one.
//!
//! The process that was called stays outside: it runs the hooks that belong there and keeps the state. The role `dpack-oci`
//! goes in, forks PID 1 and ends as soon as the state is written.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hooks::Stage;
use super::state::{self, Record, Reserved, Status};
use super::{connect_console, send_console, write_pid_file};
use crate::cgroup::{Group, Place};
use crate::channel::{Channel, Message};
use crate::container::{self, Creation, Detached, Home};
use crate::idmap::{Full, IdMap, Range};
use crate::process::Streams;
use crate::record::{ProcessId, boot_id};
use crate::role::{Spawn, take_fd};
use crate::spec::{Bundle, IdMapping, NamespaceKind};
use crate::{Error, Failure, exec, sys};

/// `argv[0]` of the process that goes into the user namespace.
pub const ROLE: &str = "dpack-oci";
/// As many as anybody passes on; each takes a place in a table of fixed size.
const MOST_PRESERVED: u32 = 32;

/// What `create` is told.
#[derive(Debug, Clone)]
pub struct Create<'a> {
    /// Folder of all states.
    pub root: &'a Path,
    /// The container's ID.
    pub id: &'a str,
    /// Folder with config.json.
    pub bundle: &'a Path,
    /// Receives PID 1's number.
    pub pid_file: Option<&'a Path>,
    /// Receives the pseudo-terminal's master.
    pub console_socket: Option<&'a Path>,
    /// How many descriptors from 3 on the command gets.
    pub preserve_fds: u32,
}

/// What the role is told.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    id: String,
    bundle: PathBuf,
    home: Home,
    preserved: u32,
    console: bool,
}

/// The role's descriptors, above those that are passed on.
struct Numbers {
    channel: i32,
    request: i32,
    listener: i32,
    console: i32,
}

impl Numbers {
    fn above(preserved: u32) -> Self {
        let first = 3 + preserved.cast_signed();
        Numbers { channel: first, request: first + 1, listener: first + 2, console: first + 3 }
    }
}

/// Descriptors 3 and up that the caller wants passed on. All of them have to be open.
pub(super) fn preserved(count: u32) -> Result<Vec<OwnedFd>, Error> {
    let invalid = |reason: String| Error::Invalid { property: "preserve-fds".to_owned(), reason };
    if count > MOST_PRESERVED {
        return Err(invalid(format!("at most {MOST_PRESERVED} can be passed on")));
    }
    (3..3 + count.cast_signed())
        .map(|number| {
            sys::inherited(number).ok_or_else(|| invalid(format!("descriptor {number} is not open")))
        })
        .collect()
}

/// Creates a container whose PID 1 waits in front of the command.
pub fn create(options: &Create<'_>) -> Result<(), Error> {
    let preserved = preserved(options.preserve_fds)?;
    let bundle = Bundle::load_with_hooks(options.bundle)?;
    let console = match (bundle.spec.process.terminal, options.console_socket) {
        (true, Some(path)) => Some(connect_console(path)?),
        (false, None) => None,
        (true, None) => return Err(console_needed("a terminal needs a console socket")),
        (false, Some(_)) => return Err(console_needed("a console socket needs `process.terminal`")),
    };
    let reserved = Reserved::take(options.root, options.id)?;
    let listener = reserved.listen()?;
    let limited = bundle.spec.linux.resources.as_ref().is_some_and(|resources| !resources.is_empty());
    let home = match bundle.spec.linux.cgroups_path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => Place::at(path, options.id, limited).map(|(place, name)| Home { place, name })?,
        None => Home { place: Place::prepare(options.id, limited), name: options.id.to_owned() },
    };
    let request = Request {
        id: options.id.to_owned(),
        bundle: bundle.dir.clone(),
        home,
        preserved: options.preserve_fds,
        console: console.is_some(),
    };
    let init = spawn(&request, &bundle, &preserved, console.as_ref(), &listener, |channel| {
        attend(channel, options, &bundle, &request)
    })?;
    let record = Record {
        id: options.id.to_owned(),
        oci_version: bundle.spec.oci_version.clone(),
        bundle: bundle.dir.clone(),
        annotations: bundle.spec.annotations.clone(),
        init: init.id,
        boot_id: boot_id(),
        hooks: bundle.spec.hooks.clone(),
        group: Group::made_in(&request.home.place, &request.home.name, init.pid),
        dir: reserved.dir.clone(),
    };
    reserved.commit(&record)?;
    if let Some(path) = options.pid_file {
        write_pid_file(path, record.init.pid)?;
    }
    // Only now may the role end: until here, its end is that of PID 1.
    let outcome =
        init.channel.send(&Message::Start, None).and_then(|()| init.channel.expect("the role").map(drop));
    let _ = init.role.wait();
    outcome
}

fn console_needed(reason: &str) -> Error {
    Error::Invalid { property: "console-socket".to_owned(), reason: reason.to_owned() }
}

struct Waiting {
    id: ProcessId,
    pid: i32,
    channel: Channel,
    role: crate::role::Child,
}

/// Starts the role and attends to it until PID 1 waits.
fn spawn(
    request: &Request,
    bundle: &Bundle,
    preserved: &[OwnedFd],
    console: Option<&OwnedFd>,
    listener: &OwnedFd,
    attend: impl FnOnce(&Channel) -> Result<i32, Error>,
) -> Result<Waiting, Error> {
    let failed = |source| Error::System { step: "pass the bundle on", source };
    let text = serde_json::to_vec(request).map_err(|e| failed(e.into()))?;
    let told = exec::memory_file(&text).map_err(failed)?;
    let (channel, theirs) = Channel::pair()?;
    let numbers = Numbers::above(request.preserved);
    let map = id_map(bundle)?;
    let mut spawn = Spawn::new(ROLE).arg(request.preserved.to_string());
    for (number, fd) in (3..).zip(preserved) {
        spawn = spawn.fd(number, fd.as_fd());
    }
    spawn = spawn
        .fd(numbers.channel, theirs.fd())
        .fd(numbers.request, told.as_fd())
        .fd(numbers.listener, listener.as_fd());
    if let Some(console) = console {
        spawn = spawn.fd(numbers.console, console.as_fd());
    }
    let namespace = bundle.spec.namespace(NamespaceKind::User);
    let theirs_to_join;
    spawn = match (namespace.map(|namespace| &namespace.path), &map) {
        (Some(Some(path)), _) => {
            let failed = |source| Error::JoinNamespace { path: path.clone(), source };
            theirs_to_join = File::open(path).map_err(failed)?;
            spawn.join_open_user_namespace(theirs_to_join.as_fd())
        }
        (Some(None), Some(map)) => spawn.new_user_namespace(map),
        _ => spawn,
    };
    let role = spawn.spawn()?;
    drop(theirs);
    let attended = attend(&channel).and_then(|pid| {
        let id = ProcessId::of(pid).ok_or(Error::Vanished { process: "the container's first process" })?;
        Ok((pid, id))
    });
    match attended {
        Ok((pid, id)) => Ok(Waiting { id, pid, channel, role }),
        Err(error) => {
            drop(channel);
            let _ = role.wait();
            Err(error)
        }
    }
}

/// Runs the hooks that belong outside, until PID 1 waits: its number.
fn attend(channel: &Channel, options: &Create<'_>, bundle: &Bundle, request: &Request) -> Result<i32, Error> {
    loop {
        match channel.expect("the container's first process")?.0 {
            Message::Namespaces { init_pid } => {
                let state = creating(&bundle.spec, options.id, &request.bundle, init_pid);
                bundle.spec.hooks.run(Stage::CreateRuntime, &state)?;
                channel.send(&Message::Continue { init_pid }, None)?;
            }
            Message::Created { init_pid } => return Ok(init_pid),
            _ => return Err(Error::Vanished { process: "the container's first process" }),
        }
    }
}

fn creating(spec: &crate::spec::Spec, id: &str, bundle: &Path, pid: i32) -> serde_json::Value {
    let mut state = state::describe(&spec.oci_version, id, Status::Creating, bundle, &spec.annotations);
    state["pid"] = pid.into();
    state
}

/// The map of a new user namespace, from `uidMappings` and `gidMappings`.
fn id_map(bundle: &Bundle) -> Result<Option<IdMap>, Error> {
    let linux = &bundle.spec.linux;
    if bundle.spec.namespace(NamespaceKind::User).is_none_or(|namespace| namespace.path.is_some()) {
        return Ok(None);
    }
    let invalid = |property: &str, reason: &str| {
        Err(Error::Invalid { property: format!("linux.{property}"), reason: reason.to_owned() })
    };
    if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
        return invalid("uidMappings", "a new user namespace needs mappings of user and group IDs");
    }
    let ranges = |mappings: &[IdMapping]| -> Vec<Range> {
        let range = |m: &IdMapping| Range { inside: m.container_id, outside: m.host_id, count: m.size };
        mappings.iter().map(range).collect()
    };
    let (uids, gids) = (ranges(&linux.uid_mappings), ranges(&linux.gid_mappings));
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid != 0 {
        let own = |ranges: &[Range], id| *ranges == [Range { inside: 0, outside: id, count: 1 }];
        if own(&uids, uid) && own(&gids, gid) {
            return Ok(Some(IdMap::Single { reason: "the bundle maps one ID".to_owned() }));
        }
        let helpers = crate::idmap::helpers().map_err(|reason| Error::Invalid {
            property: "linux.uidMappings".to_owned(),
            reason: format!("more than the own ID takes newuidmap: {reason}"),
        })?;
        return Ok(Some(IdMap::Full(Full { uids, gids, helpers: Some(helpers) })));
    }
    Ok(Some(IdMap::Full(Full { uids, gids, helpers: None })))
}

/// Role entry.
pub fn main() -> ! {
    let preserved = std::env::args().nth(1).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let numbers = Numbers::above(preserved);
    let (channel, request) = (take_fd(numbers.channel), take_fd(numbers.request));
    let (listener, console) = (take_fd(numbers.listener), take_fd(numbers.console));
    let status = match (channel, request, listener) {
        (Some(channel), Some(request), Some(listener)) => {
            let channel = Channel::from_fd(channel);
            match run(request, listener, console, &channel) {
                Ok(()) => 0,
                Err(error) => {
                    let _ = channel.send(&Message::Failed(Failure::from(&error)), None);
                    125
                }
            }
        }
        _ => 125,
    };
    sys::exit_now(status)
}

fn run(
    request: OwnedFd,
    listener: OwnedFd,
    console: Option<OwnedFd>,
    outside: &Channel,
) -> Result<(), Error> {
    let _ = rustix::thread::set_name(c"dpack-oci");
    let undumpable = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(undumpable)
        .map_err(crate::process::confine("hide from tracing"))?;
    let failed = |source: std::io::Error| Error::System { step: "read the request", source };
    let mut text = Vec::new();
    File::from(request).read_to_end(&mut text).map_err(failed)?;
    let request: Request = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    let bundle = Bundle::load_with_hooks(&request.bundle)?;
    let at_namespaces = |init_pid: i32| -> Result<(), Error> {
        outside.send(&Message::Namespaces { init_pid }, None)?;
        outside.expect("`create`").map(drop)
    };
    let state = |init_pid: i32| creating(&bundle.spec, &request.id, &bundle.dir, init_pid);
    let detached = Detached {
        listener: listener.as_fd(),
        preserved: request.preserved,
        at_namespaces: &at_namespaces,
        state: &state,
    };
    let mut waiting = container::create(Creation {
        bundle: &bundle,
        streams: Streams::default(),
        home: Some(&request.home),
        detached: Some(&detached),
    })?;
    if let (Some(master), Some(console)) = (waiting.terminal.take(), &console) {
        send_console(console, &master)?;
    }
    outside.send(&Message::Created { init_pid: waiting.init.pid }, None)?;
    match outside.receive()? {
        Some((Message::Start, _)) => {
            waiting.release()?;
            outside.send(&Message::Started, None)
        }
        // Nobody knows of this container.
        _ => Err(Error::Vanished { process: "`create`" }),
    }
}
