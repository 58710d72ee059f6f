//! One message on the control socket: length, JSON, and at most one descriptor beside the length.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::MESSAGE_LIMIT;

const LENGTH_SIZE: usize = size_of::<u32>();

/// Sends a message, and a descriptor with it.
pub(crate) fn send<T: Serialize>(
    stream: &UnixStream,
    message: &T,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length =
        u32::try_from(body.len()).ok().filter(|_| body.len() <= MESSAGE_LIMIT).ok_or_else(too_long)?;
    let length = length.to_le_bytes();

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(stream, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    let mut writer = stream;
    // The descriptor went with the first byte; whatever is left of the length is plain data.
    writer.write_all(length.get(sent..).unwrap_or_default())?;
    writer.write_all(&body)
}

/// Receives a message. `UnexpectedEof` when the other side has closed the connection.
pub(crate) fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<(T, Option<OwnedFd>)> {
    let mut length = [0; LENGTH_SIZE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(stream, &mut [IoSliceMut::new(&mut length)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last().or(descriptor);
        }
    }
    let mut reader = stream;
    reader.read_exact(length.get_mut(received.bytes..).unwrap_or_default())?;

    let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= MESSAGE_LIMIT);
    let mut body = vec![0; length.ok_or_else(too_long)?];
    reader.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, descriptor))
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "message is too long")
}
