//! The control socket: who may speak, and what becomes of each request.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

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
        let (answer, descriptor) =
            carry_out(control, request, descriptor).unwrap_or_else(|failure| (Answer::Failed(failure), None));
        frame::send(stream, &answer, descriptor.as_ref().map(OwnedFd::as_fd))?;
        if is_last {
            control.host.stop();
            return Ok(());
        }
    }
}

/// The answer, and the descriptor that goes with it.
fn carry_out(
    control: &Control,
    request: Request,
    descriptor: Option<OwnedFd>,
) -> Result<(Answer, Option<OwnedFd>), Failure> {
    let mut project = control.project.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match request {
        Request::Configure(networks) => project.configure(&networks).map(|()| Answer::Done)?,
        Request::Publish { container, ports } => {
            project.publish(&container, &ports).map(Answer::Published)?
        }
        Request::Attach(attach) => {
            let missing = || Failure::Invalid { reason: "no network namespace came with the request".into() };
            project.attach(&attach, descriptor.ok_or_else(missing)?).map(Answer::Attached)?
        }
        Request::Detach { container } => project.detach(&container).map(|()| Answer::Done)?,
        Request::Status => Answer::Status(project.status()),
        Request::Namespace => {
            let namespace = control.namespace.try_clone().map_err(Failure::system("copy a descriptor"))?;
            return Ok((Answer::Namespace, Some(namespace.into())));
        }
        Request::Capture { network } => {
            let bridge = project.bridge(&network)?;
            // This thread is in the project's namespace. Without a protocol the socket takes nothing until it is bound.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None);
            return Ok((
                Answer::Capture(bridge),
                Some(socket.map_err(Failure::system("open a packet socket"))?),
            ));
        }
        Request::Shutdown => Answer::Done,
        Request::Hello { .. } => return Err(Failure::Invalid { reason: "hello was said before".into() }),
    };
    Ok((answer, None))
}
