//! Where layers come from: the two questions that extraction asks of a payload.
//!
//! A layer is its tar cut in two: the *skeleton* (headers, padding, small bodies) and *bodies*, lists of chunks that lie in
//! frames (FORMAT.md, "Layers"). Extraction reads the skeleton, then goes through the frames, each of them once.

use std::io;

use dpack_payload::digest::DiffId;

/// What extraction needs of a payload.
pub trait Source: Sync {
    /// What one thread keeps between two frames: buffers, a decompression context.
    type Decoder: Send;

    /// A decoder for one thread.
    fn decoder(&self) -> io::Result<Self::Decoder>;

    /// Skeleton and bodies of a layer.
    fn layer(&self, diff_id: &DiffId) -> io::Result<Layer>;

    /// Uncompressed size of a layer's tar, without reading the layer.
    fn tar_length(&self, diff_id: &DiffId) -> io::Result<u64>;

    /// The decompressed bytes of a frame, verified.
    fn frame<'a>(&self, decoder: &'a mut Self::Decoder, frame: u32) -> io::Result<&'a [u8]>;
}

/// One layer, cut in two.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// The tar without the bodies.
    pub skeleton: Vec<u8>,
    /// The bodies, by ascending position.
    pub bodies: Vec<Body>,
}

/// One file body of a layer.
#[derive(Clone, Debug)]
pub struct Body {
    /// Where in the skeleton the body was cut out.
    pub position: u64,
    /// Its pieces, in order.
    pub chunks: Vec<Chunk>,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The frame that holds it.
    pub frame: u32,
    /// Where it begins in the decompressed frame.
    pub offset: u32,
    /// Its length.
    pub length: u32,
}
