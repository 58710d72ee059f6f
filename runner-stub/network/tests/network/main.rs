//! The network process with real namespaces: names, isolation, published ports, the way out, and its own sudden death.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests: they fail the test and talk to it"
)]

mod addresses;
mod egress;
mod isolation;
mod names;
mod path;
mod ports;
mod project;
mod soak;
mod source;
mod support;
mod uplink;

/// Not a test: what the others start inside namespaces.
#[test]
fn role() {
    support::roles::play();
}
