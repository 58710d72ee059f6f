//! Typed messages between our own processes, over a socket pair that keeps their boundaries.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::role::{Errand, Order};
use crate::{Error, Failure};

/// What is said while a container is created and started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The container waits in front of its command. With the pseudo-terminal's master, if it has one.
    Created {
        /// PID 1 as the sender's PID namespace has it; 0 where the receiver knows better.
        init_pid: i32,
    },
    /// The namespaces are there, and hooks outside may look at them. For `oci create` only.
    Namespaces {
        /// As in `Created`.
        init_pid: i32,
    },
    /// The hooks are done.
    Continue {
        /// PID 1 as it is known outside; it cannot find out itself.
        init_pid: i32,
    },
    /// Go on.
    Start,
    /// The command is being executed.
    Started,
    /// To the keeper of IDs: the container's root directory.
    Root,
    /// To the keeper of IDs: where the questions come.
    Listener,
    /// To the launcher: a role, and its descriptors.
    Launch(Order),
    /// From it: the process, which is the receiver's child, and the socket on which that tells how it went.
    Launched {
        /// Its number.
        pid: i32,
    },
    /// To the launcher: something else than a role.
    Errand(Errand),
    /// From it: the errand is done, with the descriptor that was asked for, or the kernel refused.
    Done {
        /// 0 when it is done.
        errno: i32,
    },
    /// It did not work out.
    Failed(Failure),
}

/// Longest message: an error with paths in it.
const LONGEST: usize = 32 * 1024;
/// Most descriptors of one message: those of a role that is launched.
const MOST_DESCRIPTORS: usize = 8;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn pair() -> Result<(Channel, Channel), Error> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| Error::System { step: "make a socket pair", source: e.into() })?;
        Ok((Channel(one), Channel(other)))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Channel(fd)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn send(&self, message: &Message, descriptor: Option<&OwnedFd>) -> Result<(), Error> {
        let descriptor = descriptor.map(AsFd::as_fd);
        self.send_with(message, descriptor.as_slice())
    }

    /// With at most [`MOST_DESCRIPTORS`].
    pub(crate) fn send_with(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let failed = |source: std::io::Error| Error::System { step: "send a message", source };
        let text = serde_json::to_vec(message).map_err(|e| failed(e.into()))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)
            .map_err(|e| failed(e.into()))?;
        Ok(())
    }

    /// The next message; none when the other end is closed.
    pub(crate) fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>, Error> {
        let received = self.receive_with()?;
        Ok(received.map(|(message, descriptors)| (message, descriptors.into_iter().next())))
    }

    /// The next message with all of its descriptors; none when the other end is closed.
    pub(crate) fn receive_with(&self) -> Result<Option<(Message, Vec<OwnedFd>)>, Error> {
        let failed = |source: std::io::Error| Error::System { step: "receive a message", source };
        let mut text = vec![0_u8; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut slices = [IoSliceMut::new(&mut text)];
            rustix::net::recvmsg(&self.0, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let received = match received {
            Ok(received) => received,
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(e) => return Err(failed(e.into())),
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(failed(std::io::ErrorKind::InvalidData.into()));
        }
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        let message = serde_json::from_slice(&text[..received.bytes]).map_err(|e| failed(e.into()))?;
        Ok(Some((message, descriptors)))
    }

    /// Whether the other end is closed.
    pub(crate) fn is_closed(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// The next message, which must be there; a failure of the other side is this side's error.
    pub(crate) fn expect(&self, process: &'static str) -> Result<(Message, Option<OwnedFd>), Error> {
        match self.receive()? {
            None => Err(Error::Vanished { process }),
            Some((Message::Failed(failure), _)) => Err(Error::Remote(failure)),
            Some(received) => Ok(received),
        }
    }
}
