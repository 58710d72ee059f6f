//! One listening TCP socket: accepts, dials the container, relays.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::relay::{abort, relay};
use super::{Count, Target};
use crate::topology::namespace;

/// Pause when a connection cannot be accepted: descriptors or memory are used up, others have to end first.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the container's kernel may take to answer; more than three of its attempts.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// When a silent peer is asked whether it is still there. A container that was killed cannot say good-bye.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_PAUSE: Duration = Duration::from_secs(15);

/// Serves a listening socket. To be called within the runtime.
pub(super) fn start(
    socket: OwnedFd,
    port: u16,
    target: watch::Receiver<Option<Target>>,
    count: Count,
) -> io::Result<AbortHandle> {
    let listener = TcpListener::from_std(StdListener::from(socket))?;
    Ok(tokio::spawn(serve(listener, port, target, count)).abort_handle())
}

async fn serve(listener: TcpListener, port: u16, mut target: watch::Receiver<Option<Target>>, count: Count) {
    while target.wait_for(Option::is_some).await.is_ok() {
        let Some(destination) = target.borrow_and_update().clone() else { continue };
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
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) => {
                        let (counted, destination) = (count.one(), destination.clone());
                        connections.spawn(async move {
                            let _counted = counted;
                            serve_client(client, dial(destination, port)).await;
                        });
                        while connections.try_join_next().is_some() {}
                    }
                    // Left in the backlog: the client waits.
                    Err(error) if is_exhausted(&error) => sleep(PAUSE).await,
                    // The client has gone already.
                    Err(_) => {}
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Both ends are told of any error by a reset, as the two programs would tell each other.
async fn serve_client(client: TcpStream, dialled: impl Future<Output = io::Result<TcpStream>>) {
    match dialled.await {
        Ok(server) => {
            if prepare(&client).and(prepare(&server)).is_err() || relay(&client, &server).await.is_err() {
                abort(&client);
                abort(&server);
            }
        }
        Err(_) => abort(&client),
    }
}

async fn dial(target: Target, port: u16) -> io::Result<TcpStream> {
    let socket = namespace::visit(target.namespace.as_fd(), TcpSocket::new_v4)?;
    timeout(DIAL_LIMIT, socket.connect(SocketAddr::from((target.address, port)))).await?
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Bytes go on when they come; the programs at the two ends decide on delays.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE_PAUSE)?;
    Ok(())
}

fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|known| errno == Some(known.raw_os_error()))
}
