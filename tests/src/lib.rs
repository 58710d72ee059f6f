//! What the integration tests are written with: a real registry, real images, a real device, a real kernel.
//!
//! ```text
//! let registry = Registry::start()?;                     docker-registry on a free loopback port
//! registry.serve("shop/web:1", &images::nginx()?)?;      a real multi-platform image
//! let device = Device::host()?;                          an ordinary user with an empty home
//! let app = device.install(&built)?;
//! device.run(&[&app, "up", "-d"])?.success()?;
//! Vm::arm64().user().file(&built).run("./in/shop-arm64 up -d")?;    a Debian kernel under emulation
//! ```
//!
//! A test begins with [`needs()`]: what is missing makes it visibly skipped, and fail in CI.

#![forbid(unsafe_code)]

mod device;
mod dpack;
mod handmade;
pub mod images;
pub mod judges;
mod labels;
mod needs;
mod output;
mod peers;
mod programs;
mod proxy;
mod registry;
mod sections;
mod storage;
mod tls;
mod vm;
mod wait;

pub use device::Device;
pub use dpack::Dpack;
pub use handmade::Handmade;
pub use needs::{Need, needs};
pub use output::Output;
pub use peers::Peers;
pub use programs::{cache, outside_address, probe, stubs, workspace};
pub use proxy::{Mood, Proxy};
pub use registry::{Registry, Settings};
pub use sections::Sections;
pub use vm::{DataDisk, Machine, Vm};
pub use wait::wait_until;
