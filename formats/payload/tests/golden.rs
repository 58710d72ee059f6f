//! A payload of every released version stays readable. The files in `tests/golden` are never written anew.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::*;
use dpack_payload::digest::Digest;
use dpack_payload::{HeadState, Payload};

#[test]
fn version_1_is_readable() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1.dpack")).unwrap();
    let payload = Payload::open(bytes).unwrap();
    assert_eq!(payload.verify().unwrap(), HeadState::Absent);
    assert_eq!(
        payload.digest().to_string(),
        "sha256:b31718e61545b9efa06ce91ca7af31fba10029e6afef20de6820654f26d53346",
    );
    let layers = payload.index().layers().to_vec();
    assert_eq!(layers.len(), 2);
    assert_eq!(read_all(&payload, 0), sample_tar());
    assert_eq!(read_all(&payload, 1), [sample_tar(), b"trailing garbage".repeat(50)].concat());
    for layer in &layers {
        payload.verify_layer(&layer.diff_id).unwrap();
    }
    let application = payload.application();
    assert_eq!((application.name.as_str(), application.builder.as_str()), ("shop", "0.1.0"));
    assert_eq!(application.environment["TAG"], "1.27");
    assert_eq!(application.images[0].digest, Digest::of(b"manifest"));
    assert_eq!(application.images[0].platform.to_string(), "linux/amd64");
}

/// Writes the file for a new version of the format: `cargo test -p dpack-payload --test golden -- --ignored`.
#[test]
#[ignore = "writes the golden file of a new format version"]
fn write_golden_file() {
    let tar = sample_tar();
    let bytes = write_bare(&[&tar, &[tar.clone(), b"trailing garbage".repeat(50)].concat()], 19);
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/new.dpack"), bytes).unwrap();
}
