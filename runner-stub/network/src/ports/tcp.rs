//! One listening TCP socket: accepts, dials the container, relays.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::clients::{Clients, dial};
use super::relay::{abort, relay};
use super::{Counted, Service, Target, Workers};
use crate::topology::namespace;

/// Pause when a connection cannot be accepted: descriptors or memory are used up, others have to end first.
const PAUSE: Duration = Duration::from_millis(50);
/// When a silent peer is asked whether it is still there. A container that was killed cannot say good-bye.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(15);

/// Serves a listening socket. To be called within the runtime.
pub(super) fn start(socket: OwnedFd, service: Service, workers: Workers) -> io::Result<AbortHandle> {
    let listener = TcpListener::from_std(StdListener::from(socket))?;
    Ok(tokio::spawn(serve(listener, service, workers)).abort_handle())
}

async fn serve(listener: TcpListener, service: Service, workers: Workers) {
    let Service { port, mut target, count, clients } = service;
    let is_ipv4 = listener.local_addr().is_ok_and(|address| address.is_ipv4());
    while target.wait_for(Option::is_some).await.is_ok() {
        let Some(destination) = target.borrow_and_update().clone() else { continue };
        let inside = SocketAddr::from((destination.address(is_ipv4), port));
        // Ends all connections when dropped: at another run of the container, or when the port is closed.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // In this order: a connection made after a change belongs to the new run.
                biased;
                changed = target.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                (client, peer, socket) = next(&listener, &destination, inside) => {
                    let by_name = destination.address_by_name(peer.ip(), &clients);
                    let way = match by_name {
                        Some(address) => Way::InItsName { peer, server: SocketAddr::from((address, port)) },
                        None => Way::Inside { socket, server: inside },
                    };
                    let (counted, workers, clients) = (count.one(), workers.clone(), clients.clone());
                    connections.spawn(async move { serve_client(client, way, counted, &workers, &clients).await });
                    while connections.try_join_next().is_some() {}
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// How a container is dialled for a client.
enum Way {
    Inside { socket: TcpSocket, server: SocketAddr },
    InItsName { peer: SocketAddr, server: SocketAddr },
}

/// The next client, and a socket to dial the container with. The socket comes first: a client that cannot be served,
/// because descriptors or memory are used up, stays in the backlog and waits.
async fn next(
    listener: &TcpListener,
    target: &Target,
    server: SocketAddr,
) -> (TcpStream, SocketAddr, TcpSocket) {
    let new = || if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let attempt = async || -> io::Result<(TcpStream, SocketAddr, TcpSocket)> {
        let socket = namespace::visit(target.namespace.as_fd(), new)?;
        let (client, peer) = listener.accept().await?;
        Ok((client, peer, socket))
    };
    loop {
        match attempt().await {
            Ok(accepted) => return accepted,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn serve_client(client: TcpStream, way: Way, counted: Counted, workers: &Workers, clients: &Clients) {
    let is_inside = matches!(way, Way::Inside { .. });
    // A service whose backlog is full answers when it has room; how long that may take is the kernel's to say
    // (`tcp_syn_retries`), as between two programs.
    let dialled = match way {
        Way::Inside { socket, server } => socket.connect(server).await,
        Way::InItsName { peer, server } => dial(peer, server).await,
    };
    let Ok(server) = dialled else { return abort(&client) };
    let name = server.local_addr();
    let ended = workers.converse(client, server).await;
    drop(counted);
    if let (Err(aborted), Ok(name), false) = (ended, name, is_inside) {
        clients.take_leave(aborted, name).await;
    }
}

/// Two connections of which one has failed. Both ends are told by a reset, as the two programs would tell each other, when
/// this is dropped.
#[derive(Debug)]
pub(crate) struct Aborted {
    _client: TcpStream,
    _server: TcpStream,
}

/// Passes everything on until both have closed.
pub(super) async fn converse(client: TcpStream, server: TcpStream) -> Result<(), Aborted> {
    if prepare(&client).and(prepare(&server)).is_ok() && relay(&client, &server).await.is_ok() {
        return Ok(());
    }
    abort(&client);
    abort(&server);
    Err(Aborted { _client: client, _server: server })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Bytes go on when they come; the programs at the two ends decide on delays.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_PAUSE)?;
    Ok(())
}
