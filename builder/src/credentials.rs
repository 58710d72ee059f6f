//! Registry credentials, where Docker and podman keep them.
//!
//! Both write the same JSON (`config.json`, `auth.json`; containers-auth.json(5)):
//!
//! ```text
//! { "auths": { "<registry or registry/path>": { "auth": base64("user:password"), "identitytoken": "…" } },
//!   "credHelpers": { "<registry>": "<helper>" }, "credsStore": "<helper>" }
//! ```
//!
//! Files are searched in the order given; the first that knows the registry wins. Secrets never appear in `Debug` output.

mod file;
mod helper;

use std::path::{Path, PathBuf};

pub use file::AuthFile;

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token, to be exchanged at the registry's token server.
    IdentityToken(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credential::Basic { username, .. } => write!(f, "Basic({username}, …)"),
            Credential::IdentityToken(_) => f.write_str("IdentityToken(…)"),
        }
    }
}

/// Why credentials could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was asked for by name cannot be read.
    #[error("failed to read credentials `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A file is no credential file.
    #[error("`{path}` is not a credential file: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A credential helper did not answer as its protocol says.
    #[error("credential helper `docker-credential-{helper}` failed for `{registry}`: {reason}")]
    Helper {
        /// Name after `docker-credential-`.
        helper: String,
        /// Registry asked about.
        registry: String,
        /// What went wrong.
        reason: String,
    },
}

/// Credential files in the order of search.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<AuthFile>,
}

impl Credentials {
    /// Loads `files`. A file that is not there is skipped, unless it is `required`, asked for by name.
    pub fn load(required: Option<&Path>, files: &[PathBuf]) -> Result<Self, Error> {
        let mut loaded = Vec::new();
        if let Some(path) = required {
            loaded.push(AuthFile::load(path)?);
            return Ok(Self { files: loaded });
        }
        for path in files {
            match AuthFile::load(path) {
                Ok(file) => loaded.push(file),
                // Files of other users or a folder in the way are as good as absent; broken JSON is worth telling.
                Err(Error::Read { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files: loaded })
    }

    /// The credential for an image of `registry` (`docker.io` for Docker Hub) in `repository`.
    ///
    /// A failing helper is passed to `warn`, and the search goes on: public images need no credential.
    pub fn find(&self, registry: &str, repository: &str, warn: &dyn Fn(Error)) -> Option<Credential> {
        self.files.iter().find_map(|file| {
            for helper in file.helpers(registry) {
                match helper::get(helper, file::helper_key(registry)) {
                    Ok(Some(credential)) => return Some(credential),
                    Ok(None) => {}
                    Err(error) => warn(error),
                }
            }
            file.stored(registry, repository)
        })
    }
}
