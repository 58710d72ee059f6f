//! The command line: clap types, nothing else. What they mean is decided in `settings`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turns a Docker Compose application into one static executable per architecture.
#[derive(Debug, Parser)]
#[command(name = "dpack", version, about, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pull the application's images and write one executable for each platform
    Build(Box<BuildArguments>),
    /// Show what is in an executable
    Inspect(InspectArguments),
    /// Write an image of an executable as an OCI layout
    Extract(ExtractArguments),
    /// Look after the cache of blobs and compressed frames
    Cache(CacheArguments),
    /// Check the Compose files and print the application they mean
    Config(ConfigArguments),
    /// Show the version
    Version(VersionArguments),
}

/// Which Compose files are meant.
#[derive(Debug, Args)]
pub(crate) struct ComposeArguments {
    /// Compose file; searched for as compose.yaml, compose.yml, docker-compose.yml when none is given
    #[arg(value_name = "COMPOSE_FILE", conflicts_with = "file")]
    pub(crate) compose_file: Option<PathBuf>,
    /// Compose file; several are merged in this order
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// Name of the project
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project_name: Option<String>,
    /// Folder that relative paths in the Compose files start from
    #[arg(long, value_name = "DIR")]
    pub(crate) project_directory: Option<PathBuf>,
    /// Variables to use, and to carry as defaults, instead of `.env`
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Carry only services without a profile and those of this one; by default all of them travel
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    #[command(flatten)]
    pub(crate) compose: ComposeArguments,
    /// Platforms to build for; by default all that this dpack has a runner for
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// Folder for the executables
    #[arg(short, long, value_name = "DIR", default_value = "dist")]
    pub(crate) output: PathBuf,
    /// Take an image from files: NAME=oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF]
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(crate) from: Vec<String>,
    /// Program that makes the images of `build:`; by default the first of them that is installed
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) builder: Option<ImageTool>,
    /// Let this secret's file travel, too; otherwise it has to be on the device
    #[arg(long, value_name = "NAME")]
    pub(crate) embed_secret: Vec<String>,
    /// Most that files of the project folder may take, such as 200MiB; by default 64 MiB
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_project_files: Option<String>,
    /// From 1 (fast) to 22 (small); the default is balanced, 19 and up are for releases
    #[arg(long, value_name = "LEVEL")]
    pub(crate) compression_level: Option<String>,
    /// Registry that may be spoken to without TLS
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
    /// Certificate authority to trust, besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Vec<PathBuf>,
    /// Credential file to use instead of Docker's and podman's
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// Threads for compression; by default one for each processor
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Show nothing but warnings and errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// What to print on standard output
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub(crate) format: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The executable
    pub(crate) file: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub(crate) format: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct ExtractArguments {
    /// The executable
    pub(crate) file: PathBuf,
    /// Reference of the image, or the name of a service
    #[arg(long, value_name = "NAME")]
    pub(crate) image: String,
    /// Platform of the image, when there are several
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Where to write it
    #[arg(short, long, value_name = "oci:DIR[:REF]")]
    pub(crate) output: String,
    /// How to compress the layers
    #[arg(long, value_enum, default_value_t = LayerCompression::Gzip)]
    pub(crate) compression: LayerCompression,
}

#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List what the cache holds
    Ls {
        /// How to print it
        #[arg(long, value_enum, default_value_t = ListFormat::Text)]
        format: ListFormat,
    },
    /// Remove what was not used for longest
    Prune {
        /// Remove everything
        #[arg(long, conflicts_with = "keep")]
        all: bool,
        /// Size to shrink the cache to, such as 5GB; by default the cache's limit
        #[arg(long, value_name = "SIZE")]
        keep: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(flatten)]
    pub(crate) compose: ComposeArguments,
    /// How to print it
    #[arg(long, value_enum, default_value_t = ConfigFormat::Yaml)]
    pub(crate) format: ConfigFormat,
    /// Check only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArguments {
    /// How to print it
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub(crate) format: ListFormat,
}

/// Programs that make images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageTool {
    /// `docker buildx build`
    Docker,
    /// `buildah build`
    Buildah,
    /// `podman build`
    Podman,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// How a Compose model is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFormat {
    /// As a Compose file
    Yaml,
    /// The same as JSON
    Json,
}

/// How layers of an extracted image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayerCompression {
    /// Not at all
    None,
    /// As every tool reads it
    Gzip,
    /// Smaller, for newer tools
    Zstd,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
