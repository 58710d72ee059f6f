//! The project's network: namespace, bridges, names, published ports.
//!
//! ```text
//!   host's network namespace │ project's network namespace N         │ container's
//!                            │                                       │
//!                            │   DNS ── bridge 172.18.0.1/16 ── veth ┼─ eth0 172.18.0.2
//!   client ── published port ┼───────────────────────────────────────┼─ socket
//!   internet ─────── sockets ┼─ splice ─ kernel's TCP ── bridge ─ veth ┼─ client
//! ```
//!
//! One process per project ([`serve`]) owns it all; the supervisor tells it what to do by a [`Client`]. Bridges and
//! veths are the kernel's and stay when the process dies, as long as a shim lives in N; a new process joins N and finds
//! addresses and subnets by looking at the links. Names and listeners are told anew by the supervisor.
//!
//! Deliberately absent: starting the process (the binary does, inside the project's user namespace) and the content of
//! the container's `resolv.conf` and `hosts` (whoever writes them has the data from [`Attached`]).
#![forbid(unsafe_code)]

mod client;
pub mod egress;
mod failure;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod names;
mod ports;
mod protocol;
mod server;
mod socket_path;
mod topology;

pub use client::{Client, ClientError};
pub use egress::HOST_GATEWAY;
pub use failure::Failure;
pub use ports::port_owner;
pub use protocol::{
    Attach, Attached, ContainerStatus, Interface, Membership, NetworkConfig, NetworkStatus, Pool, Port,
    Protocol, Published, Status, VERSION,
};
pub use server::{ServeError, ServeOptions, remove_leftovers, serve, try_out};
pub use topology::{NETWORKS, uplink};
