//! The network process: its threads, and what each of them owns.
//!
//! ```text
//!   first thread   host's namespace   opens sockets of the device, nothing else
//!   runtime        N                  DNS; accepts and dials for published ports and the way out
//!   relay          N                  one for each further processor: between them and the runtime connections are spread
//!   control        N                  one thread for each client; changes to the project one at a time
//! ```
//!
//! A thread can go from the host's network namespace into N but never back (that takes a privilege outside the user
//! namespace); between N and the containers' it can go as it likes. A socket belongs to the namespace it was made in. So
//! the busy threads live in N and visit a container's namespace to make a socket there, and sockets of the device are
//! made for it by the first thread.

mod control;
mod project;
mod trial;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ports::{Host, Workers};
use crate::socket_path;
use crate::topology::{Neighbours, Topology, forget, namespace};
use project::Project;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use project::hold_to_rules;
pub use trial::try_out;

/// How the role `dpack-network` is started.
#[derive(Debug)]
pub struct ServeOptions {
    /// Control socket to listen on; its folder exists and belongs to the user. The folders of the user's other projects lie
    /// beside it, and the socket has the same name there.
    pub socket: PathBuf,
    /// Join this network namespace instead of making one: that of a live shim, when an earlier network process was killed.
    pub join: Option<File>,
    /// The device's resolv.conf: who is asked about names that are not the project's.
    pub resolv_conf: PathBuf,
    /// One byte is written here, and the descriptor closed, when requests are served.
    pub ready: Option<OwnedFd>,
}

/// Why the network process did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The project's network namespace could not be made, joined or prepared.
    #[error("failed to {step}")]
    Namespace {
        /// What was attempted.
        step: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The control socket could not be listened on.
    #[error("failed to listen on `{}`", path.display())]
    Listen {
        /// The control socket.
        path: PathBuf,
        /// The kernel's reason; `AddrInUse` when another network process answers there.
        source: io::Error,
    },
    /// A thread, or the descriptor to report on, is not there.
    #[error("failed to {step}")]
    Start {
        /// What was attempted.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Role main: serves until [`crate::Client::shutdown`]. Runs inside the project's user namespace, in the host's network
/// namespace, in a process that has no other thread yet.
///
/// # Errors
/// [`ServeError`] before requests are served; later failures are answers to requests.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let start = |step| move |source| ServeError::Start { step, source };
    rustix::thread::set_no_new_privs(true)
        .map_err(io::Error::from)
        .map_err(start("give up new privileges"))?;
    raise_descriptor_limit();
    let listener = socket_path::listen(&options.socket)
        .map_err(|source| ServeError::Listen { path: options.socket.clone(), source })?;

    let (host, host_thread) = Host::new();
    let (started, result) = mpsc::channel();
    let (join, socket, resolv_conf) = (options.join, options.socket, options.resolv_conf);
    let (seed, neighbours) = (seed(&socket), Neighbours::new(&socket));
    thread::Builder::new()
        .name("network".into())
        .spawn(move || run_inside(join, (seed, neighbours), host, listener, resolv_conf, &started))
        .map_err(start("start a thread"))?;
    let gone =
        || ServeError::Start { step: "start the network thread", source: io::ErrorKind::BrokenPipe.into() };
    let outcome = result.recv().unwrap_or_else(|_| Err(gone())).and_then(|()| {
        options
            .ready
            .map_or(Ok(()), |ready| File::from(ready).write_all(b"1"))
            .map_err(start("report readiness"))
    });
    if outcome.is_ok() {
        host_thread.run();
    }
    // The threads end with the process. A socket without a listener would be replaced just the same.
    remove_leftovers(&socket);
    outcome
}

/// Takes away what a network process that has gone left on disk, if anything.
pub fn remove_leftovers(socket: &Path) {
    forget(socket);
    let _ = std::fs::remove_file(socket);
}

/// The runtime's thread: enters the project's namespace and stays.
fn run_inside(
    join: Option<File>,
    identity: (String, Neighbours),
    host: Host,
    listener: UnixListener,
    resolv_conf: PathBuf,
    started: &mpsc::Sender<Result<(), ServeError>>,
) {
    let prepared = prepare(join, identity).and_then(|(namespace, topology)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| ServeError::Start { step: "start the runtime", source })?;
        let workers = Workers::start(runtime.handle().clone());
        let workers = workers.map_err(|source| ServeError::Start { step: "start a thread", source })?;
        let project = Project::new(topology, host.clone(), resolv_conf, runtime.handle().clone(), workers);
        let control = control::Control { project: Mutex::new(project), namespace, host };
        thread::Builder::new()
            .name("control".into())
            .spawn(move || control::run(listener, Arc::new(control)))
            .map_err(|source| ServeError::Start { step: "start a thread", source })?;
        Ok(runtime)
    });
    match prepared {
        Ok(runtime) => {
            // An error means that the first thread has gone, and then everything has.
            let _ = started.send(Ok(()));
            runtime.block_on(std::future::pending::<()>());
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
}

fn prepare(
    join: Option<File>,
    (seed, neighbours): (String, Neighbours),
) -> Result<(File, Topology), ServeError> {
    let step = match join {
        None => "make a network namespace",
        Some(_) => "join the project's network namespace",
    };
    let entered = namespace::current().and_then(|host| {
        namespace::enter(join.as_ref())?;
        let namespace = namespace::current()?;
        if host.metadata()?.ino() == namespace.metadata()?.ino() {
            return Err(io::Error::other("it is the host's, which is not to be changed"));
        }
        Ok(namespace)
    });
    let namespace = entered.map_err(|source| ServeError::Namespace { step: step.into(), source })?;
    let topology = Topology::load(seed, Some(neighbours))
        .map_err(|source| ServeError::Namespace { step: "prepare the network namespace".into(), source })?;
    Ok((namespace, topology))
}

/// The same for a project on a device, and hardly ever for two.
fn seed(socket: &Path) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    format!("{}\0{}", machine.trim(), socket.display())
}

/// Each connection through a published port takes two descriptors.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // As many as the system allows; the soft limit of 1,024 is for programs that use select(2).
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
