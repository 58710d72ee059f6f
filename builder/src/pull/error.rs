//! What can go wrong between an image reference and its verified bytes, and what the user can do about it.

use std::path::PathBuf;

use dpack_payload::digest::Digest;
use dpack_payload::platform::Platform;

use crate::cancel::Cancelled;
use crate::error::Kind;

/// A failed pull.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no image reference.
    #[error("`{reference}` is not an image reference: {reason}")]
    Reference {
        /// The text.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry has no such repository, tag or digest.
    #[error("no image `{image}` in registry `{registry}`")]
    NotFound {
        /// Reference as the Compose file has it.
        image: String,
        /// Host of the registry.
        registry: String,
    },
    /// The registry has the image's manifest, but not all that it lists.
    #[error("registry `{registry}` has image `{image}`, but not its blob {blob}")]
    NoBlob {
        /// Reference as the Compose file has it.
        image: String,
        /// Host of the registry.
        registry: String,
        /// Digest of the blob.
        blob: Digest,
    },
    /// The registry asks for other credentials than it was shown.
    #[error("registry `{registry}` refused {} for image `{image}`", if *.had_credentials { "the credentials" } else { "access without credentials" })]
    Unauthorized {
        /// Reference as the Compose file has it.
        image: String,
        /// Host of the registry.
        registry: String,
        /// Whether credentials were found and sent.
        had_credentials: bool,
    },
    /// A registry that is neither local nor named by `--insecure-registry` does not speak TLS.
    #[error(
        "registry `{registry}` speaks plain http, which is allowed only on loopback or when the registry is named"
    )]
    PlainHttp {
        /// Host of the registry.
        registry: String,
    },
    /// The registry's certificate is signed by nobody we know.
    #[error("registry `{registry}` has a certificate from an unknown authority")]
    UnknownAuthority {
        /// Host of the registry.
        registry: String,
    },
    /// The registry's certificate does not hold for other reasons.
    #[error("registry `{registry}` has a certificate that is not valid: {reason}")]
    Certificate {
        /// Host of the registry.
        registry: String,
        /// In the words of the TLS library.
        reason: String,
    },
    /// The registry cannot be reached, or stopped answering, also after several attempts.
    #[error("image `{image}`: failed to {action} registry `{registry}` after {attempts} attempts: {reason}")]
    Unreachable {
        /// Reference as the Compose file has it.
        image: String,
        /// What was attempted, up to the registry's name.
        action: String,
        /// Host of the registry.
        registry: String,
        /// How often.
        attempts: u32,
        /// The last failure.
        reason: String,
    },
    /// An answer that is neither success nor one of the failures above.
    #[error("registry `{registry}` answered {status} to {action}")]
    Answer {
        /// Host of the registry.
        registry: String,
        /// What was asked.
        action: String,
        /// Status and the registry's own message.
        status: String,
    },
    /// The image exists, but not for this platform.
    #[error("image `{image}` has no {wanted}; it has {}", list(.available))]
    NoPlatform {
        /// Reference as the Compose file has it.
        image: String,
        /// Platform asked for.
        wanted: Box<Platform>,
        /// Platforms there are.
        available: Vec<Platform>,
    },
    /// A manifest or config that we cannot use.
    #[error("image `{image}`: {reason}")]
    Manifest {
        /// Reference as the Compose file has it.
        image: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes that are not what their digest or size says.
    #[error("{what} of image `{image}` is not what its manifest says: expected {expected}, got {actual}")]
    Mismatch {
        /// Reference as the Compose file has it.
        image: String,
        /// Which bytes.
        what: String,
        /// Digest or size announced.
        expected: String,
        /// Digest or size received.
        actual: String,
    },
    /// A local source lacks something.
    #[error("`{path}`: {reason}")]
    Local {
        /// Folder or file given by `--from`.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read.
    #[error("failed to read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A certificate file cannot be used.
    #[error("`{path}` is not a PEM certificate")]
    CertificateFile {
        /// The file.
        path: PathBuf,
    },
    /// No HTTP client can be made.
    #[error("failed to set up TLS: {0}")]
    Client(String),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] crate::cache::Error),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Error {
    /// What sort of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Unauthorized { .. }
            | Error::PlainHttp { .. }
            | Error::UnknownAuthority { .. }
            | Error::Certificate { .. }
            | Error::Unreachable { .. }
            | Error::Answer { .. }
            | Error::Client(_)
            | Error::Cache(_) => Kind::Environment,
            Error::Reference { .. }
            | Error::NotFound { .. }
            | Error::NoBlob { .. }
            | Error::NoPlatform { .. }
            | Error::Manifest { .. }
            | Error::Mismatch { .. }
            | Error::Local { .. }
            | Error::Read { .. }
            | Error::CertificateFile { .. } => Kind::Input,
            Error::Cancelled(_) => Kind::Interrupted,
        }
    }

    /// The remedy, where it is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::NotFound { image, .. } => format!(
                "check the name and the tag; for an image that is not in a registry use --from {image}=oci:DIR"
            ),
            Error::NoBlob { image, .. } => format!("push `{image}` again"),
            Error::Unauthorized { registry, had_credentials, .. } => {
                let registry = if registry == "docker.io" { String::new() } else { format!(" {registry}") };
                let again = if *had_credentials { " again" } else { "" };
                format!(
                    "run `docker login{registry}` or `podman login{registry}`{again}; a private image that does not exist looks the same"
                )
            }
            Error::PlainHttp { registry } => format!("if you trust the network, add --insecure-registry {registry}"),
            Error::UnknownAuthority { registry } => {
                format!("add --ca FILE with the registry's authority, or put it at /etc/docker/certs.d/{registry}/ca.crt")
            }
            Error::Unreachable { .. } => {
                "check the network and the registry's name, and build again: blobs that are complete are kept".to_owned()
            }
            Error::NoPlatform { available, .. } if !available.is_empty() => {
                format!("choose with --platform {}", join(available, ","))
            }
            Error::Mismatch { .. } => {
                "the registry, or something on the way to it, served other bytes; pull again or rebuild the image".to_owned()
            }
            Error::Reference { .. } => "write NAME[:TAG][@DIGEST], such as nginx:1.27 or registry.example:5000/app:2".to_owned(),
            Error::Cache(error) => return error.hint(),
            _ => return None,
        })
    }
}

fn join(platforms: &[Platform], separator: &str) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() { "no platform that can be used".to_owned() } else { join(platforms, ", ") }
}

/// Names a blob in error texts: long enough to find it, short enough for a line.
pub(super) fn short(digest: &Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}
