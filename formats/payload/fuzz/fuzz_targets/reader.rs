//! Any bytes as a file, and any bytes as frames and index with the right hashes: reading everything neither panics nor
//! allocates without bound, and `verify_layer` accepts no tar but the one with the layer's diff ID.
#![no_main]

use std::io::Read;

use dpack_payload::Payload;
use dpack_payload::digest::Digest;
use dpack_payload::write::{Level, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    read_everything(data);
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let Some((frames, index)) = rest.split_at_checked(u16::from_le_bytes(*length).into()) else { return };
    let level = Level::new(1).expect("1 is a level");
    let (tail, _) = seal(index, frames.len() as u64, level).expect("memory suffices");
    read_everything(&[frames, &tail].concat());
});

fn read_everything(file: &[u8]) {
    let Ok(payload) = Payload::open(file) else { return };
    let _ = payload.verify();
    for layer in payload.index().layers() {
        if layer.tar_length > 8 << 20 {
            continue;
        }
        let reader = payload.layer(&layer.diff_id).expect("the index lists it");
        for body in reader.bodies() {
            let covered: u64 = body.parts().map(|part| part.frame_range.len() as u64).sum();
            assert_eq!(covered, body.length());
            assert_eq!(reader.body_at(body.offset()).map(|body| body.length()), Some(body.length()));
        }
        let mut tar = Vec::new();
        if payload.layer(&layer.diff_id).expect("the index lists it").read_to_end(&mut tar).is_ok() {
            assert_eq!(tar.len() as u64, layer.tar_length);
            assert_eq!(payload.verify_layer(&layer.diff_id).is_ok(), Digest::of(&tar) == layer.diff_id);
        }
    }
}
