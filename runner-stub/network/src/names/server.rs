//! DNS sockets: for each network UDP and TCP port 53 of the bridge's address, bound to the bridge, so that the other
//! networks do not even reach them. Runs on the runtime's thread, which lives in the project's namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{Forwarder, Names, Reply, Transport, answer};

const PORT: u16 = 53;
/// Datagrams answered before other tasks have their turn.
const BURST: usize = 64;
/// Longest question taken by UDP; real ones have a few hundred bytes.
const DATAGRAM: usize = 4096;
/// TCP connections of one network at a time; more wait in the backlog.
const CONNECTIONS: usize = 64;
const BACKLOG: u32 = 128;
/// How long a TCP client may be silent.
const SILENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What the servers of one network share.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) names: Arc<Names>,
    pub(crate) forwarder: Arc<Forwarder>,
    /// Key of the network. Who asks here with an address of another one is a stranger.
    pub(crate) network: String,
}

impl Resolver {
    fn answer(&self, query: &[u8], asker: IpAddr, transport: Transport) -> Option<Reply> {
        let known = if self.names.is_on(asker, &self.network) { asker } else { Ipv4Addr::UNSPECIFIED.into() };
        answer(query, known, &self.names, transport)
    }

    async fn forward(&self, query: &[u8], asker: IpAddr, transport: Transport) -> Option<Vec<u8>> {
        self.forwarder.forward(query, asker, &self.names, transport).await
    }
}

/// The DNS server of one network; stops when dropped.
#[derive(Debug)]
pub(crate) struct NameServer(Vec<AbortHandle>);

impl Drop for NameServer {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Opens the sockets of a network and serves them. To be called within the runtime, on a thread in the project's
/// namespace.
pub(crate) fn start(resolver: &Arc<Resolver>, bridge: &str, gateways: &[IpAddr]) -> io::Result<NameServer> {
    let mut server = NameServer(Vec::new());
    for gateway in gateways {
        let address = SocketAddr::from((*gateway, PORT));

        let socket = if gateway.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind_device(Some(bridge.as_bytes()))?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;

        // The link comes first: the address may still be that of a bridge which has just gone.
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), None)?;
        socket.bind_device(Some(bridge.as_bytes()))?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;

        server.0.push(tokio::spawn(serve_udp(Arc::new(socket), Arc::clone(resolver))).abort_handle());
        server.0.push(tokio::spawn(serve_tcp(listener, Arc::clone(resolver))).abort_handle());
    }
    Ok(server)
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    // Ends all questions that were passed on when dropped.
    let mut elsewhere = JoinSet::new();
    let mut packet = vec![0; DATAGRAM];
    loop {
        if socket.readable().await.is_err() {
            sleep(PAUSE).await;
        }
        for _ in 0..BURST {
            match socket.try_recv_from(&mut packet) {
                Ok((length, asker)) => {
                    let query = packet.get(..length).unwrap_or_default();
                    match resolver.answer(query, asker.ip(), Transport::Udp) {
                        Some(Reply::Here(reply)) => {
                            // A full buffer loses the answer, as any network may; the asker asks again.
                            let _ = socket.try_send_to(&reply, asker);
                        }
                        Some(Reply::Elsewhere) => {
                            let (socket, resolver) = (Arc::clone(&socket), Arc::clone(&resolver));
                            let query = query.to_vec();
                            elsewhere.spawn(async move {
                                let reply = resolver.forward(&query, asker.ip(), Transport::Udp).await;
                                let _ = socket.try_send_to(&reply?, asker);
                                Some(())
                            });
                        }
                        None => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier answer: the asker has gone.
                Err(_) => {}
            }
        }
        while elsewhere.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let resolver = Arc::clone(&resolver);
                connections.spawn(async move {
                    let _permit = permit;
                    // A connection that breaks concerns nobody but its client.
                    let _ = converse(stream, peer.ip(), &resolver).await;
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Questions one after the other, each with its length before it (RFC 1035, 4.2.2).
async fn converse(mut stream: TcpStream, asker: IpAddr, resolver: &Resolver) -> io::Result<()> {
    let mut query = Vec::new();
    loop {
        let length = timeout(SILENCE, stream.read_u16()).await??;
        query.resize(usize::from(length), 0);
        timeout(SILENCE, stream.read_exact(&mut query)).await??;
        let reply = match resolver.answer(&query, asker, Transport::Tcp) {
            Some(Reply::Here(reply)) => Some(reply),
            Some(Reply::Elsewhere) => resolver.forward(&query, asker, Transport::Tcp).await,
            None => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
        timeout(SILENCE, stream.write_all(&framed)).await??;
    }
}
