//! Tars of every sort go in and come back byte for byte.

mod common;

use common::*;

#[test]
fn probe_real() {
    let tar = sample_tar();
    let bytes = write_bare(&[&tar], 3);
    let payload = dpack_payload::Payload::open(bytes).unwrap();
    assert_eq!(read_all(&payload, 0), tar);
    payload.verify().unwrap();
}
