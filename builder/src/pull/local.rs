//! Images from files instead of a registry: OCI layouts (OCI image-spec, image layout), the same in a tar, and what
//! `docker save` writes.
//!
//! Nothing is unpacked: blobs are found by digest, in a folder or by their position in the archive, and are verified while
//! they are copied into the cache, like those of a registry. A path in an archive is only ever compared, never opened.

mod archive;
mod docker;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use dpack_payload::digest::Digest;
use sha2::{Digest as _, Sha256};

use self::archive::Archive;
use super::error::short;
use super::manifest::{self, Descriptor, MANIFEST_LIMIT, Manifest};
use super::reference::ImageReference;
use super::{Context, Error};
use crate::cache::{Cache, Section};
use crate::reporter::Event;

/// Where an image comes from when not from its registry: the value of `--from NAME=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// Format of the files.
    pub format: Format,
    /// Folder or file.
    pub path: PathBuf,
    /// Which of several images, by name or digest.
    pub reference: Option<String>,
}

/// Format of a local source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A folder with an OCI image layout.
    OciLayout,
    /// The same in a tar file.
    OciArchive,
    /// Output of `docker save`, old or new.
    DockerArchive,
}

impl LocalSource {
    /// Parses `oci:DIR[:REF]`, `oci-archive:FILE[:REF]` or `docker-archive:FILE[:REF]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("`{text}`: expected oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF]")
        };
        let (format, rest) = text.split_once(':').ok_or_else(expected)?;
        let format = match format {
            "oci" => Format::OciLayout,
            "oci-archive" => Format::OciArchive,
            "docker-archive" => Format::DockerArchive,
            _ => return Err(expected()),
        };
        // As in skopeo a path has no colon; unless such a file is there.
        let (path, reference) = match rest.split_once(':') {
            Some((path, reference)) if !Path::new(rest).exists() => (path, Some(reference.to_owned())),
            _ => (rest, None),
        };
        if path.is_empty() || reference.as_deref() == Some("") {
            return Err(expected());
        }
        Ok(Self { format, path: path.into(), reference })
    }
}

/// An opened local source.
pub(super) struct Local {
    path: PathBuf,
    blobs: Blobs,
    root: Vec<Descriptor>,
}

enum Blobs {
    Folder(PathBuf),
    Archive(Archive, Index),
}

/// Blobs of an archive that are not named by their digest.
#[derive(Default)]
struct Index {
    /// Member of the archive, by digest.
    members: BTreeMap<Digest, String>,
    /// Bytes that are not in the archive: manifests made for images that have none.
    made: BTreeMap<Digest, Vec<u8>>,
}

impl Local {
    /// Opens `source` and finds the images that its reference means.
    pub(super) fn open(source: &LocalSource) -> Result<Self, Error> {
        let path = source.path.clone();
        let bad = |reason: String| Error::Local { path: path.clone(), reason };
        let blobs = match source.format {
            Format::OciLayout => Blobs::Folder(path.clone()),
            Format::OciArchive | Format::DockerArchive => {
                Blobs::Archive(Archive::open(&path)?, Index::default())
            }
        };
        let mut local = Self { path: path.clone(), blobs, root: Vec::new() };
        let entries = match (local.file("index.json", MANIFEST_LIMIT)?, source.format) {
            (Some(bytes), _) => {
                match manifest::parse(&bytes).map_err(|reason| bad(format!("index.json: {reason}")))? {
                    Manifest::Index(entries) => entries,
                    Manifest::Image { .. } => return Err(bad("index.json is not an index".to_owned())),
                }
            }
            (None, Format::DockerArchive) => match &mut local.blobs {
                Blobs::Archive(archive, index) => docker::read(archive, index).map_err(bad)?,
                Blobs::Folder(_) => Vec::new(),
            },
            (None, _) => return Err(bad("is not an OCI image layout: it has no index.json".to_owned())),
        };
        local.root = select(entries, source.reference.as_deref())
            .map_err(|reason| Error::Local { path: source.path.clone(), reason })?;
        Ok(local)
    }

    /// The entries to choose a platform from.
    pub(super) fn root(&self) -> &[Descriptor] {
        &self.root
    }

    /// A small blob, verified.
    pub(super) fn read(&self, image: &str, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let (reader, size) = self.blob(digest)?;
        if size > limit {
            let reason = format!("blob {} has {size} bytes; at most {limit} are allowed", short(digest));
            return Err(Error::Local { path: self.path.clone(), reason });
        }
        let mut bytes = Vec::new();
        reader.take(limit).read_to_end(&mut bytes).map_err(|source| self.read_error(source))?;
        verify(image, digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// Copies a blob into the cache and verifies it on the way.
    pub(super) fn import(
        &self,
        image: &str,
        blob: &Descriptor,
        cache: &Cache,
        context: &Context,
    ) -> Result<(), Error> {
        let (mut reader, size) = self.blob(&blob.digest)?;
        if size != blob.size {
            return Err(Error::Mismatch {
                image: image.to_owned(),
                what: format!("blob {}", short(&blob.digest)),
                expected: format!("{} bytes", blob.size),
                actual: format!("{size} bytes"),
            });
        }
        let digest = blob.digest;
        context.reporter.report(Event::PullStarted { digest, image: image.to_owned(), size });
        let mut staged = cache.stage()?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut received = 0;
        loop {
            context.cancel.check()?;
            let count = reader.read(&mut buffer).map_err(|source| self.read_error(source))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            let written = staged.file().write_all(&buffer[..count]);
            written.map_err(|error| staged.error(error))?;
            received += count as u64;
            context.reporter.report(Event::PullProgress { digest, received });
        }
        verify(image, &digest, Digest::from_bytes(hasher.finalize().into()))?;
        cache.commit(staged, Section::Blobs, &digest.hex())?;
        context.reporter.report(Event::PullFinished { digest });
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> Result<(Box<dyn Read + '_>, u64), Error> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let found: Option<(Box<dyn Read>, u64)> = match &self.blobs {
            Blobs::Folder(folder) => open_file(&folder.join(&name))
                .map_err(|source| self.read_error(source))?
                .map(|(file, size)| (Box::new(file) as Box<dyn Read>, size)),
            Blobs::Archive(archive, index) => {
                if let Some(bytes) = index.made.get(digest) {
                    Some((Box::new(bytes.as_slice()), bytes.len() as u64))
                } else {
                    let member = index.members.get(digest).map_or(name.as_str(), String::as_str);
                    let part = archive.member(member).map_err(|source| self.read_error(source))?;
                    part.map(|(part, size)| (Box::new(part) as Box<dyn Read>, size))
                }
            }
        };
        found.ok_or_else(|| Error::Local {
            path: self.path.clone(),
            reason: format!("blob {digest} is not in it"),
        })
    }

    /// A file of the layout itself, such as `index.json`.
    fn file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let found: Option<(Box<dyn Read>, u64)> = match &self.blobs {
            Blobs::Folder(folder) => {
                if !folder.is_dir() {
                    let reason = "is not a folder".to_owned();
                    return Err(Error::Local { path: folder.clone(), reason });
                }
                open_file(&folder.join(name))
                    .map_err(|source| self.read_error(source))?
                    .map(|(file, size)| (Box::new(file) as Box<dyn Read>, size))
            }
            Blobs::Archive(archive, _) => archive
                .member(name)
                .map_err(|source| self.read_error(source))?
                .map(|(part, size)| (Box::new(part) as Box<dyn Read>, size)),
        };
        let Some((reader, size)) = found else { return Ok(None) };
        if size > limit {
            let reason = format!("{name} has {size} bytes; at most {limit} are allowed");
            return Err(Error::Local { path: self.path.clone(), reason });
        }
        let mut bytes = Vec::new();
        reader.take(limit).read_to_end(&mut bytes).map_err(|source| self.read_error(source))?;
        Ok(Some(bytes))
    }

    fn read_error(&self, source: io::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }
}

/// Opens a regular file; `None` when it is not there.
fn open_file(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Ok(file) => {
            let size = file.metadata()?.len();
            Ok(Some((file, size)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn verify(image: &str, expected: &Digest, actual: Digest) -> Result<(), Error> {
    if *expected == actual {
        return Ok(());
    }
    Err(Error::Mismatch {
        image: image.to_owned(),
        what: format!("blob {}", short(expected)),
        expected: expected.to_string(),
        actual: actual.to_string(),
    })
}

/// The entries that `reference` means. Without one there must be a single image, of any number of platforms.
fn select(entries: Vec<Descriptor>, reference: Option<&str>) -> Result<Vec<Descriptor>, String> {
    let names = |entries: &[Descriptor]| {
        let mut names: Vec<&str> =
            entries.iter().filter_map(|entry| entry.names.first()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    let Some(reference) = reference else {
        let mut first = entries.iter().filter_map(|entry| entry.names.first());
        let name = first.next();
        if first.any(|other| Some(other) != name) {
            return Err(format!("holds several images ({}); choose one with :REF", names(&entries)));
        }
        if entries.is_empty() {
            return Err("holds no image".to_owned());
        }
        return Ok(entries);
    };
    let canonical = |name: &str| ImageReference::parse(name).map(|name| name.canonical()).ok();
    let wanted = canonical(reference);
    let matches = |entry: &Descriptor| {
        entry.digest.to_string() == reference
            || entry
                .names
                .iter()
                .any(|name| name == reference || (wanted.is_some() && canonical(name) == wanted))
    };
    let known = names(&entries);
    let chosen: Vec<Descriptor> = entries.into_iter().filter(matches).collect();
    if chosen.is_empty() {
        return Err(format!("holds no image `{reference}`; it has {known}"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_from_has_three_forms() {
        let parse = |text| LocalSource::parse(text);
        assert_eq!(
            parse("oci:out/app:v1").unwrap(),
            LocalSource { format: Format::OciLayout, path: "out/app".into(), reference: Some("v1".into()) }
        );
        assert_eq!(
            parse("docker-archive:a.tar:nginx:1.27").unwrap().reference.as_deref(),
            Some("nginx:1.27")
        );
        assert_eq!(parse("oci-archive:/a.tar").unwrap().reference, None);
        for bad in ["", "oci", "oci:", "dir:a", "oci:a:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    fn entry(name: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::of(name.unwrap_or_default().as_bytes()),
            size: 0,
            platform: None,
            names: name.into_iter().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn an_image_is_chosen_by_name_or_must_be_the_only_one() {
        let two = || vec![entry(Some("nginx:1")), entry(Some("redis:7"))];
        assert_eq!(select(two(), Some("docker.io/library/redis:7")).unwrap()[0].names, ["redis:7"]);
        assert_eq!(select(two(), Some(&entry(Some("nginx:1")).digest.to_string())).unwrap().len(), 1);
        assert!(select(two(), None).unwrap_err().contains("nginx:1, redis:7"));
        assert!(select(two(), Some("x")).unwrap_err().contains("`x`"));
        assert_eq!(select(vec![entry(None), entry(None)], None).unwrap().len(), 2);
        assert!(select(vec![], None).is_err());
    }
}
