//! What can be typed: clap types only. The names, short forms and meanings are Docker Compose's.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::template::Shown;
use crate::payload::VERSION;

/// Runs the Compose application inside this file. Nothing has to be installed.
#[derive(Debug, Parser)]
#[command(
    disable_version_flag = true,
    version = VERSION,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Examples:\n  up -d              start the application in the background\n  ps                 what runs, and on which ports\n  logs -f web        follow one service\n  exec web sh        a shell in a running container\n  doctor             will it run on this device?\n  down               stop and remove the containers; volumes stay"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags before or after any command; only `-p` comes before it, because `run` has one of its own.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Project name: run a second copy of the application under another name
    #[arg(short = 'p', long, value_name = "NAME", help_heading = "Global options")]
    pub(crate) project_name: Option<String>,
    /// File of variables, instead of `.env` beside this file; can be given several times
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Where layers, volumes and logs are kept
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Profile whose services are active, too; can be given several times
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(crate) profile: Vec<String>,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and start the application
    Up(Box<Up>),
    /// Stop and remove containers and networks
    Down(Down),
    /// Create containers without starting them
    Create(Create),
    /// Start stopped containers
    Start(Services),
    /// Stop containers without removing them
    Stop(Stop),
    /// Restart containers
    Restart(Restart),
    /// Send a signal to containers
    Kill(Kill),
    /// Remove stopped containers
    Rm(Rm),
    /// List containers
    Ps(Ps),
    /// Show the output of containers
    Logs(Logs),
    /// Show what running containers use
    Stats(Stats),
    /// List the processes of running containers
    Top(Services),
    /// Stop all processes of containers, to go on later
    Pause(Services),
    /// Let paused containers go on
    Unpause(Services),
    /// Show what happens to containers, as it happens
    Events(Events),
    /// Wait until containers stop, and print their exit status
    Wait(Wait),
    /// Print the address on which a port of a container is published
    Port(PrivatePort),
    /// Run a command in a running container
    Exec(Exec),
    /// Run a command in a new container of a service
    Run(Box<Run>),
    /// Show what a container writes from now on, and pass on what is typed
    Attach(Attach),
    /// Copy files between a container and the device
    Cp(Cp),
    /// List the images of the application
    Images(Images),
    /// Print the project with every variable filled in
    Config(Config),
    /// Show what is inside this file: platforms, services, images, layers
    Inspect(Format),
    /// Show the project's networks, or record what passes through one
    Network(Network),
    /// Write a service as an OCI bundle, which other runtimes run: config.json and its root file system
    Bundle(Bundle),
    /// Check whether this device can run the application
    Doctor(Doctor),
    /// Check every byte of this file against its digests
    Verify(Format),
    /// Print what a shell needs to complete commands, services and flags
    Completion(Completion),
    /// Print the version
    Version(Version),
}

/// What `up`, `create` and `run` do about limits.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Go on without limits that this device cannot enforce
    #[arg(long)]
    pub(crate) allow_degraded: bool,
}

/// How containers are made by `up` and `create`.
#[derive(Debug, Args)]
pub(crate) struct Making {
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Make containers anew, also those whose configuration is the same
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) force_recreate: bool,
    /// Leave containers as they are, also those whose configuration has changed
    #[arg(long)]
    pub(crate) no_recreate: bool,
    /// Remove containers of services that the application no longer has
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// Number of containers of a service
    #[arg(long, value_name = "SERVICE=N")]
    pub(crate) scale: Vec<String>,
    /// Print the steps and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Accepted, without meaning: images travel in this file
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "missing")]
    pub(crate) pull: Option<String>,
    /// Accepted, without meaning: nothing is built on the device
    #[arg(long, hide = true)]
    pub(crate) no_build: bool,
    /// For scripts written for Docker Compose: nothing is pulled, so nothing is to be quiet about
    #[arg(long, hide = true)]
    pub(crate) quiet_pull: bool,
    /// For scripts written for Docker Compose: nothing is asked
    #[arg(short, long, hide = true)]
    pub(crate) yes: bool,
}

/// `up`
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) making: Making,
    /// Make the containers of what the services depend on anew too
    #[arg(long, conflicts_with = "no_recreate")]
    pub(crate) always_recreate_deps: bool,
    /// Do not start what the services depend on
    #[arg(long)]
    pub(crate) no_deps: bool,
    /// Make containers and start none
    #[arg(long)]
    pub(crate) no_start: bool,
    /// Run in the background; come back when every service runs and is healthy
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest time to wait for that
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_timeout: Option<u32>,
    /// Seconds between the stop signal and SIGKILL, when stopping or replacing a container
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Stop all containers when one exits
    #[arg(long, conflicts_with = "detach")]
    pub(crate) abort_on_container_exit: bool,
    /// Stop all containers when one fails
    #[arg(long, conflicts_with_all = ["detach", "abort_on_container_exit"])]
    pub(crate) abort_on_container_failure: bool,
    /// Exit with the status of this service's container; stops all when one exits
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub(crate) exit_code_from: Option<String>,
    /// Show the output of these services only
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub(crate) attach: Vec<String>,
    /// Do not show the output of these services
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub(crate) no_attach: Vec<String>,
    /// Show the output of what the services depend on, too
    #[arg(long, conflicts_with = "detach")]
    pub(crate) attach_dependencies: bool,
    /// Make anonymous volumes anew with their containers, instead of keeping what is in them
    #[arg(short = 'V', long)]
    pub(crate) renew_anon_volumes: bool,
    /// Show when each line was written
    #[arg(long)]
    pub(crate) timestamps: bool,
    /// Prefixes without colour
    #[arg(long)]
    pub(crate) no_color: bool,
    /// No prefixes
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
    /// Services to start, with what they depend on; all when none is named
    pub(crate) services: Vec<String>,
}

/// `create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) making: Making,
    /// Services, with what they depend on; all when none is named
    pub(crate) services: Vec<String>,
}

/// `down`
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// Remove the volumes too
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Remove containers of services that the application no longer has too
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// Seconds between the stop signal and SIGKILL
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Services; everything when none is named
    pub(crate) services: Vec<String>,
}

/// `rm`
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Stop containers that run first
    #[arg(short, long)]
    pub(crate) stop: bool,
    /// Remove their anonymous volumes too
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `ps`
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Stopped containers too, and those of `run`
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Container IDs only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Names of services only
    #[arg(long = "services")]
    pub(crate) names: bool,
    /// Only containers in this state: created, running, restarting, paused, exited
    #[arg(long, value_name = "STATE")]
    pub(crate) status: Vec<String>,
    /// `status=STATE`, as `--status`
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Whole commands and IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Without containers of services that the application no longer has
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide = true)]
    pub(crate) orphans: bool,
    #[command(flatten)]
    pub(crate) format: Rows,
    /// Services to list; all when none is named
    pub(crate) services: Vec<String>,
}

/// `stats`
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Once only
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Containers that do not run, too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,
    #[command(flatten)]
    pub(crate) format: Rows,
    /// Services to show; all when none is named
    pub(crate) services: Vec<String>,
}

/// `logs`
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on as long as a container runs
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Number of lines from the end of each log, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    pub(crate) tail: String,
    /// Lines since then: RFC 3339, or how long ago, as 42m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Lines up to then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Which container of the services
    #[arg(long, value_name = "N")]
    pub(crate) index: Option<u32>,
    /// No prefixes
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
    /// Prefixes without colour
    #[arg(long)]
    pub(crate) no_color: bool,
    /// Services to show; all when none is named
    pub(crate) services: Vec<String>,
}

/// `events`
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Events since then: RFC 3339, or how long ago, as 42m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Events up to then; ends there
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `port`
#[derive(Debug, Args)]
pub(crate) struct PrivatePort {
    /// Which container of the service
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) index: u32,
    /// tcp or udp
    #[arg(long, default_value = "tcp")]
    pub(crate) protocol: String,
    /// Service
    pub(crate) service: String,
    /// Port inside the container
    pub(crate) private_port: u16,
}

/// `attach`
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Pass no input on
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Which container of the service
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) index: u32,
    /// Pass signals on; with `false`, Ctrl-C ends this command and not the container
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Service
    pub(crate) service: String,
}

/// `cp`
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Keep owners
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a link leads to
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Containers of `run` too
    #[arg(long)]
    pub(crate) all: bool,
    /// Which container of the service
    #[arg(long, value_name = "N")]
    pub(crate) index: Option<u32>,
    /// `SERVICE:PATH`, or a path of the device
    pub(crate) source: String,
    /// The other of the two
    pub(crate) target: String,
}

/// `bundle`
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// Folder that is made, or is empty
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// The service
    pub(crate) service: String,
}

/// `completion`
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
    /// Words typed so far: used by what is printed
    #[arg(last = true, hide = true, allow_hyphen_values = true)]
    pub(crate) words: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `exec`
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Set a variable; `KEY` alone takes it from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Which container of the service
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) index: u32,
    /// No terminal
    #[arg(short = 'T', long)]
    pub(crate) no_tty: bool,
    /// Terminal: the default when standard input and output are one
    #[arg(short, long, hide = true)]
    pub(crate) tty: bool,
    /// Standard input: always connected
    #[arg(short, long, hide = true)]
    pub(crate) interactive: bool,
    /// With all capabilities in the container's user namespace
    #[arg(long)]
    pub(crate) privileged: bool,
    /// User name or number, with `:group`
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Service whose container to enter
    pub(crate) service: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Run in the background and print the container's ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Set a variable; `KEY` alone takes it from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Mount a path of the device or a volume
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Publish a port
    #[arg(short, long, value_name = "[IP:]PUBLISHED:TARGET", conflicts_with = "service_ports")]
    pub(crate) publish: Vec<String>,
    /// Variables of the container from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_from_file: Vec<PathBuf>,
    /// Give a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Show no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// For scripts written for Docker Compose: nothing is pulled
    #[arg(long, hide = true)]
    pub(crate) quiet_pull: bool,
    /// Accepted, without meaning: images travel in this file
    #[arg(long, hide = true)]
    pub(crate) pull: Option<String>,
    /// Publish the ports of the service
    #[arg(short = 'P', long)]
    pub(crate) service_ports: bool,
    /// Answer to the names of the service on its networks
    #[arg(long)]
    pub(crate) use_aliases: bool,
    /// Set a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Do not start what the service depends on
    #[arg(long)]
    pub(crate) no_deps: bool,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Remove containers of services that the application no longer has
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// No terminal
    #[arg(short = 'T', long = "no-TTY", alias = "no-tty")]
    pub(crate) no_tty: bool,
    /// Terminal: the default when standard input and output are one
    #[arg(short, long, hide = true)]
    pub(crate) tty: bool,
    /// Standard input: always connected
    #[arg(short, long, hide = true)]
    pub(crate) interactive: bool,
    /// User name or number, with `:group`
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Service to take image and settings from
    pub(crate) service: String,
    /// Command and its arguments; the service's own when absent
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// `stop`
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Seconds between the stop signal and SIGKILL
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `start`, `wait`
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Remove the project when the first of them has stopped
    #[arg(long)]
    pub(crate) down_project: bool,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `restart`
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Leave alone what depends on the services
    #[arg(long)]
    pub(crate) no_deps: bool,
    /// Seconds between the stop signal and SIGKILL
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `kill`
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    pub(crate) signal: String,
    /// Remove containers of services that the application no longer has
    #[arg(long)]
    pub(crate) remove_orphans: bool,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `images`
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Image digests only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) format: Format,
    /// Services; all when none is named
    pub(crate) services: Vec<String>,
}

/// `config`
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Names of the services only
    #[arg(long)]
    pub(crate) services: bool,
    /// Images only
    #[arg(long)]
    pub(crate) images: bool,
    /// Names of the volumes only
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Names of the networks only
    #[arg(long)]
    pub(crate) networks: bool,
    /// Names of the profiles only
    #[arg(long)]
    pub(crate) profiles: bool,
    /// Variables of the application, their values and where each comes from
    #[arg(long)]
    pub(crate) environment: bool,
    /// Variables of the application as its files have them: which are required, their defaults and alternatives
    #[arg(long)]
    pub(crate) variables: bool,
    /// A hash of each service's configuration, `*` for all: another one makes its containers anew
    #[arg(long, value_name = "SERVICE,…")]
    pub(crate) hash: Option<String>,
    /// Check only, print nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How the project is printed
    #[arg(long, value_parser = ["yaml", "json"], default_value = "yaml")]
    pub(crate) format: String,
}

/// `version`
#[derive(Debug, Default, Args)]
pub(crate) struct Version {
    /// Version number only
    #[arg(long)]
    pub(crate) short: bool,
    /// How data is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
}

/// `network`
#[derive(Debug, Args)]
pub(crate) struct Network {
    #[command(subcommand)]
    pub(crate) command: NetworkCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Show networks with their containers, addresses and published ports
    Inspect(NetworkInspect),
    /// Write the packets of one network to a pcap file, for tcpdump or Wireshark
    Capture(NetworkCapture),
}

/// `network inspect`
#[derive(Debug, Args)]
pub(crate) struct NetworkInspect {
    /// Networks, by their key in the Compose file or by name; all of them when none is named
    pub(crate) networks: Vec<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `network capture`
#[derive(Debug, Args)]
pub(crate) struct NetworkCapture {
    /// Network, by its key in the Compose file or by name
    pub(crate) network: String,
    /// File to write to, `-` for standard output
    #[arg(short = 'w', long, value_name = "FILE")]
    pub(crate) write: PathBuf,
    /// Stop after so many packets; without it, at Ctrl-C
    #[arg(short = 'c', long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// `doctor`
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Doctor {
    /// Look at networks more closely: what the kernel allows, name servers, and what runs now
    #[arg(long)]
    pub(crate) network: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// `--format` of rows
#[derive(Debug, Args)]
pub(crate) struct Rows {
    /// `table`, `json`, or a template: `{{.Name}}`, `{{json .}}`, `table {{.Name}}\t{{.State}}`
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub(crate) format: Shown,
}

/// `--format`
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: OutputFormat,
}

impl Format {
    /// JSON was asked for.
    pub(crate) fn json(self) -> bool {
        self.format == OutputFormat::Json
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people
    #[default]
    Table,
    /// JSON for programs
    Json,
}
