//! Container logs as they lie on disk: Docker's json-file format, one object a line, written by the shim.
//!
//!     {"log":"hello\n","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}
//!
//! Nobody has to be alive to read them, and the reader never waits for the writer: it stops at the last complete line
//! and goes on from there. A long line comes in several objects; only the last one's text ends in a newline.

mod follow;
mod merge;
mod reader;

pub(crate) use follow::Follower;
pub(crate) use merge::Merged;
pub(crate) use reader::{Line, Reader, Start, Stream};
