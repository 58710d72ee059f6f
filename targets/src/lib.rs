//! What dpack can build for: one table, and the runner stub of each row.
//!
//! ```text
//! OCI platform ─┬─ suffix of the executable      shop-arm64
//!               ├─ Rust triple ── stub           embedded, or $DPACK_STUB_DIR/<triple>/dpack-runner
//!               ├─ ELF class and machine         what a stub must say it is
//!               ├─ C compiler                    for the C code in stubs
//!               └─ emulator, Debian kernel       a device for the tests
//! ```
//!
//! Portable: a laptop with another operating system builds for Linux devices too. Other parts of the project ask this
//! crate; a new architecture is a new row.

#![forbid(unsafe_code)]

#[cfg(feature = "stubs")]
pub mod stubs;
mod table;

#[cfg(feature = "stubs")]
pub use stubs::{StubError, stub};
pub use table::{C_FLAGS, CCompiler, ElfIdentity, Emulator, RUST_FLAGS, TARGETS, Target};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_distinct_in_everything_that_selects_one() {
        let distinct = |column: fn(&Target) -> String| {
            assert_eq!(TARGETS.iter().map(column).collect::<BTreeSet<_>>().len(), TARGETS.len());
        };
        distinct(|target| target.platform.to_owned());
        distinct(|target| target.suffix.to_owned());
        distinct(|target| target.triple.to_owned());
        distinct(|target| target.debian.to_owned());
        distinct(|target| format!("{:?}", target.elf));
    }

    #[test]
    fn elf_identity_needs_a_whole_little_endian_header() {
        let mut header = [0_u8; 20];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18..].copy_from_slice(&183_u16.to_le_bytes());
        assert_eq!(ElfIdentity::of(&header), Target::for_platform("linux/arm64").map(|target| target.elf));
        assert_eq!(ElfIdentity::of(&header[..19]), None);
        header[5] = 2;
        assert_eq!(ElfIdentity::of(&header), None);
    }

    #[cfg(feature = "stubs")]
    #[test]
    fn platforms_are_in_their_normal_form() {
        for target in TARGETS {
            let platform: dpack_payload::platform::Platform = target.platform.parse().unwrap();
            assert_eq!(platform.to_string(), target.platform);
        }
    }
}
