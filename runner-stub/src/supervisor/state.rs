//! What the supervisor keeps in memory: all of it can be found again on disk.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use dpack_sandbox::cgroup::Place;
use dpack_store::Store;
use dpack_store::driver::Found;
use tokio::sync::Notify;

use super::Commission;
use super::create::store_kind;
use super::network::Network;
use crate::container::{Container, Identity, Supervision};
use crate::failure::Failure;
use crate::health::Health;
use crate::paths::{Paths, ProjectPaths};
use crate::payload::Executable;
use crate::plan::Existing;

/// A project's supervisor.
pub(crate) struct Supervisor {
    /// Project name.
    pub(crate) name: String,
    /// Data and runtime folder.
    pub(crate) paths: Paths,
    /// The project's part of them.
    pub(crate) project: ProjectPaths,
    /// The executable it serves.
    pub(crate) executable: Arc<Executable>,
    /// `full` or `single`.
    pub(crate) id_map: String,
    driver: Result<Found, Failure>,
    /// Its user namespace is new.
    pub(crate) new_namespace: bool,
    /// The connection to the network process.
    pub(crate) network: Arc<Mutex<Network>>,
    /// Containers, by name.
    pub(crate) units: RefCell<BTreeMap<String, Rc<Unit>>>,
    /// Where control groups are made, and whether limits can be set there.
    pub(crate) place: RefCell<Option<(bool, Arc<Place>)>>,
    /// One request that changes the project at a time.
    pub(crate) operation: tokio::sync::Mutex<()>,
    /// Connections that are open.
    pub(crate) connections: Cell<usize>,
    /// Whose turn it is to carry out the `pre_start` of a service.
    pub(crate) pre_start: RefCell<BTreeMap<String, Rc<tokio::sync::Mutex<()>>>>,
    /// Somebody wants to stop what others wait for.
    pub(crate) overruled: Notify,
    /// It was superseded: leave whatever runs.
    pub(crate) leaving: Cell<bool>,
    /// A connection closed, a container exited.
    pub(crate) quieter: Notify,
}

/// One container, as the supervisor sees it.
pub(crate) struct Unit {
    /// Who it is.
    pub(crate) identity: Identity,
    /// Its folder.
    pub(crate) folder: PathBuf,
    supervision: RefCell<Supervision>,
    health: RefCell<Option<Health>>,
    /// Its shim lives.
    pub(crate) running: Cell<bool>,
    /// It is no more; its name may be another container's by now.
    pub(crate) removed: Cell<bool>,
    /// Held while it is being started, stopped or removed.
    pub(crate) busy: tokio::sync::Mutex<()>,
    /// `running` or what is wanted has changed.
    pub(crate) changed: Notify,
}

impl Supervisor {
    /// A supervisor that knows of no container yet.
    pub(crate) fn new(
        commission: Commission,
        executable: Executable,
        driver: Result<Found, Failure>,
    ) -> Self {
        let project = commission.paths.find_project(&commission.project);
        let network = Network::new(&project, executable.program_length());
        Self {
            name: commission.project,
            paths: commission.paths,
            project,
            executable: Arc::new(executable),
            id_map: commission.id_map,
            driver,
            new_namespace: commission.new_namespace,
            network: Arc::new(Mutex::new(network)),
            units: RefCell::default(),
            place: RefCell::default(),
            operation: tokio::sync::Mutex::default(),
            connections: Cell::default(),
            pre_start: RefCell::default(),
            overruled: Notify::new(),
            leaving: Cell::default(),
            quieter: Notify::new(),
        }
    }

    /// The store for the ID map of this user namespace.
    pub(crate) fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.paths.data, store_kind(&self.id_map), self.driver()?.driver)?)
    }

    /// How containers get their root file systems.
    pub(crate) fn driver(&self) -> Result<&Found> {
        self.driver.as_ref().map_err(|failure| failure.clone().into())
    }

    /// A container by name.
    pub(crate) fn unit(&self, name: &str) -> Option<Rc<Unit>> {
        self.units.borrow().get(name).cloned()
    }

    /// All containers, by name.
    pub(crate) fn all(&self) -> Vec<Rc<Unit>> {
        self.units.borrow().values().cloned().collect()
    }

    /// Takes a container in, in the place of one of the same name.
    pub(crate) fn take_in(&self, unit: Unit) -> Rc<Unit> {
        let unit = Rc::new(unit);
        self.units.borrow_mut().insert(unit.identity.name.clone(), Rc::clone(&unit));
        unit
    }

    /// What there is, for planning.
    pub(crate) fn existing(&self) -> Vec<Existing> {
        let units = self.units.borrow();
        units.values().map(|unit| unit.existing()).collect()
    }

    /// Nobody needs it: nothing runs or is about to, nobody is connected, nothing is being done.
    pub(crate) fn is_idle(&self) -> bool {
        let needed = |unit: &Rc<Unit>| unit.running.get() || unit.supervision().restarting;
        self.connections.get() == 0
            && self.operation.try_lock().is_ok()
            && !self.units.borrow().values().any(needed)
    }
}

impl Unit {
    /// A container as its folder tells.
    pub(crate) fn new(container: Container, folder: PathBuf) -> Self {
        Self {
            running: Cell::new(container.state.is_running()),
            identity: container.identity,
            folder,
            supervision: RefCell::new(container.supervision),
            health: RefCell::new(container.health),
            removed: Cell::new(false),
            busy: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// What is wanted of it.
    pub(crate) fn supervision(&self) -> Supervision {
        self.supervision.borrow().clone()
    }

    /// Changes what is wanted of it, on disk too. Where the disk is full, it is wanted as long as this process lives.
    pub(crate) fn supervise(&self, change: impl FnOnce(&mut Supervision)) -> Result<()> {
        let mut changed = self.supervision();
        change(&mut changed);
        if changed == *self.supervision.borrow() {
            return Ok(());
        }
        let stored = changed.store(&self.folder);
        *self.supervision.borrow_mut() = changed;
        self.changed.notify_waiters();
        stored
    }

    /// Nobody wants it to run any more, now or after its back-off.
    pub(crate) fn unwanted(&self) -> Result<()> {
        self.supervise(|supervision| (supervision.wanted, supervision.restarting) = (false, false))
    }

    /// What its checks have told; none without a check or before the first start.
    pub(crate) fn health(&self) -> Option<Health> {
        self.health.borrow().clone()
    }

    /// Changes that, on disk too.
    pub(crate) fn set_health(&self, health: Option<Health>) -> Result<()> {
        let stored = health.as_ref().map_or(Ok(()), |health| health.store(&self.folder));
        *self.health.borrow_mut() = health;
        self.changed.notify_waiters();
        stored
    }

    /// Waits until it does not run.
    pub(crate) async fn exited(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.running.get() {
                return;
            }
            changed.await;
        }
    }

    fn existing(&self) -> Existing {
        Existing {
            name: self.identity.name.clone(),
            service: self.identity.service.clone(),
            number: self.identity.number,
            one_off: self.identity.one_off,
            configuration: self.identity.configuration.clone(),
            running: self.running.get(),
        }
    }
}
