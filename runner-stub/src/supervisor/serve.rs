//! The socket: who may ask, what was asked, and the events that go back.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use dpack_sandbox::role::launcher;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::lifecycle::note;
use super::pidfd;
use super::reporter::Reporter;
use super::state::Supervisor;
use crate::failure::{Context as _, Failure};
use crate::files;
use crate::json;
use crate::protocol::{self, Envelope, Event, Request};

/// How often to look whether the socket is still there and somebody still needs us.
const LOOK: Duration = Duration::from_secs(60);

/// How long a client may take to make the kernel's way out.
const PATIENCE: Duration = Duration::from_secs(10);

/// For answers that are on their way when we leave.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Listens on the project's socket. The lock is held: whoever listened there before is gone.
pub(crate) fn listen(supervisor: &Supervisor) -> Result<UnixListener> {
    let socket = supervisor.project.socket();
    supervisor.project.make_runtime(nix::unistd::geteuid().as_raw())?;
    files::remove(&socket)?;
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("failed to listen on `{}`", socket.display()))
        .environment()?;
    supervisor.project.tell_runtime().context("failed to tell where the supervisor listens").environment()?;
    Ok(listener)
}

/// Serves until nobody needs a supervisor, or until it can start nothing any more: then the next command starts another.
pub(crate) async fn serve(
    supervisor: Rc<Supervisor>,
    mut listener: UnixListener,
    launcher: OwnedFd,
) -> Result<()> {
    let launcher = pidfd::status(launcher);
    tokio::pin!(launcher);
    loop {
        let quieter = supervisor.quieter.notified();
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("failed to accept a connection")?;
                supervisor.connections.update(|count| count + 1);
                let supervisor = Rc::clone(&supervisor);
                tokio::task::spawn_local(async move {
                    converse(&supervisor, stream).await;
                    supervisor.connections.update(|count| count - 1);
                    supervisor.quieter.notify_one();
                });
                continue;
            }
            () = quieter => {}
            _ = &mut launcher => {
                supervisor.leaving.set(true);
                // What is being done fails where it needs the launcher, and its client asks our successor.
                drop(supervisor.operation.lock().await);
                tokio::time::sleep(LAST_WORDS).await;
                return Err(Failure::environment("the launcher was killed").into());
            }
            () = tokio::time::sleep(LOOK) => {
                // A runtime folder may go while we watch over containers, and may come again.
                if !supervisor.project.socket().exists() {
                    match listen(&supervisor) {
                        Ok(new) => listener = new,
                        Err(error) => note(&error),
                    }
                }
            }
        }
        if supervisor.leaving.get() {
            return Ok(());
        }
        if supervisor.is_idle() {
            supervisor.end_network().await;
            // Somebody may have connected while the network process ended; that client tries again.
            return Ok(());
        }
    }
}

/// One connection: a request, its events, and then silence until the client goes.
async fn converse(supervisor: &Rc<Supervisor>, stream: UnixStream) {
    let ours = nix::unistd::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == ours) {
        return;
    }
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read);
    let Some(envelope) = receive(&mut reader).await else { return };
    let (events, mut outbox) = mpsc::unbounded_channel();
    let answered = Arc::new(Notify::new());
    let makes_uplink = envelope.as_ref().is_ok_and(|envelope| envelope.uplink);
    let asked = {
        let (supervisor, answered) = (Rc::clone(supervisor), Arc::clone(&answered));
        tokio::task::spawn_local(async move {
            let reporter = Reporter::new(events, makes_uplink.then_some(answered));
            let last = answer(&supervisor, envelope, &reporter).await;
            let superseded = last == Event::Superseded;
            reporter.send(last);
            superseded
        })
    };
    while let Some(event) = outbox.recv().await {
        let Ok(line) = protocol::encode(&event) else { continue };
        if write.write_all(&line).await.is_err() {
            break;
        }
        if event == Event::Uplink {
            // A client that has gone has answered, too.
            let _ = timeout(PATIENCE, reader.read_u8()).await;
            answered.notify_one();
        }
    }
    // A client that has gone is waited for by nobody.
    answered.notify_one();
    if asked.await.unwrap_or(false) {
        supervisor.leaving.set(true);
        supervisor.quieter.notify_one();
        return;
    }
    // `run` stays connected as long as its container runs, which keeps us here.
    let mut rest = [0; 64];
    while reader.read(&mut rest).await.is_ok_and(|count| count > 0) {}
}

async fn receive(
    reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
) -> Option<Result<Envelope, Failure>> {
    let mut line = Vec::new();
    reader.take(protocol::LONGEST as u64).read_until(b'\n', &mut line).await.ok()?;
    if line.is_empty() {
        return None;
    }
    Some(json::decode(&line).map_err(|error| Failure::usage(format!("the request makes no sense: {error}"))))
}

/// Carries a request out; the last event.
async fn answer(
    supervisor: &Rc<Supervisor>,
    envelope: Result<Envelope, Failure>,
    reporter: &Reporter,
) -> Event {
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(failure) => return Event::Failed(failure),
    };
    if envelope.version != protocol::VERSION || envelope.build != supervisor.executable.build() {
        // What is being done is done first; what comes after waits for our successor.
        let _operation = supervisor.operation.lock().await;
        return Event::Superseded;
    }
    let request: Request = match json::decode(envelope.request.get().as_bytes()) {
        Ok(request) => request,
        Err(error) => return Event::Failed(Failure::usage(format!("the request makes no sense: {error}"))),
    };
    match supervisor.carry_out_request(request, reporter).await {
        Ok(done) => Event::Done(done),
        Err(_) if launcher::has_ended() => Event::Superseded,
        Err(error) => Event::Failed(Failure::of(&error)),
    }
}
