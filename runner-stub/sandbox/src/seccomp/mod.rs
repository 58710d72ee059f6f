//! Seccomp filters by a small assembler of classic BPF.
//!
//! Own, because the crate for it knows no 32-bit ARM.

mod assembler;
mod numbers;
mod profile;

pub(crate) use assembler::{Action, Architecture, Assembler};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use assembler::{interpret, interpret_call};
pub(crate) use profile::{Filter, compile};

/// Whether any machine has a call of this name.
#[cfg(test)]
pub(crate) fn is_known(name: &str) -> bool {
    let numbers = numbers::Numbers::read();
    let machines = [Architecture::X86_64, Architecture::I386, Architecture::Aarch64, Architecture::Arm];
    machines.into_iter().any(|machine| numbers.find(name, machine).is_some())
}
