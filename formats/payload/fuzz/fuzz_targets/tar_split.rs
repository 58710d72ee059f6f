//! Any bytes at all are split and come back the same, through a whole payload.
#![no_main]

use std::io::{Cursor, Read};

use dpack_payload::application::Application;
use dpack_payload::digest::Digest;
use dpack_payload::write::{LayerRecipe, Level, PayloadWriter, Place, compress_frame, plan_frames, split};
use dpack_payload::{Payload, ReadAt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|tar: &[u8]| {
    let recipe = split(tar).expect("any bytes can be split");
    assert_eq!(recipe.diff_id, Digest::of(tar));
    assert_eq!(LayerRecipe::decode(&recipe.encode().expect("encodes")).expect("decodes"), recipe);
    let level = Level::new(1).expect("1 is a level");
    let mut writer = PayloadWriter::new(Cursor::new(Vec::new()), None, level).expect("memory suffices");
    for plan in plan_frames([&recipe], level) {
        let frame = compress_frame(&plan, |chunk, buffer| match chunk.source.place {
            Place::Skeleton(offset) => recipe.skeleton.read_exact_at(buffer, offset),
            Place::Tar(offset) => tar.read_exact_at(buffer, offset),
        });
        writer.frame(&plan, &frame.expect("compresses")).expect("fits");
    }
    writer.layer(&recipe).expect("all chunks are there");
    let application = Application {
        name: String::new(),
        compose: Default::default(),
        environment: Default::default(),
        images: Vec::new(),
        builder: String::new(),
    };
    let (file, _) = writer.finish(&application).expect("fits");
    let payload = Payload::open(file.into_inner()).expect("opens");
    let mut back = Vec::new();
    payload.layer(&recipe.diff_id).expect("is there").read_to_end(&mut back).expect("reads");
    assert!(back == tar, "the tar came back changed");
    payload.verify().expect("verifies");
});
