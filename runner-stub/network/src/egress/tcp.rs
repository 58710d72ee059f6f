//! TCP on its way out: for each first segment the destination is dialled, then the connection is let in and spliced.
//!
//! ```text
//!   SYN seen ── dial ─┬─ answered ── door opens ── SYN injected ── accepted ── splice
//!                     ├─ refused ── reset          (the listener of one address and port)
//!                     ├─ no route ── "unreachable"
//!                     └─ silence ── nothing: the container's kernel asks again, and gives up in its own time
//! ```
//!
//! A door takes no SYN but those that are injected (a filter on the listener), so whatever else a container sends to the
//! same address meanwhile is dialled on its own. It closes when nobody is waited for.
//!
//! A connection that was reset leaves its door open for a moment. A client that had lost segments before takes no reset but
//! one that its own last segment asks for (RFC 5961, 3.2), and of the namespace only a socket may send that: what the
//! kernel answers without one carries no mark.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::packet::{self, Synchronise, Unreachable};
use super::raw::{self, Receiver};
use super::{Shared, policy};
use crate::ports::{Kind, abort};

/// Connections that are being dialled at a time; a SYN beyond that is lost, and comes again.
const DIALLING: usize = 1024;
/// Segments looked at before other tasks have their turn.
const BURST: usize = 64;
const SEGMENT: usize = 65_536;
const PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take to answer a SYN+ACK of its own machine.
const HANDSHAKE: Duration = Duration::from_secs(5);
const BACKLOG: i32 = 1024;
/// How long a client that was reset may ask whether that is so.
pub(crate) const FAREWELL: Duration = Duration::from_secs(2);
/// Doors at a time; beyond that none is kept open for those who were reset.
const DOORS: usize = 1024;

type Ends = (SocketAddr, SocketAddr);

/// Connections between their first segment and the moment they are spliced.
#[derive(Debug, Default)]
struct Hall {
    dialling: HashSet<Ends>,
    doors: HashMap<SocketAddr, Door>,
}

#[derive(Debug)]
struct Door {
    awaited: HashMap<SocketAddr, oneshot::Sender<TcpStream>>,
    /// Connections that were reset a moment ago.
    farewells: usize,
    accepting: AbortHandle,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type SharedHall = Arc<Mutex<Hall>>;

pub(super) async fn serve(receiver: Receiver, shared: Arc<Shared>) {
    let hall = SharedHall::default();
    let mut buffer = vec![0; SEGMENT];
    // Ends all connections when dropped.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            readable = receiver.readable() => if readable.is_err() {
                sleep(PAUSE).await;
            },
            Some(_) = connections.join_next() => {}
        }
        for _ in 0..BURST {
            let Ok(packet) = receiver.try_receive(&mut buffer) else { break };
            let Some(packet) = packet else { continue };
            let Some(syn) = packet.synchronise() else { continue };
            let ends = (syn.source, syn.destination);
            if shared.is_own(syn.destination.ip()) || !enter(&hall, ends) {
                continue;
            }
            let (hall, shared, segment) = (Arc::clone(&hall), Arc::clone(&shared), packet.with_checksum());
            connections.spawn(async move { serve_client(&segment, syn, &hall, &shared).await });
        }
        tokio::task::yield_now().await;
    }
}

/// False for a SYN that came again, ours among them, and when there are too many.
fn enter(hall: &SharedHall, ends: Ends) -> bool {
    let mut hall = lock(hall);
    hall.dialling.len() < DIALLING && hall.dialling.insert(ends)
}

async fn serve_client(segment: &[u8], syn: Synchronise, hall: &SharedHall, shared: &Arc<Shared>) {
    let counted = shared.count();
    let ends = (syn.source, syn.destination);
    let met = meet(segment, &syn, hall, shared).await;
    lock(hall).dialling.remove(&ends);
    let Some((client, server)) = met else { return };
    let ended = shared.workers.converse(client, server).await;
    drop(counted);
    if let Err(aborted) = ended
        && keep_open(hall, syn.destination).is_ok()
    {
        drop(aborted);
        sleep(FAREWELL).await;
        close(hall, syn.destination, |door| door.farewells -= 1);
    }
}

/// Both ends of the connection, when both are there.
async fn meet(
    segment: &[u8],
    syn: &Synchronise,
    hall: &SharedHall,
    shared: &Shared,
) -> Option<(TcpStream, TcpStream)> {
    let server = match dial(syn.destination, shared).await {
        Ok(server) => server,
        Err(error) => {
            if let Some(answer) = refusal(&error, syn, segment) {
                shared.answers.send(&answer, syn.source.ip());
            }
            return None;
        }
    };
    let client = admit(hall, syn).and_then(|awaited| {
        shared.injected.inject(segment, syn.destination.ip())?;
        Ok(awaited)
    });
    let client = match client {
        Ok(awaited) => timeout(HANDSHAKE, awaited).await.ok().and_then(Result::ok),
        Err(_) => None,
    };
    close(hall, syn.destination, |door| drop(door.awaited.remove(&syn.source)));
    if client.is_none() {
        abort(&server);
    }
    Some((client?, server))
}

async fn dial(destination: SocketAddr, shared: &Shared) -> io::Result<TcpStream> {
    let address = policy::route(destination, shared).await?;
    let socket = shared.host.socket(Kind::stream(address)).await?;
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// What a client is told of a connection that did not come about; nothing when it is to try again.
fn refusal(error: &io::Error, syn: &Synchronise, segment: &[u8]) -> Option<Vec<u8>> {
    let reason = match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::CONNRESET) => return Some(packet::reset(syn)),
        Some(Errno::NETUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => Unreachable::Network,
        Some(Errno::HOSTUNREACH) => Unreachable::Host,
        Some(Errno::ACCESS | Errno::PERM) => Unreachable::Prohibited,
        _ => return None,
    };
    packet::refused(reason, syn.source.ip(), syn.destination.ip(), segment)
}

/// Opens the door that a client's SYN asks for, if it is not open, and waits there for the client.
fn admit(hall: &SharedHall, syn: &Synchronise) -> io::Result<oneshot::Receiver<TcpStream>> {
    let (sender, receiver) = oneshot::channel();
    open(&mut lock(hall), syn.destination, hall)?.awaited.insert(syn.source, sender);
    Ok(receiver)
}

/// Keeps a door open for a client that was reset.
fn keep_open(hall: &SharedHall, address: SocketAddr) -> io::Result<()> {
    let mut locked = lock(hall);
    if locked.doors.len() >= DOORS {
        return Err(Errno::MFILE.into());
    }
    open(&mut locked, address, hall)?.farewells += 1;
    Ok(())
}

fn open<'a>(locked: &'a mut Hall, address: SocketAddr, hall: &SharedHall) -> io::Result<&'a mut Door> {
    match locked.doors.entry(address) {
        Entry::Occupied(door) => Ok(door.into_mut()),
        Entry::Vacant(place) => {
            let listener = TcpListener::from_std(StdListener::from(raw::listener(address, BACKLOG)?))?;
            let accepting = tokio::spawn(accept(listener, address, Arc::clone(hall))).abort_handle();
            Ok(place.insert(Door { awaited: HashMap::new(), farewells: 0, accepting }))
        }
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, hall: SharedHall) {
    loop {
        match listener.accept().await {
            Ok((client, peer)) => {
                // What it does for a listener it need not do for a connection.
                let _ = socket2::SockRef::from(&client).detach_filter();
                let mut hall = lock(&hall);
                let awaited = hall.doors.get_mut(&address).and_then(|door| door.awaited.remove(&peer));
                // Nobody waits any more: the client took too long.
                if let Some(Err(client)) = awaited.map(|awaited| awaited.send(client)) {
                    abort(&client);
                }
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Takes somebody off the list of a door, and closes it behind the last one.
fn close(hall: &SharedHall, address: SocketAddr, take_off: impl FnOnce(&mut Door)) {
    let mut hall = lock(hall);
    if let Some(door) = hall.doors.get_mut(&address) {
        take_off(door);
        if door.awaited.is_empty() && door.farewells == 0 {
            hall.doors.remove(&address);
        }
    }
}

fn lock(hall: &SharedHall) -> MutexGuard<'_, Hall> {
    hall.lock().unwrap_or_else(PoisonError::into_inner)
}
