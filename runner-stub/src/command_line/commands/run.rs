//! `run`: a one-off container in the foreground.
//!
//! The command line becomes the role `dpack-run` inside the project's user namespace, which makes the container and is
//! itself its shim. A service without networks and dependencies needs no supervisor at all: that is the short way.

use std::fs::File;
use std::io::{IsTerminal as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use dpack_compose::project::{MountSource, NetworkMode, Project, Service};
use dpack_payload::application::Image;
use dpack_payload::digest::DiffId;
use dpack_sandbox::cgroup::Place;
use dpack_sandbox::foreground::{self, RunOptions};
use dpack_sandbox::role::{Spawn, take_fd};
use dpack_store::{Driver, Silent, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::super::args::Run;
use super::super::client::{self, Namespace};
use super::super::progress::Display;
use super::super::settings::{Settings, Terminal};
use super::super::{SUCCESS, output};
use super::exec::variables;
use crate::container::{Identity, one_off_name};
use crate::failure::{Context as _, Failure, extracting};
use crate::json;
use crate::paths::Paths;
use crate::payload::Unopened;
use crate::plan;
use crate::project::Record;
use crate::protocol::{Desired, Request};
use crate::supervisor::{
    self, Making, Network, PAYLOAD, Stacks, attach_network, attachment, provide_bind, sandbox_failure,
    store_kind,
};

/// `argv[0]` of the role.
pub(crate) const ROLE: &str = "dpack-run";
/// Name of the service that stands for flags, which no service of a project has.
const FLAGS: &str = "dpack-run-flags";
/// Descriptor of the connection that keeps the supervisor from leaving.
const SUPERVISOR: RawFd = 5;

/// Descriptor of the [`Commission`].
const COMMISSION: RawFd = 6;

/// What the role is told: in memory, because everybody can read the arguments of a process and its service may have
/// secrets in its environment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Commission {
    pub(crate) paths: Paths,
    pub(crate) project: Project,
    pub(crate) project_name: String,
    pub(crate) service: String,
    pub(crate) image: Image,
    pub(crate) name: String,
    pub(crate) id_map: String,
    pub(crate) build: String,
    /// Layer of the project's files, if any travel in the executable.
    pub(crate) project_files: Option<DiffId>,
    pub(crate) tty: bool,
    pub(crate) aliases: bool,
    pub(crate) remove: bool,
    /// It goes on without limits that cannot be enforced.
    pub(crate) allow_degraded: bool,
    /// It is not run but written as a bundle to this empty folder.
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) driver: Option<Driver>,
}

/// `run`
pub(crate) fn run(settings: &Settings, arguments: &Run) -> Result<u8> {
    settings.executable.check_platform()?;
    let asked_for = std::slice::from_ref(&arguments.service);
    let mut desired = settings.desired_with(asked_for, flags(arguments)?)?;
    let flags = desired.project.services.remove(FLAGS);
    note_layers(settings, &desired)?;
    plan::check_services(&desired.project, asked_for)?;
    let name = match &arguments.name {
        Some(name) => checked_name(settings, name)?,
        None => one_off_name(&settings.name, &arguments.service)?,
    };
    change(&mut desired, arguments, flags)?;
    let Some(service) = desired.project.services.get(&arguments.service) else { return Ok(SUCCESS) };
    let networked = matches!(&service.network, NetworkMode::Networks(networks) if !networks.is_empty());
    let needs_others = !arguments.no_deps && !service.depends_on.is_empty();
    let mut display = match arguments.quiet {
        true => Display::quiet(),
        false => Display::new(Terminal::detect().redraw),
    };
    if arguments.remove_orphans {
        client::request(settings, &Request::RemoveOrphans, &mut |event| display.show(event))?;
    }
    if arguments.detach {
        let service = arguments.service.clone();
        let request = Request::RunDetached {
            desired: Box::new(desired),
            service,
            name,
            dependencies: !arguments.no_deps,
            allow_degraded: arguments.limits.allow_degraded,
            aliases: arguments.use_aliases,
            remove: arguments.rm,
        };
        let done = client::request(settings, &request, &mut |event| display.show(event))?;
        output::print(&format!("{}\n", done.id));
        return Ok(SUCCESS);
    }
    let image = settings.executable.image(&arguments.service, &service.image)?.clone();
    let tty = !arguments.no_tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let (namespace, connection) = if networked || needs_others {
        // Dependencies as the project has them: what was changed is only this container's.
        let request = Request::Prepare {
            desired: Box::new(settings.desired(asked_for)?),
            service: arguments.service.clone(),
            dependencies: !arguments.no_deps,
            allow_degraded: arguments.limits.allow_degraded,
        };
        let (done, connection) = client::connect(settings, &request, &mut |event| display.show(event))?;
        let namespace = Namespace::of(done.supervisor);
        let namespace = namespace.context("failed to open the supervisor's user namespace").environment()?;
        (namespace, Some(connection))
    } else {
        (Namespace::find(settings)?, None)
    };
    let commission = Commission {
        paths: settings.paths.clone(),
        project_name: settings.name.clone(),
        service: arguments.service.clone(),
        image,
        name,
        id_map: namespace.kind(),
        build: settings.executable.build(),
        project_files: settings.executable.project_files().map(|files| files.layer),
        tty,
        aliases: arguments.use_aliases,
        remove: arguments.rm,
        allow_degraded: arguments.limits.allow_degraded,
        bundle: None,
        project: desired.project,
        driver: settings.driver,
    };
    become_role(settings, &namespace, &commission, connection.as_ref().map(AsFd::as_fd))
}

/// Becomes the role that does it. Returns only on failure.
pub(crate) fn become_role(
    settings: &Settings,
    namespace: &Namespace,
    commission: &Commission,
    connection: Option<BorrowedFd<'_>>,
) -> Result<u8> {
    let told = tell(commission)?;
    let mut spawn = Spawn::new(ROLE)
        .arg(&commission.name)
        .fd(COMMISSION, told.as_fd())
        .fd(PAYLOAD, settings.executable.descriptor())
        .program_length(settings.executable.program_length());
    if let Some(connection) = connection {
        spawn = spawn.fd(SUPERVISOR, connection);
    }
    Err(sandbox_failure(namespace.apply(spawn).replace()))
}

fn tell(commission: &Commission) -> Result<File> {
    let memory = rustix::fs::memfd_create("commission", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(memory.context("failed to create a file in memory")?);
    let text = serde_json::to_vec(commission).context("failed to encode a commission")?;
    file.write_all(&text).and_then(|()| file.rewind()).context("failed to write a file in memory")?;
    Ok(file)
}

/// Garbage collection of another project asks for the layers of this one where its record is.
pub(crate) fn note_layers(settings: &Settings, desired: &Desired) -> Result<()> {
    if settings.project.record().exists() {
        return Ok(());
    }
    settings.paths.make_data(&settings.project.folder)?;
    Record::new(desired.clone(), settings.executable.build(), settings.executable.layers())
        .store(&settings.project)
}

/// A name that is a folder's, and nobody's yet.
fn checked_name(settings: &Settings, name: &str) -> Result<String, Failure> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if name.len() < 2
        || name.len() > 200
        || !name.bytes().all(allowed)
        || !name.as_bytes()[0].is_ascii_alphanumeric()
    {
        return Err(Failure::usage(format!("`{name}` is not a container name"))
            .hint("letters, digits, `-`, `_` and `.`"));
    }
    if settings.project.container(name).join("container.json").exists() {
        return Err(Failure::usage(format!("there is already a container `{name}`")));
    }
    Ok(name.to_owned())
}

/// Flags that stand in Compose files, too, as a service of their own, so that they are read by whatever reads those.
fn flags(arguments: &Run) -> Result<Option<Json>> {
    let Run { volume, publish, cap_add, cap_drop, env_from_file, .. } = arguments;
    let literal = |texts: &[String]| texts.iter().map(|text| text.replace('$', "$$")).collect::<Vec<_>>();
    let mut files = Vec::new();
    for file in env_from_file {
        // From where the command is typed, and not from where the executable lies.
        let path = std::path::absolute(file).ok().and_then(|path| path.into_os_string().into_string().ok());
        files.push(path.with_context(|| format!("`{}` is not UTF-8", file.display()))?);
    }
    let given = [volume, publish, cap_add, cap_drop, &files].iter().any(|texts| !texts.is_empty());
    Ok(given.then(|| {
        json!({"services": {FLAGS: {
            "image": arguments.service,
            "volumes": literal(volume),
            "ports": literal(publish),
            "cap_add": literal(cap_add),
            "cap_drop": literal(cap_drop),
            "env_file": literal(&files),
        }}})
    }))
}

/// The service as the command line wants it. Its ports are published only on request, as in Docker Compose.
fn change(desired: &mut Desired, arguments: &Run, flags: Option<Service>) -> Result<(), Failure> {
    let Some(service) = desired.project.services.get_mut(&arguments.service) else { return Ok(()) };
    if !arguments.service_ports {
        service.ports.clear();
    }
    if let Some(flags) = flags {
        service.volumes.retain(|mount| !flags.volumes.iter().any(|other| other.target == mount.target));
        service.volumes.extend(flags.volumes);
        service.ports.extend(flags.ports);
        service.cap_add.extend(flags.cap_add);
        service.cap_drop.extend(flags.cap_drop);
        service.environment.extend(flags.environment);
    }
    for label in &arguments.label {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            return Err(Failure::usage(format!("`{label}` is no label")).hint("--label KEY=VALUE"));
        }
        service.labels.insert(key.to_owned(), value.to_owned());
    }
    if let Some(entrypoint) = &arguments.entrypoint {
        service.entrypoint = Some(entrypoint.split_whitespace().map(str::to_owned).collect());
        service.command = None;
    }
    if !arguments.command.is_empty() {
        service.command = Some(arguments.command.clone());
    }
    for variable in variables(&arguments.env) {
        if let Some((name, value)) = variable.split_once('=') {
            service.environment.insert(name.to_owned(), value.to_owned());
        }
    }
    service.user = arguments.user.clone().or(service.user.take());
    service.working_dir = arguments.workdir.clone().or(service.working_dir.take());
    service.container_name = None;
    Ok(())
}

/// Role entry: inside the user namespace, one thread.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(status) => ExitCode::from(status),
        Err(error) => super::super::fail(&error),
    }
}

fn serve() -> Result<u8> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let told = File::from(take_fd(COMMISSION).context("`run` was started without its commission")?);
    let commission: Commission = json::read(told).context("the commission of `run` makes no sense")?;
    let project = commission.paths.find_project(&commission.project_name);
    let service = commission.project.services.get(&commission.service).context("a service is gone")?;
    let payload = take_fd(PAYLOAD).context("`run` was started without its executable")?;
    let executable = Unopened::new(payload.into());
    let found = supervisor::storage_driver(&commission.paths.data, commission.driver)?;
    let store =
        Store::open(&commission.paths.data, store_kind(&commission.id_map), found.driver).environment()?;
    supervisor::prepare_store(&store);
    if let Some(layer) = &commission.project_files {
        supervisor::lay_out(layer, || executable.get(), &project, &store)?;
    }
    for mount in &service.volumes {
        if let MountSource::Bind { source, create_host_path, .. } = &mount.source {
            provide_bind(&commission.service, source.as_ref(), *create_host_path)?;
        }
    }
    supervisor::check_files(&commission.project, service)?;
    let mut service = service.clone();
    let place = match commission.bundle {
        None => within_limits(&commission, &mut service)?,
        // Whoever runs a bundle sees to its limits.
        Some(_) => Place::default(),
    };
    let stacks = stacks(&commission, &service, &executable, &store)?;
    let identity = supervisor::create(&Making {
        project: &project,
        name: &commission.name,
        service_name: &commission.service,
        model: &commission.project,
        executable: &|| executable.get(),
        service: &service,
        number: 1,
        one_off: true,
        image: &commission.image,
        stacks: &stacks,
        anonymous_of: &commission.name,
        driver: found.driver,
        configuration: String::new(),
        id_map: &commission.id_map,
        tty: commission.tty,
        aliases: commission.aliases,
        // This process does, because it sees it exit.
        remove: false,
        volatile: commission.remove,
    })?;
    let folder = project.container(&commission.name);
    let result = match &commission.bundle {
        Some(bundle) => super::bundle::write(&folder, bundle, &commission.service).map(|()| SUCCESS),
        None => run_container(&commission, &identity, place, &folder),
    };
    if commission.remove {
        crate::files::remove(&folder.join("container.json"))?;
        dpack_store::remove_tree(&folder)?;
        for volume in supervisor::anonymous_volumes(&project, &commission.name) {
            dpack_store::remove_tree(&volume)?;
        }
    }
    result
}

/// Where the control group is made; the service is without the limits that cannot be enforced there.
fn within_limits(commission: &Commission, service: &mut Service) -> Result<Place> {
    let place = Place::prepare(&commission.project_name, supervisor::is_limited(&service.resources));
    let (name, degraded) = (&commission.service, commission.allow_degraded);
    let mut warnings = supervisor::within_session(name, service, degraded)?;
    warnings.extend(supervisor::enforce(name, service, &place, degraded)?);
    warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    Ok(place)
}

/// Layers of the images it needs on this device, by reference.
fn stacks(
    commission: &Commission,
    service: &Service,
    executable: &Unopened,
    store: &Store,
) -> Result<Stacks> {
    let image_of =
        |reference| -> Result<&Image> { Ok(executable.get()?.image(&commission.service, reference)?) };
    let others = service.other_images().map(image_of);
    let mut stacks = Stacks::new();
    for image in std::iter::once(Ok(&commission.image)).chain(others) {
        let image = image?;
        let failed = || format!("failed to extract image `{}`", image.reference);
        let stack = match extracting(store.present(&image.layers, &Silent), failed)? {
            Some(stack) => stack,
            None => {
                let payload = executable.get()?.payload();
                extracting(store.ensure(payload, &image.layers, supervisor::threads(), &Silent), failed)?
            }
        };
        stacks.insert(image.reference.clone(), stack);
    }
    Ok(stacks)
}

fn run_container(
    commission: &Commission,
    identity: &Identity,
    place: Place,
    folder: &std::path::Path,
) -> Result<u8> {
    let project = commission.paths.find_project(&commission.project_name);
    let shared_with = supervisor::prepare_joins(&project, folder, identity)?;
    let home = supervisor::home(identity, place);
    let options = RunOptions { container_dir: folder, stdin: true, home: Some(&home) };
    let created = foreground::create(&options).map_err(sandbox_failure)?;
    if let Some(other) = &shared_with {
        supervisor::copy_etc(other, folder)?;
    }
    let mut network = None;
    if let Some(attach) = attachment(identity) {
        let mut connected = Network::new(&project, 0);
        connected.connect()?;
        attach_network(&mut connected, folder, identity, &attach, created.init_pid)?;
        network = Some(connected);
    }
    let status = created.run().map_err(sandbox_failure);
    if let Some(network) = &mut network {
        let _ = network.detach(&identity.name);
    }
    Ok(u8::try_from(status?).unwrap_or(u8::MAX))
}
