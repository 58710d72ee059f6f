//! Damaged and hostile payloads: always an error, never wrong data, never memory on the word of a hostile number.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::io::Read;

use common::*;
use dpack_payload::digest::Digest;
use dpack_payload::write::{Level, StubHead, seal};
use dpack_payload::{Index, OpenError, Payload, TRAILER_SIZE, TrailerError};

/// Opens and reads everything; `Some` only where all of it is without error.
fn read_everything(bytes: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let payload = Payload::open(bytes).ok()?;
    payload.verify().ok()?;
    let mut tars = Vec::new();
    for layer in payload.index().layers() {
        let mut tar = Vec::new();
        payload.layer(&layer.diff_id)?.take(100 << 20).read_to_end(&mut tar).ok()?;
        tars.push(tar);
    }
    Some(tars)
}

fn executable() -> (Vec<u8>, Vec<u8>) {
    let tar = sample_tar();
    let head = StubHead::new(&tiny_elf64(), 62).unwrap();
    (write(&[&tar], 9, Some(head)).0, tar)
}

#[test]
fn every_flipped_bit_of_an_executable_is_noticed() {
    let (bytes, tar) = executable();
    assert_eq!(read_everything(bytes.clone()), Some(vec![tar]));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_everything(flipped), None, "byte {} bit {}", bit / 8, bit % 8);
    }
}

#[test]
fn truncation_at_every_length_is_noticed() {
    let (bytes, _) = executable();
    for length in 0..bytes.len() {
        assert!(Payload::open(bytes[..length].to_vec()).is_err(), "{length} bytes");
    }
    let bare = write_bare(&[&sample_tar()], 1);
    for length in 0..bare.len() {
        assert!(matches!(Payload::open(bare[..length].to_vec()), Err(OpenError::NotFound)), "{length} bytes");
    }
}

#[test]
fn bytes_before_or_between_are_noticed() {
    let (bytes, _) = executable();
    for at in [0, 64, bytes.len() / 2, bytes.len() - TRAILER_SIZE] {
        let mut longer = bytes.clone();
        longer.splice(at..at, [0; 64]);
        assert_eq!(read_everything(longer), None, "inserted at {at}");
    }
    // Appended bytes hide the trailer, but the section leads to it; nothing that is covered has changed.
    let appended = Payload::open([bytes, vec![7; 100]].concat()).unwrap();
    appended.verify().unwrap();
}

#[test]
fn later_versions_and_features_are_refused_by_name() {
    let bare = write_bare(&[&sample_tar()], 1);
    let change = |at: usize, value: u8| {
        let mut bytes = bare.clone();
        let trailer = bytes.len() - TRAILER_SIZE;
        bytes[trailer + at] = value;
        let checksum = Digest::of(&bytes[trailer..trailer + TRAILER_SIZE - 32]);
        bytes[trailer + TRAILER_SIZE - 32..].copy_from_slice(checksum.as_bytes());
        Payload::open(bytes).map(|payload| payload.trailer().compatible)
    };
    assert!(matches!(change(8, 2), Err(OpenError::Trailer(TrailerError::Version(2)))));
    assert!(matches!(change(16, 1), Err(OpenError::Trailer(TrailerError::Features(1)))));
    assert!(matches!(change(24, 1), Ok(1)));
}

/// The raw index of a payload, and the frames before it.
fn parts(bare: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let payload = Payload::open(bare).unwrap();
    let trailer = *payload.trailer();
    let (frames, rest) = bare.split_at(trailer.index_offset as usize);
    let raw =
        zstd::bulk::decompress(&rest[..trailer.index_stored as usize], trailer.index_raw as usize).unwrap();
    (frames.to_vec(), raw)
}

#[test]
fn huge_counts_in_an_index_are_refused_before_anything_is_allocated() {
    let (frames, raw) = parts(&write_bare(&[&sample_tar()], 1));
    Index::parse(&raw, frames.len() as u64).unwrap();
    for field in 0..6 {
        for value in [u32::MAX, u32::MAX / 36, 1 << 31, 0] {
            let mut hostile = raw.clone();
            hostile[8 + field * 4..][..4].copy_from_slice(&value.to_le_bytes());
            assert!(Index::parse(&hostile, frames.len() as u64).is_err(), "field {field}, {value}");
        }
    }
    assert!(Index::parse(&raw, frames.len() as u64 + 1).is_err());
    assert!(Index::parse(&raw[..raw.len() - 1], frames.len() as u64).is_err());
    assert!(Index::parse(&[raw.clone(), vec![0]].concat(), frames.len() as u64).is_err());
    assert!(Index::parse(b"", 0).is_err());
}

/// The writer of the index is the attacker here: hashes are right, contents are not.
#[test]
fn mutated_indexes_never_panic_and_never_give_a_wrong_layer() {
    let tar = sample_tar();
    let (frames, raw) = parts(&write_bare(&[&tar, &[tar.clone(), tar.clone()].concat()], 1));
    let mut numbers = Numbers(11);
    let (mut parsed, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut index = raw.clone();
        for _ in 0..=numbers.below(3) {
            // Mostly the tables, not the JSON behind them.
            let at = numbers.below((index.len() - 4).min(1400)) / 4 * 4;
            let value = match numbers.below(4) {
                0 => numbers.number() as u32,
                1 => numbers.below(300) as u32,
                2 => u32::MAX - numbers.below(3) as u32,
                _ => u32::from_le_bytes(index[at..at + 4].try_into().unwrap()).wrapping_add(1),
            };
            index[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let (tail, _) = seal(&index, frames.len() as u64, Level::new(1).unwrap()).unwrap();
        let Ok(payload) = Payload::open([frames.clone(), tail].concat()) else {
            refused += 1;
            continue;
        };
        parsed += 1;
        let _ = payload.verify();
        for layer in payload.index().layers() {
            let mut tar = Vec::new();
            let length = layer.tar_length;
            let read = payload.layer(&layer.diff_id).unwrap().take(1 << 20).read_to_end(&mut tar);
            assert!(read.is_err() || tar.len() as u64 == length.min(1 << 20));
            let right = Digest::of(&tar) == layer.diff_id;
            assert_eq!(right, payload.verify_layer(&layer.diff_id).is_ok());
            for body in payload.layer(&layer.diff_id).unwrap().bodies() {
                let covered: u64 = body.parts().map(|part| part.frame_range.len() as u64).sum();
                assert_eq!(covered, body.length());
            }
        }
    }
    assert!(parsed > 50 && refused > 500, "{parsed} parsed, {refused} refused");
}

#[test]
fn frames_that_decompress_to_more_or_less_are_refused() {
    let (frames, raw) = parts(&write_bare(&[&sample_tar()], 1));
    let stored = u32::from_le_bytes(raw[128..132].try_into().unwrap()) as usize;
    let frame = zstd::bulk::decompress(&frames[..stored], 1 << 20).unwrap();
    for content in [&frame[1..], &[&frame[..], b"x"].concat(), &vec![0; 1 << 30]] {
        let bomb = zstd::bulk::compress(content, 1).unwrap();
        let mut index = raw.clone();
        index[128..132].copy_from_slice(&(bomb.len() as u32).to_le_bytes());
        index[144..176].copy_from_slice(Digest::of(&bomb).as_bytes());
        let frames = [&bomb, &frames[stored..]].concat();
        let (tail, _) = seal(&index, frames.len() as u64, Level::new(1).unwrap()).unwrap();
        let payload = Payload::open([frames, tail].concat()).unwrap();
        let error = payload.verify().unwrap_err().to_string();
        assert!(error.contains("frame 0 does not decompress"), "{error}");
    }
}
