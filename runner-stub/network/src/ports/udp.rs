//! One UDP socket on the device: for each peer a session with a socket of its own towards the container, so that answers
//! find their way back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout_at};

use super::clients::{self, open_session};
use super::{Counted, Service, Target};
use crate::topology::namespace;

/// How long a session lasts without a datagram in either direction; what Docker's proxy has.
const SILENCE: Duration = Duration::from_secs(90);
/// Sessions of one port at a time; datagrams of further peers are dropped.
const SESSIONS: usize = 4096;
/// Datagrams moved before other tasks have their turn.
const BURST: usize = 64;
/// Longest datagram.
const DATAGRAM: usize = 65_535;
const PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    /// Holds a datagram between two system calls, never across an await.
    static BUFFER: Rc<RefCell<Vec<u8>>> = Rc::new(RefCell::new(vec![0; DATAGRAM]));
}

struct Session {
    socket: UdpSocket,
    /// When a datagram last came from the peer.
    heard: watch::Sender<Instant>,
    _in_its_name: Option<clients::Session>,
    _counted: Counted,
}

/// Serves a bound socket. To be called within the runtime.
pub(super) fn start(socket: OwnedFd, service: Service) -> io::Result<AbortHandle> {
    let socket = UdpSocket::from_std(StdSocket::from(socket))?;
    Ok(tokio::spawn(serve(Arc::new(socket), service)).abort_handle())
}

async fn serve(socket: Arc<UdpSocket>, mut service: Service) {
    let is_ipv4 = socket.local_addr().is_ok_and(|address| address.is_ipv4());
    while service.target.wait_for(Option::is_some).await.is_ok() {
        let Some(destination) = service.target.borrow_and_update().clone() else { continue };
        let mut sessions: HashMap<SocketAddr, Arc<Session>> = HashMap::new();
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                changed = service.target.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(ended) = answers.join_next() => {
                    if let Ok(peer) = ended {
                        sessions.remove(&peer);
                    }
                }
                readable = socket.readable() => if readable.is_err() {
                    sleep(PAUSE).await;
                },
            }
            let accept = |peer| {
                let session = Arc::new(Session::open(&destination, is_ipv4, peer, &service)?);
                answers.spawn(answer(Arc::clone(&session), Arc::clone(&socket), peer));
                Ok(session)
            };
            take_in(&socket, &mut sessions, accept);
            tokio::task::yield_now().await;
        }
        // The next run's sessions want the same names.
        drop(sessions);
        answers.shutdown().await;
    }
}

/// Passes on what has come from peers. What cannot be passed on is lost, as on any network.
fn take_in(
    socket: &UdpSocket,
    sessions: &mut HashMap<SocketAddr, Arc<Session>>,
    mut accept: impl FnMut(SocketAddr) -> io::Result<Arc<Session>>,
) {
    let buffer = BUFFER.with(Rc::clone);
    let mut buffer = buffer.borrow_mut();
    for _ in 0..BURST {
        match socket.try_recv_from(&mut buffer) {
            Ok((length, peer)) => {
                if !sessions.contains_key(&peer)
                    && sessions.len() < SESSIONS
                    && let Ok(session) = accept(peer)
                {
                    sessions.insert(peer, session);
                }
                if let Some(session) = sessions.get(&peer) {
                    session.heard.send_replace(Instant::now());
                    // Not by the runtime, which does not know yet that a new socket is writable.
                    let datagram = buffer.get(..length).unwrap_or_default();
                    let _ = rustix::net::send(&session.socket, datagram, SendFlags::DONTWAIT);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // An ICMP error of an earlier answer.
            Err(_) => {}
        }
    }
}

impl Session {
    fn open(target: &Target, is_ipv4: bool, peer: SocketAddr, service: &Service) -> io::Result<Session> {
        let at = |address| SocketAddr::from((address, service.port));
        let (socket, in_its_name) = match target.address_by_name(peer.ip(), &service.clients) {
            Some(address) => {
                let (socket, session) = open_session(peer, at(address), service.clients.sessions())?;
                (socket, Some(session))
            }
            None => (open_inside(target, at(target.address(is_ipv4)))?, None),
        };
        socket.set_nonblocking(true)?;
        let heard = watch::channel(Instant::now()).0;
        let (socket, counted) = (UdpSocket::from_std(socket)?, service.count.one());
        Ok(Session { socket, heard, _in_its_name: in_its_name, _counted: counted })
    }
}

fn open_inside(target: &Target, server: SocketAddr) -> io::Result<StdSocket> {
    let bind = || match server {
        SocketAddr::V4(_) => StdSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => StdSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = namespace::visit(target.namespace.as_fd(), bind)?;
    socket.connect(server)?;
    Ok(socket)
}

/// Passes a container's answers on to one peer, until both have been silent. Tells the peer whose session has ended.
async fn answer(session: Arc<Session>, socket: Arc<UdpSocket>, peer: SocketAddr) -> SocketAddr {
    let mut answered = Instant::now();
    loop {
        let last = answered.max(*session.heard.borrow());
        match timeout_at(last + SILENCE, session.socket.readable()).await {
            Err(_) if *session.heard.borrow() <= last => return peer,
            Err(_) => continue,
            Ok(Err(_)) => sleep(PAUSE).await,
            Ok(Ok(())) => {}
        }
        let buffer = BUFFER.with(Rc::clone);
        let mut buffer = buffer.borrow_mut();
        for _ in 0..BURST {
            match session.socket.try_recv(&mut buffer) {
                Ok(length) => {
                    answered = Instant::now();
                    let _ = socket.try_send_to(buffer.get(..length).unwrap_or_default(), peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Nobody listens in the container yet.
                Err(_) => {}
            }
        }
    }
}
