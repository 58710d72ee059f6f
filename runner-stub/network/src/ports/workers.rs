//! Threads between which connections are spread, one for each processor that the process may use.
//!
//! The runtime's own thread is the first of them: it accepts, dials and answers DNS besides, and while there are few
//! connections it is the only one that is awake. All of them live in the project's namespace.

use std::io;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use super::tcp::{Aborted, converse};

/// More of them would wait for memory, not for processors.
const LIMIT: usize = 8;

/// Where connections are relayed. A clone is another handle to the same threads, which live as long as the process.
#[derive(Clone, Debug)]
pub(crate) struct Workers(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: AtomicUsize,
}

impl Workers {
    /// Starts the threads besides `first`, which waits on the caller's. They are in the caller's network namespace.
    pub(crate) fn start(first: Handle) -> io::Result<Workers> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(LIMIT);
        let more = (1..count).map(|_| start_thread()).collect::<io::Result<Vec<_>>>()?;
        let worker = |runtime| Worker { runtime, connections: AtomicUsize::new(0) };
        Ok(Workers(std::iter::once(first).chain(more).map(worker).collect()))
    }

    /// Passes everything on between two connections until both have closed, where the fewest connections are. To be
    /// called on the first thread; the connections end when the future is dropped.
    pub(crate) async fn converse(&self, client: TcpStream, server: TcpStream) -> Result<(), Aborted> {
        let place =
            self.0.iter().enumerate().min_by_key(|(_, worker)| worker.connections.load(Ordering::Relaxed));
        let Some((number, worker)) = place else { return Ok(()) };
        let _seat = Seat::take(&worker.connections);
        if number == 0 {
            return converse(client, server).await;
        }
        // A connection that cannot be moved is closed.
        let (Ok(client), Ok(server)) = (client.into_std(), server.into_std()) else { return Ok(()) };
        let mut moved = JoinSet::new();
        moved.spawn_on(receive(client, server), &worker.runtime);
        moved.join_next().await.and_then(Result::ok).unwrap_or(Ok(()))
    }
}

async fn receive(client: StdStream, server: StdStream) -> Result<(), Aborted> {
    match (TcpStream::from_std(client), TcpStream::from_std(server)) {
        (Ok(client), Ok(server)) => converse(client, server).await,
        _ => Ok(()),
    }
}

fn start_thread() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let wait = move || runtime.block_on(std::future::pending::<()>());
    thread::Builder::new().name("relay".into()).spawn(wait)?;
    Ok(handle)
}

/// Counts a connection while it is there.
struct Seat<'a>(&'a AtomicUsize);

impl Seat<'_> {
    fn take(count: &AtomicUsize) -> Seat<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Seat(count)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
