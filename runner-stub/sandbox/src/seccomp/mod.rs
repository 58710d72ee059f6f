//! Seccomp filters by a small assembler of classic BPF.
//!
//! Own, because the crate for it knows no 32-bit ARM.

mod assembler;
mod numbers;
mod profile;

pub(crate) use assembler::{Action, Architecture, Assembler};
#[cfg(test)]
pub(crate) use assembler::{interpret, interpret_call};
pub(crate) use profile::{Filter, compile};
