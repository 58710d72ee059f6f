//! A bad line to a registry: a TCP proxy that breaks, stalls or dies in the middle of what it carries.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// What the line does to answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Carries everything.
    Fine,
    /// Cuts every connection after so many bytes.
    Cuts(u64),
    /// Stops carrying after so many bytes in all; connections stay open.
    Stalls(u64),
    /// After so many bytes in all every connection is cut, and so is every new one.
    Dies(u64),
}

/// A running proxy; it ends with this value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    mood: Mutex<Mood>,
    carried: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy on loopback to `upstream` (`127.0.0.1:5000`).
    pub fn start(upstream: &str, mood: Mood) -> Result<Self> {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), upstream, mood)
    }

    /// The same on another address of this machine.
    pub fn start_on(address: IpAddr, upstream: &str, mood: Mood) -> Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            mood: Mutex::new(mood),
            carried: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if of_thread.ended.load(Ordering::SeqCst) {
                    return;
                }
                // a connection that fails is what the client has to live with
                let _ = client.map_err(anyhow::Error::from).and_then(|client| connect(&of_thread, client));
            }
        });
        Ok(Self { address, shared })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Bytes of answers carried so far.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// Behaves differently from now on; what stalls goes on when the line is fine again.
    pub fn set_mood(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // wakes the listening thread
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(shared: &Arc<Shared>, mut client: TcpStream) -> Result<()> {
    if shared.room(0) == Some(0) {
        return Ok(());
    }
    let mut server = TcpStream::connect(&shared.upstream)?;
    let (mut requests, mut forward) = (client.try_clone()?, server.try_clone()?);
    let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.extend([client.try_clone()?, server.try_clone()?]);
    drop(open);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut requests, &mut forward);
        let _ = forward.shutdown(Shutdown::Write);
    });
    let shared = shared.clone();
    std::thread::spawn(move || {
        let _ = answer(&shared, &mut server, &mut client);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// Carries answers of one connection until either end or the mood ends it.
fn answer(shared: &Shared, server: &mut TcpStream, client: &mut TcpStream) -> std::io::Result<()> {
    let (mut buffer, mut carried) = ([0; 16 << 10], 0);
    loop {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            if shared.ended.load(Ordering::SeqCst) {
                return Ok(());
            }
            let room = shared.room(carried).map_or(rest.len(), |room| rest.len().min(room as usize));
            if room == 0 {
                match *shared.mood.lock().unwrap_or_else(PoisonError::into_inner) {
                    Mood::Cuts(_) | Mood::Dies(_) => return Ok(()),
                    Mood::Stalls(_) | Mood::Fine => {}
                }
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            client.write_all(&rest[..room])?;
            carried += room as u64;
            shared.carried.fetch_add(room as u64, Ordering::SeqCst);
            rest = &rest[room..];
        }
    }
}

impl Shared {
    /// How many bytes may pass now on a connection that carried `own`; `None` is any number.
    fn room(&self, own: u64) -> Option<u64> {
        match *self.mood.lock().unwrap_or_else(PoisonError::into_inner) {
            Mood::Fine => None,
            Mood::Cuts(limit) => Some(limit.saturating_sub(own)),
            Mood::Stalls(limit) | Mood::Dies(limit) => {
                Some(limit.saturating_sub(self.carried.load(Ordering::SeqCst)))
            }
        }
    }
}
