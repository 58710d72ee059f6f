//! The client's side: blocking calls with a time limit, for the supervisor and the command line.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::frame;
use crate::protocol::{Answer, Attach, Attached, NetworkConfig, Port, Published, Request, Status, VERSION};
use crate::{Failure, socket_path};

/// How long one request may take. Links are made under a lock of the kernel that a busy machine holds for long.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("failed to reach the network process at `{}`", path.display())]
    Unreachable {
        /// The control socket.
        path: PathBuf,
        /// The kernel's reason; `NotFound` or `ConnectionRefused` when no process runs.
        source: io::Error,
    },
    /// The process went away or did not answer in time.
    #[error("lost the network process at `{}` while it was to {action}", path.display())]
    Lost {
        /// The control socket.
        path: PathBuf,
        /// What it was doing.
        action: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// The process answered that it could not.
    #[error(transparent)]
    Refused(#[from] Failure),
}

impl ClientError {
    /// Whether no network process runs behind the socket (so that one may be started).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, ClientError::Unreachable { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }
}

/// A connection to the project's network process.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
}

impl Client {
    /// Connects to the control socket, which may lie at a path of any length.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when nobody listens ([`ClientError::is_absent`]), [`Failure::Version`] when the
    /// process is of another release.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: socket.to_owned(), source };
        let stream = socket_path::connect(socket).map_err(unreachable)?;
        stream.set_read_timeout(Some(REQUEST_LIMIT)).map_err(unreachable)?;
        stream.set_write_timeout(Some(REQUEST_LIMIT)).map_err(unreachable)?;
        let mut client = Client { stream, path: socket.to_owned() };
        client.call("say hello", &Request::Hello { version: VERSION }, None)?;
        Ok(client)
    }

    /// Makes the networks that are missing; removes those not named that no container uses.
    ///
    /// # Errors
    /// [`ClientError::Refused`] or a lost process.
    pub fn configure(&mut self, networks: &[NetworkConfig]) -> Result<(), ClientError> {
        match self.call("configure networks", &Request::Configure(networks.to_vec()), None)? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(self.unexpected("configure networks", &other)),
        }
    }

    /// Opens a container's ports before the container exists: all of them or none. They stay open until `detach`.
    /// Connections wait until the container is attached.
    ///
    /// # Errors
    /// [`Failure::PortInUse`], [`Failure::PortReserved`], [`Failure::Listen`], or a lost process.
    pub fn publish(&mut self, container: &str, ports: &[Port]) -> Result<Vec<Published>, ClientError> {
        let request = Request::Publish { container: container.to_owned(), ports: ports.to_vec() };
        match self.call("publish ports", &request, None)? {
            (Answer::Published(published), _) => Ok(published),
            (other, _) => Err(self.unexpected("publish ports", &other)),
        }
    }

    /// Connects a container's network namespace, an open `/proc/PID/ns/net`: interfaces, addresses, routes, names, ports. Repeating it changes
    /// nothing; with a new namespace (a restarted container) addresses and listeners stay as they were.
    ///
    /// # Errors
    /// [`ClientError::Refused`] (nothing of it remains done), or a lost process.
    pub fn attach(&mut self, attach: &Attach, namespace: impl AsFd) -> Result<Attached, ClientError> {
        let request = Request::Attach(attach.clone());
        match self.call("attach a container", &request, Some(namespace.as_fd()))? {
            (Answer::Attached(attached), _) => Ok(attached),
            (other, _) => Err(self.unexpected("attach a container", &other)),
        }
    }

    /// Takes a container's interfaces, names and ports away. An unknown container is no error.
    ///
    /// # Errors
    /// [`ClientError::Refused`] or a lost process.
    pub fn detach(&mut self, container: &str) -> Result<(), ClientError> {
        match self.call("detach a container", &Request::Detach { container: container.to_owned() }, None)? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(self.unexpected("detach a container", &other)),
        }
    }

    /// State of the process.
    ///
    /// # Errors
    /// A lost process.
    pub fn status(&mut self) -> Result<Status, ClientError> {
        match self.call("tell its status", &Request::Status, None)? {
            (Answer::Status(status), _) => Ok(status),
            (other, _) => Err(self.unexpected("tell its status", &other)),
        }
    }

    /// The project's network namespace, in which shims live so that it outlasts the network process.
    ///
    /// # Errors
    /// A lost process.
    pub fn network_namespace(&mut self) -> Result<OwnedFd, ClientError> {
        match self.call("hand out its namespace", &Request::Namespace, None)? {
            (Answer::Namespace, Some(descriptor)) => Ok(descriptor),
            (other, _) => Err(self.unexpected("hand out its namespace", &other)),
        }
    }

    /// A packet socket (packet(7)) in the project's namespace that is not bound yet, and the index of the network's bridge,
    /// which is the interface to bind it to.
    ///
    /// # Errors
    /// [`Failure::Invalid`] when the network is not up, or a lost process.
    pub fn packet_socket(&mut self, network: &str) -> Result<(OwnedFd, u32), ClientError> {
        let request = Request::Capture { network: network.to_owned() };
        match self.call("open a packet socket", &request, None)? {
            (Answer::Capture(bridge), Some(descriptor)) => Ok((descriptor, bridge)),
            (other, _) => Err(self.unexpected("open a packet socket", &other)),
        }
    }

    /// Ends the process: published ports close, the names go; links go with the last process in the namespace.
    ///
    /// # Errors
    /// A lost process.
    pub fn shutdown(mut self) -> Result<(), ClientError> {
        match self.call("shut down", &Request::Shutdown, None)? {
            (Answer::Done, _) => Ok(()),
            (other, _) => Err(self.unexpected("shut down", &other)),
        }
    }

    fn call(
        &mut self,
        action: &'static str,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Answer, Option<OwnedFd>), ClientError> {
        let answer = frame::send(&self.stream, request, descriptor)
            .and_then(|()| frame::receive::<Answer>(&self.stream));
        match answer.map_err(|source| ClientError::Lost { path: self.path.clone(), action, source })? {
            (Answer::Failed(failure), _) => Err(failure.into()),
            done => Ok(done),
        }
    }

    fn unexpected(&self, action: &'static str, answer: &Answer) -> ClientError {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {answer:?}"));
        ClientError::Lost { path: self.path.clone(), action, source }
    }
}
