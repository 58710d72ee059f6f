//! Reading JSON, always in the same way.
//!
//! serde generates the code that reads a type once for every source: bytes, text, a stream, a `Value`, the buffer that
//! `#[serde(flatten)]` needs. For a whole project that is 100 KB a time, so that every type is read from bytes only.

use std::io::Read;

use serde::de::DeserializeOwned;

/// Reads a value that is all there.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

/// Reads a value until the end of a stream.
pub(crate) fn read<T: DeserializeOwned>(mut stream: impl Read) -> serde_json::Result<T> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(serde_json::Error::io)?;
    decode(&bytes)
}
