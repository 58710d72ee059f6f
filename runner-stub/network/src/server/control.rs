//! The control socket: who may speak, and what becomes of each request.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::project::Project;
use crate::protocol::{Answer, Request, VERSION};
use crate::{Failure, frame, ports::Host};

/// Clients at a time: a supervisor and a few command lines.
const CLIENTS: usize = 32;
/// How long a client may take to send what it has begun or to take its answer.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// What control threads share.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) project: Mutex<Project>,
    pub(super) namespace: File,
    pub(super) host: Host,
}

/// Accepts clients for ever. Threads started here are in the project's namespace, as this one is.
pub(super) fn run(listener: UnixListener, control: Arc<Control>) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(PAUSE);
            continue;
        };
        if !is_ours(&stream) || clients.load(Ordering::Relaxed) >= CLIENTS {
            continue;
        }
        clients.fetch_add(1, Ordering::Relaxed);
        let (control, seat) = (Arc::clone(&control), Seat(Arc::clone(&clients)));
        // Without a thread the client sees its connection closed.
        let _ = thread::Builder::new().name("client".into()).spawn(move || {
            let _seat = seat;
            // A connection that breaks concerns nobody but its client.
            let _ = converse(&stream, &control);
        });
    }
}

struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The file's mode keeps others out already; this holds where the folder was tampered with.
fn is_ours(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

fn converse(stream: &UnixStream, control: &Control) -> io::Result<()> {
    // A supervisor keeps its connection and may be silent for days: only writing has a limit.
    stream.set_write_timeout(Some(PATIENCE))?;
    match frame::receive::<Request>(stream)? {
        (Request::Hello { version: VERSION }, _) => frame::send(stream, &Answer::Done, None)?,
        (Request::Hello { version }, _) => {
            let failure = Failure::Version { running: VERSION, ours: version };
            return frame::send(stream, &Answer::Failed(failure), None);
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    loop {
        let (request, descriptor) = frame::receive::<Request>(stream)?;
        let is_last = request == Request::Shutdown;
        let wants_namespace = request == Request::Namespace;
        let answer = carry_out(control, request, descriptor).unwrap_or_else(Answer::Failed);
        let namespace = wants_namespace.then(|| control.namespace.as_fd());
        frame::send(stream, &answer, namespace)?;
        if is_last {
            control.host.stop();
            return Ok(());
        }
    }
}

fn carry_out(control: &Control, request: Request, descriptor: Option<OwnedFd>) -> Result<Answer, Failure> {
    let mut project = control.project.lock().unwrap_or_else(PoisonError::into_inner);
    match request {
        Request::Configure(networks) => project.configure(&networks).map(|()| Answer::Done),
        Request::Publish { container, ports } => project.publish(&container, &ports).map(Answer::Published),
        Request::Attach(attach) => {
            let missing = || Failure::Invalid { reason: "no network namespace came with the request".into() };
            project.attach(&attach, descriptor.ok_or_else(missing)?).map(Answer::Attached)
        }
        Request::Detach { container } => project.detach(&container).map(|()| Answer::Done),
        Request::Status => Ok(Answer::Status(project.status())),
        Request::Namespace => Ok(Answer::Namespace),
        Request::Shutdown => Ok(Answer::Done),
        Request::Hello { .. } => Err(Failure::Invalid { reason: "hello was said before".into() }),
    }
}
