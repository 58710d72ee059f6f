//! A network that is made to see whether this device's kernel lets us: for `doctor`.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::thread;

use super::project::Project;
use crate::Failure;
use crate::ports::{Host, Workers};
use crate::protocol::{Attach, Membership, NetworkConfig};
use crate::topology::{Topology, namespace};

/// Makes a network with a way out and a container on it. All of it goes with the calling process, which must have one thread
/// and be in a user namespace of its own.
///
/// # Errors
/// The first step that the kernel refused.
pub fn try_out() -> Result<(), Failure> {
    namespace::enter(None).map_err(Failure::system("make a network namespace"))?;
    let topology =
        Topology::load("doctor".into(), None).map_err(Failure::system("prepare a network namespace"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::system("start the runtime"))?;
    let workers = Workers::start(runtime.handle().clone()).map_err(Failure::system("start a thread"))?;
    let (host, _thread) = Host::new();
    let mut project = Project::new(topology, host, PathBuf::new(), runtime.handle().clone(), workers);
    let network = "doctor".to_owned();
    project.configure(&[NetworkConfig { key: network.clone(), ..NetworkConfig::default() }])?;
    let container = other_namespace().map_err(Failure::system("make a second network namespace"))?;
    let networks = vec![Membership { network, ..Membership::default() }];
    project
        .attach(&Attach { container: "doctor".into(), networks, ..Attach::default() }, container.into())?;
    Ok(())
}

/// A network namespace that lives as long as its descriptor.
fn other_namespace() -> io::Result<File> {
    let made = thread::scope(|scope| {
        scope.spawn(|| namespace::enter(None).and_then(|()| namespace::current())).join()
    });
    made.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}
