//! Questions about names that are not the project's: passed on to the device's name servers, or to those of `dns:`.
//!
//! A question goes out as it came, from a socket of its own (so from a port that nobody can guess), and the answer comes
//! back as it is. Servers are asked one after the other, until one knows more than that it cannot help. Of the device's servers also those on its loopback are asked
//! (systemd-resolved is one), because it is the device that asks; of those in a Compose file they are not.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Rcode;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Names, Transport, answer};
use crate::egress;
use crate::ports::{Host, Kind};

const PORT: u16 = 53;
/// How long all servers together may take. Programs in containers ask again after five seconds.
const PATIENCE: Duration = Duration::from_millis(4800);
/// Questions that are passed on at a time; further ones are lost, and asked again.
const QUESTIONS: usize = 512;
/// How many of the device's servers are asked, as in resolv.conf(5).
const SERVERS: usize = 3;
const DATAGRAM: usize = 65_535;

/// Whom a container's questions about foreign names go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upstream {
    /// Nobody: the container has no way out, and foreign names do not exist.
    #[default]
    None,
    /// The device's servers.
    Device,
    /// These.
    Servers(Vec<IpAddr>),
}

/// Passes questions on.
#[derive(Debug)]
pub(crate) struct Forwarder {
    host: Host,
    resolv_conf: PathBuf,
    permits: Semaphore,
}

impl Forwarder {
    /// `resolv_conf` is the device's; it is read for each question, because it changes when the device moves.
    pub(crate) fn new(host: Host, resolv_conf: PathBuf) -> Forwarder {
        Forwarder { host, resolv_conf, permits: Semaphore::new(QUESTIONS) }
    }

    /// The answer of whoever answers first and is able to; else a failure, theirs if there is one.
    pub(super) async fn forward(
        &self,
        query: &[u8],
        asker: IpAddr,
        names: &Names,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let _permit = self.permits.try_acquire().ok()?;
        let servers = match names.upstream(asker) {
            Upstream::None => Vec::new(),
            Upstream::Device => servers_of(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default()),
            Upstream::Servers(servers) => servers,
        };
        if servers.is_empty() {
            return answer::refuse(query, Rcode::NXDOMAIN);
        }
        let patience = PATIENCE / u32::try_from(servers.len()).unwrap_or(1);
        let mut failure = None;
        for server in servers {
            let is_neighbour = names.are_near(asker, server);
            let asked = timeout(patience, self.ask(query, server, is_neighbour, transport));
            match asked.await {
                Ok(Ok(reply)) if is_failure(&reply) => failure = Some(reply),
                Ok(Ok(reply)) => return Some(reply),
                _ => {}
            }
        }
        failure.or_else(|| answer::refuse(query, Rcode::SERVFAIL))
    }

    async fn ask(
        &self,
        query: &[u8],
        server: IpAddr,
        is_neighbour: bool,
        transport: Transport,
    ) -> io::Result<Vec<u8>> {
        let address = SocketAddr::new(server, PORT);
        let is_stream = transport == Transport::Tcp;
        let socket = match (is_neighbour, is_stream) {
            (true, _) => neighbourly(address, is_stream)?.into(),
            (false, true) => self.host.socket(Kind::stream(address)).await?,
            (false, false) => self.host.socket(Kind::datagram(address)).await?,
        };
        if is_stream {
            let mut stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
            let length = u16::try_from(query.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
            let mut reply = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut reply).await?;
            return if is_answer(query, &reply) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        let socket = UdpSocket::from_std(socket.into())?;
        socket.connect(address).await?;
        socket.send(query).await?;
        let mut reply = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut reply).await?;
            let received = reply.get(..length).unwrap_or_default();
            if is_answer(query, received) {
                return Ok(received.to_vec());
            }
        }
    }
}

/// A socket in the project's namespace, for a server that is a container.
fn neighbourly(server: SocketAddr, is_stream: bool) -> io::Result<Socket> {
    let kind = if is_stream { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(server), kind.nonblocking().cloexec(), None)?;
    socket.set_mark(egress::MARK)?;
    Ok(socket)
}

/// Whether `reply` is an answer to this very question.
fn is_answer(query: &[u8], reply: &[u8]) -> bool {
    let (Ok(query), Ok(reply)) = (Message::from_octets(query), Message::from_octets(reply)) else {
        return false;
    };
    reply.header().qr()
        && reply.header().id() == query.header().id()
        && reply.sole_question().is_ok_and(|theirs| query.sole_question().is_ok_and(|ours| ours == theirs))
}

/// Whether an answer says that its server cannot help, so that another may. The C library goes on after the same ones.
fn is_failure(reply: &[u8]) -> bool {
    Message::from_octets(reply)
        .is_ok_and(|reply| [Rcode::SERVFAIL, Rcode::NOTIMP, Rcode::REFUSED].contains(&reply.header().rcode()))
}

/// The servers that a resolv.conf names, as far as they are asked.
#[must_use]
pub fn servers_of(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().filter_map(server).take(SERVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\nnameserver 127.0.0.53\nsearch x\n nameserver fd00::1\nnameserver x\n\
                    nameserver 1.1.1.1 2.2.2.2\nnameserver 8.8.8.8\n";
        let expected: Vec<IpAddr> =
            ["127.0.0.53", "fd00::1", "1.1.1.1"].iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(servers_of(text), expected);
        assert_eq!(servers_of(""), Vec::<IpAddr>::new());
    }
}
