//! A datagram of the kernel about its links. What must be true of it is said in `dpack_network::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| dpack_network::fuzz::netlink(bytes));
