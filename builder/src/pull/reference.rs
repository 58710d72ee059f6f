//! Image references: what `nginx` stands for.

use dpack_payload::digest::Digest;
use oci_client::Reference;

use super::Error;

/// A parsed reference, normalised as Docker does it: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    /// As the user wrote it.
    pub text: String,
    /// The parts.
    pub parts: Reference,
    /// The digest, when the reference has one; it wins over the tag.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// Parses and normalises `text`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let error = |reason: String| Error::Reference { reference: text.to_owned(), reason };
        let parts: Reference =
            text.parse().map_err(|parse: oci_client::ParseError| error(parse.to_string()))?;
        let digest = match parts.digest() {
            Some(digest) => {
                Some(digest.parse().map_err(|_| error("only sha256 digests are supported".into()))?)
            }
            None => None,
        };
        Ok(Self { text: text.to_owned(), parts, digest })
    }

    /// Name of the registry, as credentials and certificates know it: `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        self.parts.registry()
    }

    /// The full form, such as `docker.io/library/nginx:latest`.
    pub fn canonical(&self) -> String {
        self.parts.whole()
    }
}

/// True for hosts that are this machine: what is said to them does not cross a network.
pub(super) fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_docker_hub() {
        let hex = "a".repeat(64);
        for (text, canonical, registry) in [
            ("nginx", "docker.io/library/nginx:latest", "docker.io"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "docker.io"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest", "docker.io"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "docker.io"),
            ("localhost/app", "localhost/app:latest", "localhost"),
            ("127.0.0.1:5555/a/b:x", "127.0.0.1:5555/a/b:x", "127.0.0.1:5555"),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest", "ghcr.io"),
        ] {
            let reference = ImageReference::parse(text).unwrap();
            assert_eq!(reference.canonical(), canonical);
            assert_eq!(reference.registry(), registry);
            assert_eq!(reference.digest, None);
        }
        let pinned = ImageReference::parse(&format!("nginx:1.27@sha256:{hex}")).unwrap();
        assert_eq!(pinned.digest.unwrap().hex(), hex);
        assert_eq!(pinned.parts.tag(), Some("1.27"));
    }

    #[test]
    fn bad_references_are_told_apart() {
        let sha512 = format!("nginx@sha512:{}", "a".repeat(128));
        for bad in ["", "Nginx", "nginx:", "a b", "nginx@sha256:12", ":tag", &sha512] {
            assert!(matches!(ImageReference::parse(bad), Err(Error::Reference { .. })), "{bad}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in ["localhost", "localhost:5000", "a.localhost:1", "127.0.0.1:5555", "127.9.9.9"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["docker.io", "10.0.0.1:5000", "localhost.example", "127.0.0.1.example:80", "notlocalhost"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
