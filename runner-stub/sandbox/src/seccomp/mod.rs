//! Seccomp filters: a small assembler of classic BPF, and the filter for user namespaces with a single ID.
//!
//! Own, because the crate for it knows no 32-bit ARM.

mod assembler;
mod fake_ownership;

pub(crate) use fake_ownership::filter as fake_ownership;
