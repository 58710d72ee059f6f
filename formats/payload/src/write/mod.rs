//! Writing payloads, in stages that the caller strings together, so that it can cache and run them in parallel:
//!
//! ```text
//! tar -> split -> LayerRecipe ─┐
//!                              ├─ plan_frames -> FramePlan -> compress_frame -> StoredFrame ─┐
//! tar -> split -> LayerRecipe ─┘                                                             │
//! stub -> StubHead ───────────────────────────────────────────────────────> PayloadWriter <──┘
//! ```
//!
//! Same inputs, same bytes: nothing here looks at a clock, a path of this machine, or the order of a hash map.

mod compress;
mod encode;
mod level;
mod plan;
mod recipe;
mod splice;
mod split;
mod tar_header;
mod writer;

pub use compress::{CompressError, StoredFrame, compress_frame};
pub use level::{DEFAULT_LEVEL, LEVELS, Level, ParseLevelError};
pub use plan::{ChunkSource, FramePlan, Place, PlannedChunk, plan_frames};
pub use recipe::{BodyRecipe, ChunkRecipe, LayerRecipe, RecipeError, Skeleton};
pub use splice::{SpliceError, StubHead};
pub use split::split;
pub use writer::{PayloadWriter, Summary, WriteError, seal};
