//! What packet sockets (packet(7)) need and no crate wraps safely: to be bound to an interface, to see all of its frames, and to
//! tell how many were lost.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys;

/// Lets a packet socket receive every frame that passes an interface of the namespace it was made in, those between others
/// included. It stays so until the socket is closed.
///
/// # Errors
/// The kernel's: it is no packet socket, or there is no such interface.
pub fn listen(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let interface = i32::try_from(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    sys::packet::bind(socket.as_fd(), interface)?;
    sys::packet::promiscuous(socket, interface)
}

/// Frames received and frames lost for want of room since the last call.
///
/// # Errors
/// The kernel's: it is no packet socket.
pub fn statistics(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    sys::packet::statistics(socket)
}
