//! What can go wrong, one variant for each step; and how it crosses a process boundary.

use serde::{Deserialize, Serialize};

/// A step of creating, starting or joining a container that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It failed in another of our processes.
    #[error(transparent)]
    Remote(Failure),
}

/// An error that came from another of our processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, then its causes.
    pub chain: Vec<String>,
    /// The remedy.
    pub hint: Option<String>,
    /// 126 or 127 when the command could not be executed or found.
    pub exit_code: Option<i32>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl std::error::Error for Failure {}

impl Error {
    /// The remedy where one is known, without the word `hint:`.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Remote(failure) => failure.hint.clone(),
        }
    }

    /// 126 or 127 when the command could not be executed or found.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Error::Remote(failure) => failure.exit_code,
        }
    }
}
