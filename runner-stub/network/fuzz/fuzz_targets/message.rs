//! A message of a client to the network process, or its answer. What must be true of it is said in `dpack_network::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dpack_network::fuzz::request(bytes);
    dpack_network::fuzz::answer(bytes);
});
