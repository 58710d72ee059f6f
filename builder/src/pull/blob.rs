//! Downloading a blob into the cache: streamed, hashed on the way, resumed where a connection broke.

use std::io::{Seek as _, SeekFrom, Write as _};

use dpack_payload::digest::Digest;
use futures_util::StreamExt as _;
use oci_client::client::{BlobResponse, SizedStream};
use oci_client::manifest::OciDescriptor;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::error::short;
use super::failure::Failure;
use super::manifest::Descriptor;
use super::reference::ImageReference;
use super::registry::Registry;
use crate::cache::{Cache, Section, Staged};
use crate::reporter::Event;

const ACTION: &str = "pull a blob from";

/// What is there so far.
struct Partial {
    staged: Staged,
    hasher: Sha256,
    received: u64,
}

impl Partial {
    fn start_again(&mut self) -> Result<(), crate::cache::Error> {
        let file = self.staged.file();
        let result = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)).map(drop));
        self.hasher = Sha256::new();
        self.received = 0;
        result.map_err(|error| self.staged.error(error))
    }
}

/// Downloads `blob` into the cache unless it is there. Returns the bytes that came over the network.
pub(super) async fn download(
    registry: &Registry,
    reference: &ImageReference,
    blob: &Descriptor,
    cache: &Cache,
) -> Result<u64, Error> {
    let context = registry.context();
    let digest = blob.digest;
    let image = reference.text.clone();
    context.reporter.report(Event::PullStarted { digest, image, size: blob.size });
    let mut partial = Partial { staged: cache.stage()?, hasher: Sha256::new(), received: 0 };
    let (mut failures, mut renewed, mut resumed, mut transferred) = (0, false, false, 0);
    loop {
        let before = partial.received;
        resumed |= before > 0;
        let attempt = transfer(registry, reference, blob, &mut partial);
        let result = context.cancel.or(attempt).await?;
        transferred += partial.received.saturating_sub(before);
        let image = &reference.text;
        match result {
            Ok(()) if partial.received == blob.size => {
                let actual = Digest::from_bytes(partial.hasher.clone().finalize().into());
                if actual == digest {
                    break;
                }
                // A resumed download may have been put together from two different answers.
                if !resumed {
                    return Err(mismatch(image, &digest, digest.to_string(), actual.to_string()));
                }
                resumed = false;
                partial.start_again()?;
            }
            Ok(()) => {
                failures = if partial.received > before { 1 } else { failures + 1 };
                let reason = format!("it sent {} of {} bytes", partial.received, blob.size);
                registry.pause(image, ACTION, failures, &reason, None).await?;
            }
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Failure(failure)) => match failure {
                Failure::Unauthorized(_)
                    if !renewed && registry.forget_token(reference.parts.repository()) =>
                {
                    renewed = true;
                }
                Failure::NotFound => {
                    let (image, registry) = (image.clone(), registry.name().to_owned());
                    return Err(Error::NoBlob { image, registry, blob: digest });
                }
                Failure::NoRange if partial.received > 0 => partial.start_again()?,
                Failure::Transient { reason, retry_after, busy } => {
                    // Progress makes up for earlier failures: a slow link that breaks now and then gets there.
                    failures = if partial.received > before { 1 } else { failures + 1 };
                    let asked = match retry_after {
                        None if busy => registry.ask_pause(image, &reference.parts, &digest).await,
                        asked => asked,
                    };
                    registry.pause(image, ACTION, failures, &reason, asked).await?;
                }
                other => return Err(registry.error(image, reference.parts.repository(), ACTION, other)),
            },
        }
    }
    cache.commit(partial.staged, Section::Blobs, &digest.hex())?;
    context.reporter.report(Event::PullFinished { digest });
    Ok(transferred)
}

enum Stop {
    Failure(Failure),
    Error(Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failure(failure)
    }
}

/// One connection's worth: from where the last one ended to wherever this one ends.
async fn transfer(
    registry: &Registry,
    reference: &ImageReference,
    blob: &Descriptor,
    partial: &mut Partial,
) -> Result<(), Stop> {
    let image = &reference.text;
    let client = registry.oci(image, &reference.parts).await?;
    let descriptor = OciDescriptor { digest: blob.digest.to_string(), ..OciDescriptor::default() };
    let SizedStream { mut stream, content_length, .. } = if partial.received == 0 {
        client.pull_blob_stream(&reference.parts, &descriptor).await.map_err(Failure::from_oci)?
    } else {
        let offset = partial.received;
        let response = client.pull_blob_stream_partial(&reference.parts, &descriptor, offset, None).await;
        match response.map_err(Failure::from_oci)? {
            BlobResponse::Partial(stream) => stream,
            // The registry does not do ranges and sends all of it again.
            BlobResponse::Full(stream) => {
                partial.start_again().map_err(|error| Stop::Error(error.into()))?;
                stream
            }
        }
    };
    let too_large = |actual: u64| {
        Stop::Error(mismatch(image, &blob.digest, format!("{} bytes", blob.size), format!("{actual} bytes")))
    };
    if let Some(length) = content_length
        && partial.received.saturating_add(length) > blob.size
    {
        return Err(too_large(partial.received.saturating_add(length)));
    }
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // All is there: what the stream still complains about is the digest, and that is checked by the caller.
            Err(_) if partial.received == blob.size => break,
            Err(error) => return Err(Failure::from_stream(&error).into()),
        };
        let received = partial.received + chunk.len() as u64;
        if received > blob.size {
            return Err(too_large(received));
        }
        let written = partial.staged.file().write_all(&chunk);
        written.map_err(|error| Stop::Error(partial.staged.error(error).into()))?;
        partial.hasher.update(&chunk);
        partial.received = received;
        registry.context().reporter.report(Event::PullProgress { digest: blob.digest, received });
    }
    Ok(())
}

fn mismatch(image: &str, digest: &Digest, expected: String, actual: String) -> Error {
    Error::Mismatch { image: image.to_owned(), what: format!("blob {}", short(digest)), expected, actual }
}
