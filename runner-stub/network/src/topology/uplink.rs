//! The kernel's own way out, for root: forwarding and address translation by nftables, beside [`crate::egress`].
//!
//! ```text
//!   container ── bridge ── N: masquerade ── out ═ veth ═ dp-… ── device: masquerade ── internet
//!                             169.254.2.N          169.254.1.2
//! ```
//!
//! Whoever is root on the device, outside of the project's user namespace, makes it: the command line, which then ends.
//! Nobody in the project has any right over it. On the device there is a veth, a route to its other end, a table of
//! nftables of the same name, and forwarding is switched on. Addresses of containers never leave N, so that subnets of
//! projects need not differ; only IPv4 goes this way, because forwarding of IPv6 would make the device deaf for router
//! advertisements.
//!
//! The veth goes with N. While it is there its route in N comes before that of the relayed way out, so that when either is
//! taken away or its maker is killed, the other one serves. Tables without a veth are removed by the next that comes.
//!
//! Where another table or iptables has a say in what is forwarded (Docker, firewalld), nothing is changed: what they drop,
//! no table of ours can let through.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::links::{self, UPLINK};
use super::netlink::Netlink;
use super::nftables::{self, Hook, Match, Verdict};
use super::{link_name, namespace};
use crate::egress::HOST_GATEWAY;

/// What links and tables of the device start with that are ours.
const PREFIX: &str = "dp-";
/// Of this table there is one, while forwarding is on because we switched it on: what links that were there before would
/// not have forwarded, they do not.
const ROUTER: &str = "dpack-forwarding";
const FORWARDING: &str = "ipv4/ip_forward";
/// The table in N.
const INSIDE: &str = "uplink";
/// Addresses of N's end.
const ENDS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 2, 0), 23);
/// What containers may not reach: as [`crate::egress`] has it.
const FORBIDDEN: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// Why there is no such way out. The relayed one serves.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The kernel has no nftables, or cannot translate addresses.
    #[error("the kernel has no nftables, or not what translates addresses")]
    NoFilters,
    /// Something else decides on what is forwarded.
    #[error("{0} decides on what the device forwards")]
    Foreign(String),
    /// A step failed.
    #[error("failed to {step}")]
    System {
        /// What was attempted.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl UplinkError {
    /// Whether it is only that the caller may not change the device's network.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let refused = |source: &io::Error| matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem);
        matches!(self, UplinkError::System { source, .. } if refused(source))
    }
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> UplinkError {
    move |source| UplinkError::System { step, source }
}

/// The same for nftables, which a kernel may not have, or not whole.
fn failed_filters(step: &'static str) -> impl FnOnce(io::Error) -> UplinkError {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOENT) => {
            UplinkError::NoFilters
        }
        _ => failed(step)(source),
    }
}

/// Gives the project with this control socket, and this network namespace, the kernel's own way out. To be called in the
/// device's network namespace by who may change it. Nothing is done when it is there already; undone when a step fails.
///
/// # Errors
/// [`UplinkError`]; the project's containers have the relayed way out then.
pub fn connect(socket: &Path, namespace: impl AsFd) -> Result<(), UplinkError> {
    let held = hold().map_err(failed("lock the network namespace"))?;
    check_is_other(&held, namespace.as_fd())
        .map_err(failed("tell the project's network from the device's"))?;
    let name = name_of(socket);
    let mut device = Netlink::open().map_err(failed("open a netlink socket"))?;
    let mut filters = open_filters()?;
    sweep(&mut device, &mut filters).map_err(failed("remove tables that nobody uses"))?;
    check_forwarders(&mut filters)?;
    let links = links::list(&mut device).map_err(failed("list links"))?;
    if links.iter().any(|link| link.name == name) {
        return Ok(());
    }
    let taken: Vec<Ipv4Addr> = links
        .iter()
        .filter(|link| link.name.starts_with(PREFIX))
        .filter_map(|link| link.alias.as_ref()?.parse().ok())
        .collect();
    let free = ENDS.hosts().find(|end| !taken.contains(end));
    let end = free.ok_or_else(|| failed("find a free address")(Errno::ADDRNOTAVAIL.into()))?;
    let made = make(&mut device, &mut filters, &name, end, namespace.as_fd());
    if made.is_err() {
        // The first failure is the one to tell.
        let _ = take_away(&mut device, &mut filters, &name);
    }
    made
}

/// Takes away what [`connect`] made of the device, if it did.
///
/// # Errors
/// The kernel's; everything was tried.
pub fn disconnect(socket: &Path) -> Result<(), UplinkError> {
    let _held = hold().map_err(failed("lock the network namespace"))?;
    let mut device = Netlink::open().map_err(failed("open a netlink socket"))?;
    let mut filters = match open_filters() {
        Err(UplinkError::NoFilters) => return Ok(()),
        filters => filters?,
    };
    take_away(&mut device, &mut filters, &name_of(socket)).map_err(failed("take the uplink away"))
}

/// Whether the project with this control socket has it.
#[must_use]
pub fn is_connected(socket: &Path) -> bool {
    Netlink::open().is_ok_and(|mut device| links::find(&mut device, &name_of(socket)).is_ok())
}

/// Whether one could be made here, as far as that can be told without doing so.
///
/// # Errors
/// [`UplinkError`] says why not.
pub fn try_out() -> Result<(), UplinkError> {
    check_forwarders(&mut open_filters()?)
}

fn make(
    device: &mut Netlink,
    filters: &mut Netlink,
    name: &str,
    end: Ipv4Addr,
    inside: BorrowedFd<'_>,
) -> Result<(), UplinkError> {
    let address = |own: Ipv4Addr| IpNet::from(std::net::IpAddr::V4(own));
    let index =
        links::create_uplink(device, name, inside, &end.to_string()).map_err(failed("make a veth"))?;
    // It came up with an address of IPv6, which nobody needs.
    namespace::set(&format!("ipv6/conf/{name}/disable_ipv6"), "1").map_err(failed("leave IPv6 out"))?;
    links::add_address(device, index, address(HOST_GATEWAY))
        .and_then(|()| links::add_neighbour_route(device, index, end))
        .map_err(failed("give the veth an address"))?;
    nftables::put(
        filters,
        name,
        &[
            // Projects do not meet.
            (Hook::Forward, &[Match::From(name), Match::ToAny(PREFIX)], Verdict::Drop),
            (Hook::Forward, &[Match::To(name), Match::Known], Verdict::Accept),
            (Hook::Forward, &[Match::To(name)], Verdict::Drop),
            (Hook::Source, &[Match::Source(end), Match::NotTo(name)], Verdict::Masquerade),
        ],
    )
    .map_err(failed_filters("make a table of nftables"))?;
    switch_forwarding_on(device, filters).map_err(failed("switch forwarding on"))?;
    namespace::inside(inside, || {
        let mut netlink = Netlink::open()?;
        let index = links::find(&mut netlink, UPLINK)?.index;
        links::set_up(&mut netlink, index, None)?;
        links::add_address(&mut netlink, index, address(end))?;
        links::add_neighbour_route(&mut netlink, index, HOST_GATEWAY)?;
        nftables::put(
            &mut Netlink::open_for_filters()?,
            INSIDE,
            &[
                (Hook::Input, &[Match::From(UPLINK), Match::Known], Verdict::Accept),
                (Hook::Input, &[Match::From(UPLINK)], Verdict::Drop),
                (Hook::Forward, &[Match::From(UPLINK), Match::Known], Verdict::Accept),
                (Hook::Forward, &[Match::From(UPLINK)], Verdict::Drop),
                (Hook::Source, &[Match::To(UPLINK)], Verdict::Masquerade),
            ],
        )?;
        // What N has to say of a packet ("too long"), it says as the gateway: without an address it would go nowhere.
        namespace::set("ipv4/icmp_errors_use_inbound_ifaddr", "1")?;
        namespace::set(FORWARDING, "1")?;
        links::forward_outside(&mut netlink, index, HOST_GATEWAY, &FORBIDDEN)
    })
    .map_err(failed("prepare the project's end"))
}

/// Everything is tried.
fn take_away(device: &mut Netlink, filters: &mut Netlink, name: &str) -> io::Result<()> {
    let removed = match links::find(device, name) {
        Ok(link) => links::delete(device, link.index),
        Err(_) => Ok(()),
    };
    removed.and(sweep(device, filters))
}

/// The network process hands out the namespace, and has a descriptor of the device's, too: that one is not to be changed.
fn check_is_other(device: &File, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let (device, other) = (rustix::fs::fstat(device)?, rustix::fs::fstat(namespace)?);
    if (device.st_dev, device.st_ino) == (other.st_dev, other.st_ino) {
        return Err(io::Error::other("it is the device's own"));
    }
    Ok(())
}

/// Nobody else makes or takes away meanwhile: the device's network namespace is locked itself (flock(2)).
fn hold() -> io::Result<File> {
    let device = namespace::current()?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&device, FlockOperation::LockExclusive))?;
    Ok(device)
}

/// Removes tables whose veth has gone, and switches forwarding off again behind the last.
fn sweep(device: &mut Netlink, filters: &mut Netlink) -> io::Result<()> {
    let tables = nftables::tables(filters)?;
    let links = links::list(device)?;
    let mut result = Ok(());
    let mut is_used = false;
    for table in tables.iter().filter(|table| table.starts_with(PREFIX)) {
        if links.iter().any(|link| link.name == *table) {
            is_used = true;
        } else {
            result = result.and(nftables::remove(filters, table));
        }
    }
    if !is_used && tables.iter().any(|table| table == ROUTER) {
        result = result.and(namespace::set(FORWARDING, "0")).and(nftables::remove(filters, ROUTER));
    }
    result
}

/// A device that did not forward before is no router now: what comes new by a link that it has goes nowhere, unless
/// somebody else's address translation leads it (another engine's published ports).
fn switch_forwarding_on(device: &mut Netlink, filters: &mut Netlink) -> io::Result<()> {
    if std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?.trim() != "0" {
        return Ok(());
    }
    let links = links::list(device)?;
    let others = links.iter().filter(|link| !link.name.starts_with(PREFIX));
    let matches: Vec<[Match<'_>; 2]> =
        others.map(|link| [Match::From(&link.name), Match::Uncalled]).collect();
    let rules: Vec<_> =
        matches.iter().map(|wanted| (Hook::Forward, wanted.as_slice(), Verdict::Drop)).collect();
    nftables::put(filters, ROUTER, &rules)?;
    namespace::set(FORWARDING, "1")
}

/// Refuses where somebody else decides on what is forwarded.
fn check_forwarders(filters: &mut Netlink) -> Result<(), UplinkError> {
    let mut tables = nftables::forwarders(filters).map_err(failed("list chains of nftables"))?;
    tables.retain(|table| table != ROUTER && !table.starts_with(PREFIX));
    if let Some(table) = tables.first() {
        return Err(UplinkError::Foreign(format!("table `{table}` of nftables")));
    }
    // Tables of iptables(8) as it was; the file is there when its module is.
    let legacy = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    if legacy.lines().any(|table| table == "filter") {
        return Err(UplinkError::Foreign("iptables".to_owned()));
    }
    Ok(())
}

fn open_filters() -> Result<Netlink, UplinkError> {
    let opened = Netlink::open_for_filters().and_then(|mut filters| {
        nftables::tables(&mut filters)?;
        Ok(filters)
    });
    opened.map_err(failed_filters("list tables of nftables"))
}

/// At most 15 bytes, which is what the name of a link may have.
fn name_of(socket: &Path) -> String {
    link_name(PREFIX, &[&socket.to_string_lossy()])
}
