//! The dpack payload format.

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

pub use elf::SECTION_NAME;
pub use frame::{FrameDecoder, FrameError};
pub use index::{Chunk, ChunkId, Frame, FrameId, Head, Index, IndexError, Layer};
pub use layer::{Body, LayerReader, Part};
pub use layout::{TRAILER_SIZE, Trailer, TrailerError, VERSION};
pub use payload::{Found, OpenError, Payload};
pub use read_at::ReadAt;
