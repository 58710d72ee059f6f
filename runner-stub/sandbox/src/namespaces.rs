//! The container's namespaces: which are new, which are joined by path, which stay the caller's.
//!
//! The PID namespace is special: it is for the *children* of the process that asks for it, so the parent asks before it
//! forks PID 1. All others are PID 1's own doing. The user namespace has been entered long before (role.rs).

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Error;
use crate::spec::{NamespaceKind, Spec};
use crate::sys;

/// Kinds that PID 1 enters itself. Mount comes last: paths of namespaces to join are the host's.
const OWN: [(NamespaceKind, CloneFlags, &str); 5] = [
    (NamespaceKind::Network, CloneFlags::CLONE_NEWNET, "network"),
    (NamespaceKind::Ipc, CloneFlags::CLONE_NEWIPC, "IPC"),
    (NamespaceKind::Uts, CloneFlags::CLONE_NEWUTS, "UTS"),
    (NamespaceKind::Cgroup, CloneFlags::CLONE_NEWCGROUP, "cgroup"),
    (NamespaceKind::Mount, CloneFlags::CLONE_NEWNS, "mount"),
];

/// In the parent, just before it forks PID 1.
pub(crate) fn before_fork(spec: &Spec) -> Result<(), Error> {
    enter(spec, &[(NamespaceKind::Pid, CloneFlags::CLONE_NEWPID, "PID")])
}

/// In PID 1.
pub(crate) fn after_fork(spec: &Spec) -> Result<(), Error> {
    enter(spec, &OWN)?;
    let is_new = |kind| spec.namespace(kind).is_some_and(|namespace| namespace.path.is_none());
    if is_new(NamespaceKind::Network) {
        sys::raise_loopback().map_err(Error::Loopback)?;
    }
    if spec.namespace(NamespaceKind::Uts).is_some() {
        let failed = |name: &str, source: io::Error| Error::Hostname { name: name.to_owned(), source };
        if let Some(name) = &spec.hostname {
            nix::unistd::sethostname(name).map_err(|e| failed(name, e.into()))?;
        }
        if let Some(name) = &spec.domainname {
            rustix::system::setdomainname(name.as_bytes()).map_err(|e| failed(name, e.into()))?;
        }
    } else if spec.hostname.is_some() {
        return Err(Error::Invalid {
            property: "hostname".to_owned(),
            reason: "needs a UTS namespace of its own".to_owned(),
        });
    }
    Ok(())
}

/// Joins those with a path, one by one, then makes the new ones all at once.
fn enter(spec: &Spec, kinds: &[(NamespaceKind, CloneFlags, &str)]) -> Result<(), Error> {
    let mut new = CloneFlags::empty();
    let mut names = Vec::new();
    for (kind, flag, name) in kinds {
        match spec.namespace(*kind) {
            None => {}
            Some(namespace) => match &namespace.path {
                None => {
                    new |= *flag;
                    names.push(*name);
                }
                Some(path) => {
                    let failed = |source: io::Error| Error::JoinNamespace { path: path.clone(), source };
                    let file = File::open(path).map_err(failed)?;
                    setns(&file, *flag).map_err(|e| failed(e.into()))?;
                }
            },
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    unshare(new).map_err(|e| Error::Namespaces { names: names.join(", "), source: e.into() })
}
