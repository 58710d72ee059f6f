//! A profile of seccomp. What must be true of it is said in `dpack_sandbox::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| dpack_sandbox::fuzz::profile(bytes));
