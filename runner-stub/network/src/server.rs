//! The network process: its threads, and what each of them owns.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// How the role `dpack-network` is started.
#[derive(Debug)]
pub struct ServeOptions {
    /// Control socket to listen on; its folder exists and belongs to the user.
    pub socket: PathBuf,
    /// Join the network namespace of this process instead of making one: a live shim, when an earlier network process
    /// was killed.
    pub join: Option<u32>,
    /// One byte is written here, and the descriptor closed, when the socket is listened on.
    pub ready: Option<OwnedFd>,
}

/// Why the network process did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The project's network namespace could not be made or joined.
    #[error("failed to {step}")]
    Namespace {
        /// What was attempted.
        step: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The control socket could not be listened on.
    #[error("failed to listen on `{}`", path.display())]
    Listen {
        /// The control socket.
        path: PathBuf,
        /// The kernel's reason; `AddrInUse` when another network process answers there.
        source: io::Error,
    },
}

/// Role main: serves until [`crate::Client::shutdown`]. Runs inside the project's user namespace, in the host's network
/// namespace, in a process that has no other thread yet.
///
/// # Errors
/// [`ServeError`] before the socket is listened on; later failures are answers to requests.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let _ = options;
    Err(ServeError::Namespace {
        step: "start: not written yet".into(),
        source: io::ErrorKind::Unsupported.into(),
    })
}
