//! UDP and echo requests on their way out: for each pair of ends a socket of the device, so that answers find their way
//! back.
//!
//! Echo requests leave by an unprivileged ICMP socket, which the kernel gives only to groups in
//! `net.ipv4.ping_group_range`; where ours is not among them, nothing answers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::packet::{self, Datagram, Unreachable};
use super::raw::Receiver;
use super::{Counted, Shared, policy};
use crate::ports;

/// How long a flow lasts without a datagram in either direction.
const SILENCE: Duration = Duration::from_secs(90);
/// The same for one question and its answer: names, time, echo.
const SHORT_SILENCE: Duration = Duration::from_secs(15);
/// Ports of DNS and NTP.
const SHORT: [u16; 2] = [53, 123];
/// Flows of one kind at a time; datagrams of further ones are dropped.
const FLOWS: usize = 4096;
/// Datagrams of a flow that wait for its socket.
const WAITING: usize = 16;
const BURST: usize = 64;
const DATAGRAM: usize = 65_536;
const PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    /// Holds a datagram between two system calls, never across an await.
    static BUFFER: Rc<RefCell<Vec<u8>>> = Rc::new(RefCell::new(vec![0; DATAGRAM]));
}

/// What is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Udp,
    Echo,
}

type Ends = (SocketAddr, SocketAddr);

/// A flow: its socket once there is one, and until then what waits for it.
enum Flow {
    Opening(Vec<Vec<u8>>),
    Open(Arc<Open>),
}

struct Open {
    /// The runtime's type stands for an echo socket, too.
    socket: UdpSocket,
    /// When a datagram last came from the container.
    heard: watch::Sender<Instant>,
    _counted: Counted,
}

pub(super) async fn serve(kind: Kind, receiver: Receiver, shared: Arc<Shared>) {
    let mut flows: HashMap<Ends, Flow> = HashMap::new();
    let mut opening = JoinSet::new();
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = answers.join_next() => {
                if let Ok(ends) = ended {
                    flows.remove(&ends);
                }
            }
            Some(opened) = opening.join_next() => {
                // A task that panicked leaves its flow behind; there is none.
                let Ok((ends, opened)) = opened else { continue };
                match opened {
                    Ok(open) => {
                        let open = Arc::new(open);
                        let before = flows.insert(ends, Flow::Open(Arc::clone(&open)));
                        if let Some(Flow::Opening(waiting)) = before {
                            waiting.iter().for_each(|body| open.send(kind, ends, body, &shared));
                        }
                        answers.spawn(answer(kind, ends, open, Arc::clone(&shared)));
                    }
                    Err(error) => {
                        flows.remove(&ends);
                        refuse(kind, ends, reason(kind, &error), &shared);
                    }
                }
            }
            readable = receiver.readable() => if readable.is_err() {
                sleep(PAUSE).await;
            },
        }
        let open = |ends: Ends| {
            let shared = Arc::clone(&shared);
            opening.spawn(async move { (ends, Open::connect(kind, ends, &shared).await) });
        };
        take_in(kind, &receiver, &shared, &mut flows, open);
        tokio::task::yield_now().await;
    }
}

/// Passes on what has come from containers. What cannot be passed on is lost, as on any network.
fn take_in(
    kind: Kind,
    receiver: &Receiver,
    shared: &Shared,
    flows: &mut HashMap<Ends, Flow>,
    mut open: impl FnMut(Ends),
) {
    let buffer = BUFFER.with(Rc::clone);
    let mut buffer = buffer.borrow_mut();
    for _ in 0..BURST {
        let Ok(packet) = receiver.try_receive(&mut buffer) else { break };
        let Some(Datagram { source, destination, body }) = packet.and_then(|packet| match kind {
            Kind::Udp => packet.udp(),
            Kind::Echo => packet.echo(),
        }) else {
            continue;
        };
        let ends = (source, destination);
        if kind == Kind::Udp && shared.sessions.have(ends) {
            continue;
        }
        let is_full = flows.len() >= FLOWS;
        match flows.get_mut(&ends) {
            Some(Flow::Open(open)) => open.send(kind, ends, body, shared),
            Some(Flow::Opening(waiting)) if waiting.len() < WAITING => waiting.push(body.to_vec()),
            Some(Flow::Opening(_)) => {}
            None if is_full || shared.is_own(destination.ip()) => {}
            None => {
                flows.insert(ends, Flow::Opening(vec![body.to_vec()]));
                open(ends);
            }
        }
    }
}

impl Open {
    async fn connect(kind: Kind, (_, destination): Ends, shared: &Arc<Shared>) -> io::Result<Open> {
        let address = policy::route(destination, shared).await?;
        let socket = shared.host.socket(match kind {
            Kind::Udp => ports::Kind::datagram(address),
            Kind::Echo => ports::Kind::echo(address),
        });
        let socket = socket.await?;
        rustix::net::connect(&socket, &address)?;
        let heard = watch::channel(Instant::now()).0;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Open { socket, heard, _counted: shared.count() })
    }

    /// Passes a datagram on. The kernel tells of an earlier one's fate whoever asks first, and does nothing else then.
    fn send(&self, kind: Kind, ends: Ends, body: &[u8], shared: &Shared) {
        self.heard.send_replace(Instant::now());
        match self.try_send(kind, ends, body) {
            Ok(_) | Err(Errno::WOULDBLOCK) => {}
            Err(error) => {
                self.refuse(kind, ends, &error.into(), shared);
                let _ = self.try_send(kind, ends, body);
            }
        }
    }

    fn try_send(&self, kind: Kind, (_, destination): Ends, body: &[u8]) -> rustix::io::Result<usize> {
        match kind {
            Kind::Udp => rustix::net::send(&self.socket, body, SendFlags::DONTWAIT),
            // The kernel fills in identifier and checksum.
            Kind::Echo => {
                let head = [packet::echo_request(destination.ip()), 0, 0, 0, 0, 0];
                rustix::net::send(&self.socket, &[&head, body].concat(), SendFlags::DONTWAIT)
            }
        }
    }

    /// Tells the container that a datagram did not arrive.
    fn refuse(&self, kind: Kind, ends: Ends, error: &io::Error, shared: &Shared) {
        let reason = match Errno::from_io_error(error) {
            Some(Errno::MSGSIZE) => self.path_mtu(ends.1).map(Unreachable::TooBig),
            _ => reason(kind, error),
        };
        refuse(kind, ends, reason, shared);
    }

    /// What the kernel knows of the path by now, in bytes.
    fn path_mtu(&self, destination: SocketAddr) -> Option<u16> {
        let mtu = match destination {
            SocketAddr::V4(_) => sockopt::ip_mtu(&self.socket),
            SocketAddr::V6(_) => sockopt::ipv6_mtu(&self.socket),
        };
        u16::try_from(mtu.ok()?).ok()
    }
}

/// Passes answers on to the container, until both have been silent. Tells the ends of the flow that has ended.
async fn answer(kind: Kind, ends: Ends, open: Arc<Open>, shared: Arc<Shared>) -> Ends {
    let is_short = kind == Kind::Echo || SHORT.contains(&ends.1.port());
    let silence = if is_short { SHORT_SILENCE } else { SILENCE };
    let mut answered = Instant::now();
    loop {
        let last = answered.max(*open.heard.borrow());
        // Which of both it was matters: `try_io` knows no two interests at a time.
        let ready = open.socket.ready(Interest::READABLE | Interest::ERROR);
        let interest = match timeout_at(last + silence, ready).await {
            Err(_) if *open.heard.borrow() <= last => return ends,
            Err(_) => continue,
            Ok(Err(_)) => {
                sleep(PAUSE).await;
                continue;
            }
            Ok(Ok(ready)) if ready.is_error() => Interest::ERROR,
            Ok(Ok(_)) => Interest::READABLE,
        };
        let buffer = BUFFER.with(Rc::clone);
        let mut buffer = buffer.borrow_mut();
        for _ in 0..BURST {
            let received = open.socket.try_io(interest, || {
                Ok(rustix::net::recv(&open.socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?)
            });
            match received {
                Ok((length, _)) => {
                    answered = Instant::now();
                    if let Some(packet) = reply(kind, ends, buffer.get(..length).unwrap_or_default()) {
                        shared.answers.send(&packet, ends.0.ip());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => open.refuse(kind, ends, &error, &shared),
            }
        }
    }
}

fn reply(kind: Kind, (source, destination): Ends, data: &[u8]) -> Option<Vec<u8>> {
    match kind {
        Kind::Udp => packet::udp(destination, source, data),
        // Type, code, checksum and identifier are those of the device's socket.
        Kind::Echo => packet::echo_reply(destination.ip(), source, data.get(6..)?),
    }
}

/// Why a datagram did not arrive, as far as a container can be told.
fn reason(kind: Kind, error: &io::Error) -> Option<Unreachable> {
    match Errno::from_io_error(error)? {
        Errno::CONNREFUSED => Some(Unreachable::Port),
        Errno::NETUNREACH | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => Some(Unreachable::Network),
        Errno::HOSTUNREACH => Some(Unreachable::Host),
        Errno::PERM if kind == Kind::Udp => Some(Unreachable::Prohibited),
        _ => None,
    }
}

fn refuse(kind: Kind, (source, destination): Ends, reason: Option<Unreachable>, shared: &Shared) {
    let answer = reason.and_then(|reason| match kind {
        Kind::Udp => packet::udp_refused(reason, source, destination),
        Kind::Echo => packet::echo_refused(reason, source, destination.ip()),
    });
    if let Some(answer) = answer {
        shared.answers.send(&answer, source.ip());
    }
}
