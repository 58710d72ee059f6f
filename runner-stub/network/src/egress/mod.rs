//! The way out: what containers send to addresses outside of the project.
//!
//! ```text
//!   container ── veth ── bridge ── N: every address is local ── kernel's TCP ═ splice ═ socket of the device ── internet
//!                                        │ raw sockets: SYN, UDP, echo requests
//!                                        └──────────────> this module: dials, then lets the SYN in
//! ```
//!
//! There is no TAP device and no second TCP stack. Routing rules make every outside address local to the project's
//! namespace N for what comes by a bridge that has a way out, so the kernel itself is the other end of a container's
//! connection: segmentation, retransmission, windows, timestamps and path MTU are its own, and packets of 64 KiB cross
//! the veth whatever its MTU is. Raw sockets show what has no socket yet:
//!
//! - **TCP** (`tcp`): for a SYN the destination is dialled from the device's namespace *first*. Only when it answers a
//!   listener opens for that one address and port, and the SYN is sent again, through `lo`. So a refused
//!   connection is refused, an unreachable one unreachable, and a client that tries IPv6 first falls back as it should.
//! - **UDP and ping** (`datagram`): a socket of the device for each pair of addresses; answers are written by a raw socket.
//!
//! The kernel's own answers to what has no socket (a reset, "port unreachable", an echo reply) come from foreign
//! addresses and carry no mark: they meet a blackhole in N. Sockets made here carry `MARK`.
//!
//! N never forwards. What a bridge may send where is decided by rules (`crate::topology`), and what may be dialled by
//! `policy`.

mod datagram;
pub mod packet;
mod policy;
mod raw;
mod tcp;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::task::AbortHandle;

use crate::ports::{Host, Sessions, Workers};
use crate::topology::namespace;

pub use policy::HOST_GATEWAY;
pub(crate) use policy::is_allowed;
pub(crate) use raw::{INJECTED, MARK, foreign, listener};
pub(crate) use tcp::FAREWELL;

/// What all parts of the way out share.
#[derive(Debug)]
pub(super) struct Shared {
    host: Host,
    workers: Workers,
    /// Addresses of N itself: what is sent there is not for us.
    own: RwLock<BTreeSet<IpAddr>>,
    /// What containers answer to these is not for us either.
    sessions: Sessions,
    answers: raw::Sender,
    injected: raw::Sender,
    flows: AtomicU64,
}

impl Shared {
    fn is_own(&self, address: IpAddr) -> bool {
        self.own.read().unwrap_or_else(PoisonError::into_inner).contains(&address)
    }

    fn count(self: &Arc<Self>) -> Counted {
        self.flows.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

/// Counts a connection or flow while it lives.
#[derive(Debug)]
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.flows.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way out of all networks of the project that have one; closed when dropped.
#[derive(Debug)]
pub(crate) struct Egress {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Egress {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Egress {
    /// Opens it. To be called within the runtime, on a thread in the project's namespace.
    pub(crate) fn start(host: Host, workers: Workers, sessions: Sessions) -> io::Result<Egress> {
        let shared = Arc::new(Shared {
            host,
            workers,
            own: RwLock::default(),
            sessions,
            answers: raw::Sender::open(MARK)?,
            injected: raw::Sender::open(INJECTED)?,
            flows: AtomicU64::new(0),
        });
        let mut egress = Egress { shared, tasks: Vec::new() };
        egress.serve(raw::Family::V4)?;
        if namespace::has_ipv6() {
            egress.serve(raw::Family::V6)?;
        }
        Ok(egress)
    }

    fn serve(&mut self, family: raw::Family) -> io::Result<()> {
        let synchronise = raw::Receiver::open(raw::Kind::Synchronise, family)?;
        let udp = raw::Receiver::open(raw::Kind::Udp, family)?;
        let echo = raw::Receiver::open(raw::Kind::Echo, family)?;
        let shared = || Arc::clone(&self.shared);
        let tasks = [
            tokio::spawn(tcp::serve(synchronise, shared())).abort_handle(),
            tokio::spawn(datagram::serve(datagram::Kind::Udp, udp, shared())).abort_handle(),
            tokio::spawn(datagram::serve(datagram::Kind::Echo, echo, shared())).abort_handle(),
        ];
        self.tasks.extend(tasks);
        Ok(())
    }

    /// Tells which addresses are those of bridges.
    pub(crate) fn set_own(&self, addresses: BTreeSet<IpAddr>) {
        *self.shared.own.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Connections and flows at this moment.
    pub(crate) fn flows(&self) -> u64 {
        self.shared.flows.load(Ordering::Relaxed)
    }
}
