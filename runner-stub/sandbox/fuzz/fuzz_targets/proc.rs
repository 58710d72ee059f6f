//! Files of `/proc`, with \u{1} between. What must be true of it is said in `dpack_sandbox::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| dpack_sandbox::fuzz::proc(text));
