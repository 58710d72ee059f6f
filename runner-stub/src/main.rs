//! The runner: one static program with several roles.
//!
//! | `argv[0]` | role |
//! |---|---|
//! | `dpack-supervisor` | owns a running project ([`supervisor`]) |
//! | `dpack-network` | bridges, names, published ports (`dpack_network`) |
//! | `dpack-run` | makes a one-off container and waits for it ([`command_line`]) |
//! | `dpack-copy` | copies between a container and the device ([`command_line`]) |
//! | `dpack-doctor` | tries overlayfs in a user namespace ([`command_line`]) |
//! | `dpack-shim`, `dpack-exec` | parent of one container's PID 1; joins a container (`dpack_sandbox`) |
//! | `dpack-oci` | goes into the user namespace of a bundle (`dpack_sandbox`) |
//! | `dpack-runner`, or the verb `oci` | the OCI runtime command line ([`command_line::oci`]) |
//! | anything else | the command line ([`command_line`]) |
//!
//! Namespaces, credentials and `fork` belong to a process with one thread: the role is decided before anything else.

#![forbid(unsafe_code)]

mod command_line;
mod container;
mod events;
mod failure;
mod files;
mod health;
mod json;
mod logs;
mod paths;
mod payload;
mod plan;
mod project;
mod protocol;
mod supervisor;
mod time;

use std::process::ExitCode;

fn main() -> ExitCode {
    dpack_sandbox::role::dispatch();
    if let Some(arguments) = command_line::oci::asked(std::env::args_os()) {
        return command_line::oci::main(arguments);
    }
    let role = std::env::args().next().unwrap_or_default();
    let outcome = match role.as_str() {
        supervisor::ROLE => supervisor::main(),
        supervisor::NETWORK_ROLE => supervisor::network_main(),
        command_line::DOCTOR_ROLE => command_line::doctor_main(),
        command_line::COPY_ROLE => return command_line::copy_main(),
        command_line::RUN_ROLE => return command_line::run_main(),
        _ => return command_line::main(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => command_line::fail(&error),
    }
}
