//! Bytes from one TCP connection to another and back, by splice(2): they stay in the kernel.
//!
//! Half-closes are passed on one by one, a full receiver stops the sender, and an error on one side ends both.

use std::io;
use std::pin::pin;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipe::{CAPACITY, Pipe};

/// Pipes filled before other connections have their turn.
const BURST: usize = 8;
/// Bytes copied at a time where there is no pipe.
const COPY: usize = 64 * 1024;

/// Relays until both sides have closed.
pub(super) async fn relay(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let mut upwards = pin!(forward(client, server));
    let mut downwards = pin!(forward(server, client));
    tokio::select! {
        result = &mut upwards => {
            result?;
            unless_reset(client, downwards).await
        }
        result = &mut downwards => {
            result?;
            unless_reset(server, upwards).await
        }
    }
}

/// Makes the peer see a reset when the connection is dropped.
pub(crate) fn abort(stream: &TcpStream) {
    // The worst that follows from an error is a normal close.
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// Nobody reads from `closed` any more; that its peer has gone for good shows as an error alone.
async fn unless_reset(closed: &TcpStream, rest: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::select! {
        result = rest => result,
        _ = closed.ready(Interest::ERROR) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// One direction, until `from` closes.
async fn forward(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        let is_open = match Pipe::take() {
            Ok(pipe) => {
                let is_open = drain(from, &pipe, to).await?;
                // Empty: everything that went in has come out. After an error it is dropped with what it holds.
                pipe.give_back();
                is_open
            }
            // No descriptor is left: slower, but it goes on.
            Err(_) => copy(from, to).await?,
        };
        if !is_open {
            return shut_down(to);
        }
    }
}

/// Moves what is there to read. Tells whether more may come.
async fn drain(from: &TcpStream, pipe: &Pipe, to: &TcpStream) -> io::Result<bool> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        for _ in 0..BURST {
            let filled = from
                .try_io(Interest::READABLE, || Ok(splice(from, None, &pipe.writer, None, CAPACITY, flags)?));
            let mut held = match filled {
                Ok(0) => return Ok(false),
                Ok(held) => held,
                // The pipe is empty, so it is the socket that has nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while held > 0 {
                let moved =
                    to.try_io(Interest::WRITABLE, || Ok(splice(&pipe.reader, None, to, None, held, flags)?));
                match moved {
                    Ok(moved) => held -= moved,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// What [`drain`] does, without a pipe.
async fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    let mut buffer = vec![0; COPY];
    loop {
        let length = match from.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            match to.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(error) => return Err(error),
            }
        }
        tokio::task::yield_now().await;
    }
}

fn shut_down(stream: &TcpStream) -> io::Result<()> {
    match rustix::net::shutdown(stream, rustix::net::Shutdown::Write) {
        // Both sides closed at once.
        Err(rustix::io::Errno::NOTCONN) => Ok(()),
        result => Ok(result?),
    }
}
