//! Compression levels: what the user's 1 to 22 means for zstd and for the size of frames.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The levels there are.
pub const LEVELS: RangeInclusive<u8> = 1..=22;

/// The level of a build that asks for none: the highest that keeps 25 MB/s of input a core.
pub const DEFAULT_LEVEL: Level = Level(9);

/// A compression level: zstd's of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

/// Why a text is no level.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a compression level; expected 1 to 22")]
pub struct ParseLevelError(pub String);

impl Level {
    /// A level from 1 to 22.
    pub fn new(level: u8) -> Option<Self> {
        LEVELS.contains(&level).then_some(Self(level))
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Raw bytes that a frame aims at. Small frames give short starts and fine-grained random access and deltas; large
    /// ones compress better (FORMAT.md, "Frame sizes", has the measurements).
    pub(crate) const fn frame_target(self) -> u32 {
        match self.0 {
            0..=5 => 2 << 20,
            6..=18 => 4 << 20,
            _ => 16 << 20,
        }
    }
}

impl Default for Level {
    fn default() -> Self {
        DEFAULT_LEVEL
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| ParseLevelError(text.chars().take(20).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_outside_1_to_22_are_refused() {
        assert_eq!("1".parse(), Ok(Level(1)));
        assert_eq!("22".parse(), Ok(Level(22)));
        for bad in ["0", "23", "-1", "", "best", "1000"] {
            assert!(bad.parse::<Level>().is_err(), "{bad}");
        }
    }
}
