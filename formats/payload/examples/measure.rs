//! Prints how small and how fast: `cargo run --release -p dpack-payload --example measure -- LEVEL TAR…`.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::time::Instant;

use dpack_payload::application::Application;
use dpack_payload::write::{Level, PayloadWriter, Place, compress_frame, plan_frames, split};
use dpack_payload::{FrameDecoder, FrameId, Payload, ReadAt};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let level: Level = arguments.next().ok_or("usage: measure LEVEL TAR…")?.parse()?;
    let paths: Vec<String> = arguments.collect();
    let start = Instant::now();
    let mut layers = Vec::new();
    for path in &paths {
        layers.push((split(File::open(path)?)?, File::open(path)?));
    }
    let size: u64 = layers.iter().map(|(recipe, _)| recipe.tar_length).sum();
    let report = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        println!("{what:10} {seconds:8.2} s {:8.1} MB/s", size as f64 / 1e6 / seconds);
    };
    report("split", start);

    let start = Instant::now();
    let mut writer = PayloadWriter::new(BufWriter::new(Cursor::new(Vec::new())), None, level)?;
    for plan in plan_frames(layers.iter().map(|(recipe, _)| recipe), level) {
        let frame = compress_frame(&plan, |chunk, buffer| {
            let layer = layers.iter().find(|(recipe, _)| recipe.diff_id == chunk.source.layer);
            let (recipe, tar) = layer.ok_or(std::io::ErrorKind::NotFound)?;
            match chunk.source.place {
                Place::Skeleton(offset) => recipe.skeleton.read_exact_at(buffer, offset),
                Place::Tar(offset) => tar.read_exact_at(buffer, offset),
            }
        })?;
        writer.frame(&plan, &frame)?;
    }
    report("compress", start);
    for (recipe, _) in &layers {
        writer.layer(recipe)?;
    }
    let application = Application {
        name: "measure".to_owned(),
        compose: serde_json::Value::Null,
        environment: Default::default(),
        images: Vec::new(),
        builder: String::new(),
    };
    let start = Instant::now();
    let (mut out, summary) = writer.finish(&application)?;
    out.flush()?;
    report("index", start);
    println!("{summary:?}");

    let bytes = out.into_inner()?.into_inner();
    let start = Instant::now();
    let payload = Payload::open(bytes)?;
    report("open", start);
    let start = Instant::now();
    let mut decoder = FrameDecoder::new()?;
    for frame in 0..summary.frames {
        payload.read_frame(FrameId(frame), &mut decoder)?;
    }
    report("decode", start);
    Ok(())
}
