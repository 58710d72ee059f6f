//! `exec`: one more process in a running container, confined as the container is.

use std::convert::Infallible;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// `argv[0]` of the process that joins.
pub const ROLE: &str = "dpack-exec";

/// What to execute. The caller is outside the user namespace (or inside it) and single-threaded.
#[derive(Debug, Clone)]
pub struct ExecOptions<'a> {
    /// The container's folder.
    pub container_dir: &'a Path,
    /// Command and arguments.
    pub args: Vec<String>,
    /// `NAME=value`, over those of the container's own process.
    pub env: Vec<String>,
    /// Working directory; the container's own when absent.
    pub cwd: Option<String>,
    /// User, groups; the container's own when absent.
    pub user: Option<User>,
    /// With a pseudo-terminal.
    pub tty: bool,
    /// Whether standard input is passed on; else `/dev/null`.
    pub stdin: bool,
}

/// A resolved user (`dpack_bundle::users` resolves names with the container's own files).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary group IDs.
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

/// Becomes the process that joins the container, so its exit status is the caller's: the command's, 128 + signal, 126
/// (cannot be executed) or 127 (not found). Returns only on failure.
pub fn run(_options: &ExecOptions<'_>) -> Result<Infallible, Error> {
    unimplemented!()
}

/// Reads a small regular file of a running container (its `/etc/passwd`), never following a link out of it.
/// None when there is no such file.
pub fn read_file(_container_dir: &Path, _path: &str, _limit: usize) -> Result<Option<Vec<u8>>, Error> {
    unimplemented!()
}

/// Role entry.
pub fn main() -> ! {
    unimplemented!()
}
