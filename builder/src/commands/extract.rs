//! `dpack extract`: the digest of the manifest on standard output.

use std::path::Path;

use anyhow::Result;
use dpack::extract::{Compression, extract, find};
use dpack::inspect::open;

use crate::args::{ExtractArguments, LayerCompression};
use crate::failure::Usage;
use crate::text::print;
use crate::{settings, signals};

pub(crate) fn run(arguments: &ExtractArguments) -> Result<()> {
    let usage = || {
        Usage::new(
            format!("`{}` is not a place for an image", arguments.output),
            "write it as -o oci:DIR[:REF]",
        )
    };
    let output = arguments.output.strip_prefix("oci:").filter(|rest| !rest.is_empty()).ok_or_else(usage)?;
    let (folder, name) = output.split_once(':').map_or((output, None), |(folder, name)| (folder, Some(name)));
    let platform = arguments.platform.as_deref().map(settings::platform).transpose()?;
    let payload = open(&arguments.file)?;
    let image = find(&payload.application().images, &arguments.image, platform.as_ref())?;
    let compression = match arguments.compression {
        LayerCompression::None => Compression::None,
        LayerCompression::Gzip => Compression::Gzip,
        LayerCompression::Zstd => Compression::Zstd,
    };
    let cancel = signals::cancel_on_signal();
    let digest = extract(&payload, image, Path::new(folder), name, compression, &cancel)?;
    print(&format!("{digest}\n"))
}
