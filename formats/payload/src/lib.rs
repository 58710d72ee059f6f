//! The dpack payload format: what travels behind the runner in an executable. FORMAT.md is the specification.
//!
//! ```text
//! stub ELF | padding | frames … | index | trailer
//! ```
//!
//! The reader is always there; what only the builder needs is in [`mod@write`], behind the feature of that name.
//!
//! # Reading
//!
//! To extract a layer, walk its tar for the entries (which decompresses the skeleton's frames only), collect the pieces of
//! all file bodies by frame, then let threads take one frame after the other and write out what lies in it. A single file
//! can be read at random through [`Body::read_at`] or [`LayerReader::read_at`], by way of a cache.
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::{fs::File, io};
//!
//! use dpack_payload::{FrameDecoder, Payload};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let payload = Payload::open(File::open("/proc/self/exe")?)?;
//! for diff_id in &payload.application().images[0].layers {
//!     let layer = payload.layer(diff_id).ok_or("no such layer")?;
//!     let bodies = payload.layer(diff_id).ok_or("no such layer")?;
//!     let mut work = BTreeMap::new();
//!     for entry in tar::Archive::new(layer).entries_with_seek()? {
//!         let mut entry = entry?;
//!         // … make directories, links, devices …
//!         match bodies.body_at(entry.raw_file_position()) {
//!             Some(body) if body.length() == entry.size() => {
//!                 let file = work.len(); // … create the file …
//!                 for part in body.parts() {
//!                     work.entry(part.frame).or_insert_with(Vec::new).push((file, part));
//!                 }
//!             }
//!             // Tiny files, and whatever the builder's tar parser understood otherwise.
//!             _ => drop(io::copy(&mut entry, &mut io::sink())?),
//!         }
//!     }
//!     let mut decoder = FrameDecoder::new()?; // one for each thread
//!     for (frame, parts) in work {
//!         let bytes = payload.read_frame(frame, &mut decoder)?;
//!         for (_file, part) in parts {
//!             let _content = &bytes[part.frame_range]; // … write_all_at(content, part.offset) …
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Writing
//!
//! Splitting, planning and compressing are apart, so that recipes and compressed frames can be cached and frames
//! compressed in parallel. When all frames of a plan are in the cache, the tars are not needed at all.
//!
//! ```
//! # #[cfg(feature = "write")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::io::Cursor;
//!
//! use dpack_payload::write::{Level, Place, PayloadWriter, compress_frame, plan_frames, split};
//! use dpack_payload::{Payload, ReadAt};
//! # use dpack_payload::application::Application;
//!
//! # let tar = vec![b'x'; 3000];
//! # let application = Application { name: "shop".into(), compose: "{}".into(), environment: Default::default(),
//! #     images: Vec::new(), builder: "0".into() };
//! let level = Level::default();
//! let recipe = split(tar.as_slice())?; // LayerRecipe::encode for a cache
//! let out = Cursor::new(Vec::new()); // a file; with a stub: Some(StubHead::new(&stub, machine)?)
//! let mut writer = PayloadWriter::new(out, None, level)?;
//! for plan in plan_frames([&recipe], level) {
//!     // Look for `plan.key` in the cache (StoredFrame::from_sealed); otherwise, in any thread:
//!     let frame = compress_frame(&plan, |chunk, buffer| match chunk.source.place {
//!         Place::Skeleton(offset) => recipe.skeleton.read_exact_at(buffer, offset),
//!         Place::Tar(offset) => tar.read_exact_at(buffer, offset),
//!     })?;
//!     writer.frame(&plan, &frame)?;
//! }
//! writer.layer(&recipe)?;
//! let (out, summary) = writer.finish(&application)?;
//! let payload = Payload::open(out.into_inner())?;
//! assert_eq!(payload.digest(), summary.digest);
//! payload.verify()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "write"))]
//! # fn main() {}
//! ```

#![forbid(unsafe_code)]

pub mod application;
mod cache;
pub mod digest;
mod elf;
mod frame;
mod index;
mod layer;
mod layout;
pub mod limits;
mod payload;
pub mod platform;
mod read_at;
mod verify;
#[cfg(feature = "write")]
pub mod write;

pub use elf::SECTION_NAME;
pub use frame::{FrameDecoder, FrameError};
pub use index::{Chunk, ChunkId, Frame, FrameId, Head, Index, IndexError, Layer};
pub use layer::{Body, LayerReader, Part};
pub use layout::{TRAILER_SIZE, Trailer, TrailerError, VERSION};
pub use payload::{Found, OpenError, Payload};
pub use read_at::ReadAt;
pub use verify::{HeadState, VerifyError};
