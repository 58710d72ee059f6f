//! Images: written by hand for one test, or real software from Debian packages, for every platform.
//!
//! ```text
//! Layer (tar bytes) ─┐
//! Layer …           ─┴─> Image (one platform: config, manifest, blobs) ─┐
//!                        Image …                                        ─┴─> Index ─> an OCI layout folder,
//!                                                                                     or a registry's storage
//! ```
//!
//! Nothing here checks what it is given: hostile layers are made with the same calls as honest ones.

mod debian;
mod image;
mod index;
mod layer;
mod layout;

pub use debian::{busybox, clients, nginx, postgres, redis};
pub use image::{Blob, Compression, Image};
pub use index::{Format, Index};
pub use layer::Layer;
