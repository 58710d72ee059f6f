//! `verify`: every byte of this file against its digests.

use anyhow::{Context as _, Result};
use dpack_payload::{FrameDecoder, FrameId, VerifyError};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::SUCCESS;
use super::super::args::Format;
use super::super::output;
use crate::failure::{Context as _, Failure};
use crate::payload::Executable;

/// `verify`
pub(crate) fn run(format: Format) -> Result<u8> {
    let executable = Executable::own()?;
    let problems = problems(&executable)?;
    let index = executable.payload().index();
    let (frames, layers) = (index.frames().len(), index.layers().len());
    if format.json() {
        output::print_json(&json!({
            "intact": problems.is_empty(),
            "payload": executable.payload().digest().to_string(),
            "frames": frames,
            "layers": layers,
            "problems": problems,
        }))?;
    } else if problems.is_empty() {
        output::print(&format!("intact: program, index, {frames} frames, {layers} layers\n"));
    } else {
        output::print(&problems.iter().map(|problem| format!("{problem}\n")).collect::<String>());
    }
    match problems.len() {
        0 => Ok(SUCCESS),
        _ => Err(Failure::input(format!("{} of this file's parts are damaged", problems.len()))
            .hint("copy the file again")
            .into()),
    }
}

/// Frames first, by all processors; layers only when their frames are whole, because one damaged frame would be told of
/// once for each layer.
fn problems(executable: &Executable) -> Result<Vec<String>> {
    let payload = executable.payload();
    let mut problems = Vec::new();
    if let Err(error) = payload.verify_head() {
        problems.push(told(error));
    }
    let count = u32::try_from(payload.index().frames().len()).context("there are too many frames")?;
    problems.extend(in_threads(count, |next| {
        let mut decoder = FrameDecoder::new().context("failed to prepare decompression").environment()?;
        let mut damaged = Vec::new();
        for frame in next {
            if let Err(error) = payload.verify_frame(FrameId(frame), &mut decoder) {
                damaged.push(told(error));
            }
        }
        Ok(damaged)
    })?);
    if problems.is_empty() {
        let layers = payload.index().layers();
        let count = u32::try_from(layers.len()).context("there are too many layers")?;
        problems.extend(in_threads(count, |next| {
            let damaged =
                next.filter_map(|number| payload.verify_layer(&layers[number as usize].diff_id).err());
            Ok(damaged.map(told).collect())
        })?);
    }
    Ok(problems)
}

/// In one line.
fn told(error: VerifyError) -> String {
    Failure::of(&error.into()).message
}

/// Runs `work` in one thread for each processor; each takes the next number that nobody has taken.
fn in_threads(
    count: u32,
    work: impl Fn(&mut dyn Iterator<Item = u32>) -> Result<Vec<String>> + Sync,
) -> Result<Vec<String>> {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    let mut numbers = std::iter::from_fn(|| {
                        Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count)
                    });
                    work(&mut numbers)
                })
            })
            .collect();
        let mut results = Vec::new();
        for thread in threads {
            results.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread was cut short"))??);
        }
        Ok(results)
    })
}
