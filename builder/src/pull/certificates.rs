//! Which authorities a registry's certificate may come from: the system's, `--ca` files, and the per-registry folders of
//! Docker and podman (containers-certs.d(5)).

use std::path::{Path, PathBuf};
use std::sync::Once;

use oci_client::client::{Certificate, CertificateEncoding};

use super::Error;

/// Folders whose `HOST[:PORT]/*.crt` hold the authorities of one registry.
pub const CERTIFICATE_FOLDERS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Certificates in addition to the system's.
pub(super) fn extra(
    registry: &str,
    files: &[PathBuf],
    folders: &[PathBuf],
) -> Result<Vec<Certificate>, Error> {
    let mut found = Vec::new();
    for path in files {
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
        found.extend(split(&bytes, path)?);
    }
    // A registry's name comes from an image reference: letters, digits, dots, a colon. It cannot leave the folder.
    for folder in folders.iter().map(|folder| folder.join(registry)) {
        let Ok(items) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = items.flatten().map(|item| item.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "crt")) {
            let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            found.extend(split(&bytes, path)?);
        }
    }
    Ok(found)
}

/// Splits a PEM file into its certificates: the HTTP client takes one at a time.
fn split(bytes: &[u8], path: &Path) -> Result<Vec<Certificate>, Error> {
    let bad = || Error::CertificateFile { path: path.to_owned() };
    let certificates = reqwest::Certificate::from_pem_bundle(bytes).map_err(|_| bad())?;
    if certificates.is_empty() {
        return Err(bad());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| bad())?;
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split_inclusive(END).filter(|block| block.contains("-----BEGIN CERTIFICATE-----"));
    Ok(blocks
        .map(|block| Certificate { encoding: CertificateEncoding::Pem, data: block.as_bytes().to_vec() })
        .collect())
}

/// Mozilla's authorities, for machines that have none of their own.
pub(super) fn built_in() -> Vec<Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() })
        .collect()
}

/// Chooses the cryptography of this process; must come before the first client.
pub(super) fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the program using this library has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, "no certificate").unwrap();
        let error = extra("r", std::slice::from_ref(&path), &[]).unwrap_err().to_string();
        assert!(error.contains("ca.crt"), "{error}");

        // The same file is ignored unless it lies in the registry's own folder.
        let certs = folder.path().join("certs.d");
        std::fs::create_dir_all(certs.join("other:5000")).unwrap();
        std::fs::copy(&path, certs.join("other:5000/ca.crt")).unwrap();
        assert!(extra("r", &[], std::slice::from_ref(&certs)).unwrap().is_empty());
        assert!(extra("other:5000", &[], &[certs]).is_err());
    }
}
