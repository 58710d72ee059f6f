//! Making a container's folder, and starting what is in it. Blocking; used by the supervisor and by `run`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use dpack_bundle::image::ImageConfig;
use dpack_bundle::resources::{Device, resources};
use dpack_bundle::seccomp::Machine;
use dpack_bundle::users::UserDatabase;
use dpack_bundle::{BundleInput, Host, files as etc};
use dpack_compose::project::{NetworkMode, Port, Project, Service};
use dpack_network::{Attach, Attached};
use dpack_payload::application::Image;
use dpack_payload::digest::DiffId;
use dpack_sandbox::Home;
use dpack_sandbox::cgroup::Place;
use dpack_sandbox::shim::{self, CreateOptions};
use dpack_store::driver::{self, Found};
use dpack_store::{Driver, IdMapKind};

use super::attach::lock;
use super::limits;
use super::network::{Network, ports};
use super::{join, labels, sources};
use crate::container::{Identity, random_id};
use crate::failure::{Context as _, Failure};
use crate::files::Lasts;
use crate::health::Check;
use crate::paths::ProjectPaths;
use crate::payload::Executable;
use crate::{events, files, time};

/// Largest `/etc/passwd` that is read from an image.
const LARGEST_DATABASE: u64 = 4 << 20;

/// Layers of images on this device, lowest first, by reference.
pub(crate) type Stacks = BTreeMap<String, Vec<PathBuf>>;

/// What a container is made of.
pub(crate) struct Making<'a> {
    /// The project's folders.
    pub(crate) project: &'a ProjectPaths,
    /// Name of the container.
    pub(crate) name: &'a str,
    /// Its service's name.
    pub(crate) service_name: &'a str,
    /// The project, and the executable that has its images.
    pub(crate) model: &'a Project,
    /// Where images are.
    pub(crate) executable: &'a (dyn Fn() -> Result<&'a Executable> + 'a),
    /// Its service; `run` changes its command first.
    pub(crate) service: &'a Service,
    /// Which replica.
    pub(crate) number: u32,
    /// Made by `run`.
    pub(crate) one_off: bool,
    /// Its image.
    pub(crate) image: &'a Image,
    /// Of the images it needs.
    pub(crate) stacks: &'a Stacks,
    /// The container whose anonymous volumes it has: itself, but for `pre_start`.
    pub(crate) anonymous_of: &'a str,
    /// How layers become its root file system.
    pub(crate) driver: Driver,
    /// [`crate::container::configuration_hash`].
    pub(crate) configuration: String,
    /// `full` or `single`.
    pub(crate) id_map: &'a str,
    /// With a terminal.
    pub(crate) tty: bool,
    /// Made by `run`, and answers to its service's names all the same.
    pub(crate) aliases: bool,
    /// The supervisor removes it when it exits.
    pub(crate) remove: bool,
    /// Somebody removes it when it exits.
    pub(crate) volatile: bool,
}

/// Makes a container's folder. `container.json` comes last: without it, there is no container.
pub(crate) fn create(making: &Making<'_>) -> Result<Identity> {
    let folder = making.project.container(making.name);
    let image = ImageConfig::parse(&making.image.config)
        .with_context(|| format!("image `{}`", making.image.reference))
        .input()?;
    // What an interrupted creation left.
    dpack_store::remove_tree(&folder)?;
    let make = |part: &str| {
        let part = folder.join(part);
        fs::create_dir_all(&part)
            .with_context(|| format!("failed to create `{}`", part.display()))
            .environment()
    };
    make("rootfs")?;
    make("etc")?;
    let id = random_id()?;
    let stack = making.stacks.get(&making.image.reference).context("an image has no layers")?;
    let mut layers = stack.as_slice();
    let labels = labels::of(making)?;
    let own_labels = labels.as_ref().and_then(|labels| labels.of_service(making.service));
    let mounts = sources::resolve(making, &image, own_labels.as_ref())?;
    let copy = [folder.join("rootfs")];
    if let Some(labels) = &own_labels {
        labels::layers(labels, layers)?;
    }
    if making.driver == Driver::Copy {
        let copied = dpack_store::copy_layers(layers, &copy[0], making.service.read_only);
        copied.context("failed to copy the image's layers").environment()?;
        layers = &[];
    }
    // After the copy: what has changed before they were made is the image's.
    make("upper")?;
    make("work")?;
    let in_image = if layers.is_empty() { &copy[..] } else { layers };
    let (passwd, group) = (image_file(in_image, "etc/passwd"), image_file(in_image, "etc/group"));
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // A look at all hierarchies takes a tenth of a start.
    let limits_swap = limits::is_limited(&making.service.resources) && Place::look().limits_swap();
    let device = Device { number: &limits::block_device, limits_swap };
    let resources = resources(&making.service.resources, device).input()?;
    let spec = dpack_bundle::spec(&BundleInput {
        service: making.service,
        image: &image,
        id: &id,
        container_dir: &folder,
        layers,
        mounts: &mounts,
        users: UserDatabase { passwd: &passwd, group: &group },
        host: Host {
            hostname: hostname.trim(),
            single_id: making.id_map != "full",
            machine: machine(),
            labels: labels.as_ref(),
        },
        resources: resources.as_ref(),
        tty: making.tty,
        volatile: making.volatile,
    })
    .input()?;
    let user = &spec.process.user;
    if making.id_map == "full" {
        let gids = user.additional_gids.iter().copied().chain([user.gid]);
        dpack_store::ids::check([user.uid], gids)
            .with_context(|| {
                format!("service `{}` runs as user {} and group {}", making.service_name, user.uid, user.gid)
            })
            .environment()?;
    }
    let lasts = if making.one_off { Lasts::ThisBoot } else { Lasts::Always };
    files::write_json_that(lasts, &folder.join("config.json"), &spec)?;
    write_etc(&folder, spec.hostname.as_deref().unwrap_or_default(), making.service, None)?;
    if let Some(labels) = &own_labels {
        labels::give(&folder.join("etc"), &labels.file.to_string())?;
    }
    let identity = Identity {
        version: Identity::VERSION,
        id,
        name: making.name.to_owned(),
        service: making.service_name.to_owned(),
        number: making.number,
        one_off: making.one_off,
        aliases: making.aliases,
        remove: making.remove,
        image: making.image.reference.clone(),
        digest: making.image.digest,
        layers: layers_of(making)?,
        configuration: making.configuration.clone(),
        created: time::format(time::now()),
        command: spec.process.args.clone(),
        hostname: spec.hostname.clone().unwrap_or_default(),
        exposed: image.exposed_ports.clone(),
        healthcheck: Check::of(making.service.healthcheck.as_ref(), image.healthcheck.as_ref()),
        stop_signal: making
            .service
            .stop_signal
            .clone()
            .or(image.stop_signal)
            .unwrap_or_else(|| "SIGTERM".to_owned()),
        definition: making.service.clone(),
    };
    files::write_json_that(lasts, &folder.join("container.json"), &identity)?;
    events::append(making.project, &identity, "create", &[]);
    Ok(identity)
}

/// The storage driver by what was asked for and by what works. Inside the user namespace.
pub(crate) fn storage_driver(data: &Path, asked: Option<Driver>) -> Result<Found> {
    driver::find(data, asked).environment()
}

/// The store's word for `full` or `single`.
pub(crate) fn store_kind(id_map: &str) -> IdMapKind {
    if id_map == "full" { IdMapKind::Full } else { IdMapKind::Single }
}

/// Layers that must not go while the container is there.
fn layers_of(making: &Making<'_>) -> Result<Vec<DiffId>> {
    let mut layers = making.image.layers.clone();
    for image in making.service.other_images() {
        layers.extend(&(making.executable)()?.image(making.service_name, image)?.layers);
    }
    Ok(layers)
}

fn machine() -> Machine {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine::of_kernel(&release)
}

/// A file of an image by its topmost layer; empty where there is none. The image is not trusted: a link is followed no
/// further than its own layer, and what is no regular file is nothing.
fn image_file(layers: &[PathBuf], path: &str) -> String {
    use dpack_sandbox::in_root;
    use rustix::fs::{Mode, OFlags, ResolveFlags, open};
    for layer in layers.iter().rev() {
        let Ok(root) = open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
            continue;
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let Ok(file) = in_root::open(&root, path, flags, ResolveFlags::empty()) else { continue };
        let file = fs::File::from(file);
        let mut text = String::new();
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        return match regular && file.take(LARGEST_DATABASE).read_to_string(&mut text).is_ok() {
            true => text,
            false => String::new(),
        };
    }
    String::new()
}

/// `host-gateway` is what stands for the device inside of the project's networks.
fn host_address(written: &str) -> String {
    match written {
        "host-gateway" => dpack_network::HOST_GATEWAY.to_string(),
        address => address.to_owned(),
    }
}

/// Writes the files below `/etc`. In place, because a running container has them mounted.
fn write_etc(folder: &Path, hostname: &str, service: &Service, attached: Option<&Attached>) -> Result<()> {
    let device = |path: &str| match fs::read_to_string(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to read `{path}`"))
        }
        text => Ok(text.unwrap_or_default()),
    };
    let addresses: Vec<IpAddr> = attached.into_iter().flat_map(Attached::addresses).collect();
    let servers: Vec<IpAddr> = attached.and_then(|attached| attached.nameserver).into_iter().collect();
    let extra: Vec<(String, String)> = service
        .extra_hosts
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(|address| (name.clone(), host_address(address))))
        .collect();
    let hosts = |addresses: &[IpAddr]| etc::hosts(hostname, service.domainname.as_deref(), &extra, addresses);
    let (hosts, resolv_conf) = match &service.network {
        NetworkMode::Host => {
            let own = extra.iter().map(|(name, address)| format!("{address}\t{name}\n"));
            (device("/etc/hosts")? + &own.collect::<String>(), device("/etc/resolv.conf")?)
        }
        NetworkMode::None => (hosts(&[]), device("/etc/resolv.conf")?),
        // Copied from the container whose network it is, when this one is started.
        NetworkMode::Service(_) | NetworkMode::Container(_) => (hosts(&[]), String::new()),
        NetworkMode::Networks(_) => (
            hosts(&addresses),
            etc::resolv_conf(&device("/etc/resolv.conf")?, &servers, &service.dns_search, &service.dns_opt),
        ),
    };
    for (name, text) in
        [("hosts", hosts), ("hostname", etc::hostname(hostname)), ("resolv.conf", resolv_conf)]
    {
        let path = folder.join("etc").join(name);
        fs::write(&path, text)
            .with_context(|| format!("failed to write `{}`", path.display()))
            .environment()?;
    }
    Ok(())
}

/// A container that was started.
pub(crate) struct Started {
    /// Readable when its shim has ended.
    pub(crate) shim: OwnedFd,
    /// Its published ports, chosen numbers filled in.
    pub(crate) ports: Vec<Port>,
}

/// Starts a container that is there. When anything fails, nothing of it runs.
pub(crate) fn start(
    project: &ProjectPaths,
    network: &Mutex<Network>,
    folder: &Path,
    identity: &Identity,
    attach: Option<&Attach>,
    home: &Home,
) -> Result<Started> {
    let locked = || lock(network);
    let namespace = match attach {
        Some(_) => Some(locked()?.namespace()?),
        None => None,
    };
    let shared_with = join::prepare(project, folder, identity)?;
    let options = CreateOptions {
        container_dir: folder,
        network_namespace: namespace.as_ref().map(OwnedFd::as_fd),
        home: Some(home),
    };
    let created = shim::create(&options).map_err(sandbox_failure)?;
    let attached = match attach {
        Some(attach) => Some(attach_network(&mut *locked()?, folder, identity, attach, created.init_pid)?),
        None => {
            match &shared_with {
                Some(other) => join::copy_etc(other, folder)?,
                None => write_etc(folder, &identity.hostname, &identity.definition, None)?,
            }
            None
        }
    };
    let ports = attached.as_ref().map(|attached| ports(&attached.ports)).unwrap_or_default();
    match created.start() {
        Ok(started) => Ok(Started { shim: started.shim_pidfd, ports }),
        Err(error) => {
            if attach.is_some() {
                let _ = locked()?.detach(&identity.name);
            }
            Err(sandbox_failure(error))
        }
    }
}

/// Connects a created container to its networks and tells it its address and name server.
pub(crate) fn attach_network(
    network: &mut Network,
    folder: &Path,
    identity: &Identity,
    attach: &Attach,
    init: i32,
) -> Result<Attached> {
    let attached = network.attach(attach, init)?;
    if let Err(error) = write_etc(folder, &identity.hostname, &identity.definition, Some(&attached)) {
        let _ = network.detach(&identity.name);
        return Err(error);
    }
    Ok(attached)
}

/// The sandbox's errors carry their remedy apart from their text.
pub(crate) fn sandbox_failure(error: dpack_sandbox::Error) -> anyhow::Error {
    let (hint, code) = (error.hint(), error.exit_code());
    let failure = Failure::of(&anyhow::Error::from(error));
    let failure = Failure {
        kind: crate::failure::Kind::Environment,
        hint: failure.hint.or(hint),
        exit_status: code.and_then(|code| u8::try_from(code).ok()),
        ..failure
    };
    failure.into()
}
