//! `doctor`: what this device has of what this application needs.

use anyhow::Result;

use super::super::SUCCESS;
use super::super::args::{Format, Global};

/// `doctor`
pub(crate) fn run(_global: &Global, _format: Format) -> Result<u8> {
    Ok(SUCCESS)
}
