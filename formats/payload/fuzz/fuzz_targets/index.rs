//! Any bytes as a raw index: parsing neither panics nor allocates more than a small multiple of the input, and what is
//! accepted keeps the invariants on which the readers rely.
#![no_main]

use dpack_payload::Index;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((length, raw)) = data.split_first_chunk() else { return };
    let frames_length = u64::from(u32::from_le_bytes(*length));
    let Ok(index) = Index::parse(raw, frames_length) else { return };
    let mut offset = 0;
    for (number, frame) in (0..).zip(index.frames()) {
        assert_eq!(frame.offset, offset);
        offset += u64::from(frame.stored_length);
        let chunks = &index.chunks()[frame.first_chunk as usize..][..frame.chunk_count as usize];
        assert!(chunks.iter().all(|chunk| chunk.frame.0 == number));
        assert_eq!(chunks.iter().map(|chunk| chunk.length).sum::<u32>(), frame.raw_length);
    }
    assert_eq!(offset, frames_length);
    for layer in index.layers() {
        assert_eq!(index.layer(&layer.diff_id), Some(layer));
    }
});
