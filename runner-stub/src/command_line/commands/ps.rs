//! `ps`: read from disk; needs no supervisor.

use std::net::IpAddr;

use anyhow::Result;
use dpack_compose::project::{NetworkMode, Port, Protocol};
use dpack_sandbox::cgroup::Group;
use dpack_sandbox::record;
use serde::Serialize;

use super::super::SUCCESS;
use super::super::args::Ps;
use super::super::output::{self, Table};
use super::super::settings::Settings;
use super::super::template::Field;
use crate::container::{Container, State};
use crate::failure::Failure;
use crate::{plan, time};

/// Longest command that is shown, as Docker has it.
const COMMAND: usize = 20;

/// One line of `--format json`; the names are Docker Compose's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    names: &'a str,
    command: String,
    project: &'a str,
    service: &'a str,
    image: &'a str,
    created_at: &'a str,
    running_for: String,
    state: &'a str,
    status: String,
    health: &'static str,
    exit_code: i32,
    networks: String,
    ports: String,
    publishers: Vec<Publisher>,
}

/// Fields of templates, with Docker Compose's headings.
const FIELDS: &[Field] = &[
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("Names", "NAMES"),
    ("Command", "COMMAND"),
    ("Project", "PROJECT"),
    ("Service", "SERVICE"),
    ("Image", "IMAGE"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Health", "HEALTH"),
    ("ExitCode", "EXIT CODE"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
];

#[derive(Debug, Serialize)]
struct Publisher {
    #[serde(rename = "URL")]
    url: String,
    #[serde(rename = "TargetPort")]
    target: u16,
    #[serde(rename = "PublishedPort")]
    published: u16,
    #[serde(rename = "Protocol")]
    protocol: &'static str,
}

/// `ps`
pub(crate) fn run(settings: &Settings, ps: &Ps) -> Result<u8> {
    if !ps.services.is_empty() {
        plan::check_services(&settings.known()?, &ps.services)?;
    }
    let wanted = states(ps)?;
    let shown = |container: &Container| {
        let identity = &container.identity;
        let alive = container.state.is_running() || matches!(container.state, State::Restarting { .. });
        let state = match wanted.is_empty() {
            true => ps.all || alive,
            false => wanted.contains(&self::state(container, settings).0),
        };
        state
            && (ps.all || !identity.one_off)
            && (ps.services.is_empty() || ps.services.contains(&identity.service))
    };
    let containers: Vec<Container> = Container::list(&settings.project)?.into_iter().filter(shown).collect();
    let known = if ps.orphans { None } else { Some(settings.known()?) };
    let ours = |container: &Container| {
        known.as_ref().is_none_or(|known| known.services.contains_key(&container.identity.service))
    };
    let containers: Vec<Container> = containers.into_iter().filter(ours).collect();
    if ps.names {
        let mut names: Vec<&str> =
            containers.iter().map(|container| container.identity.service.as_str()).collect();
        names.dedup();
        output::print(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
    } else if ps.quiet {
        output::print(
            &containers.iter().map(|container| format!("{}\n", container.identity.id)).collect::<String>(),
        );
    } else {
        let rows: Vec<Row<'_>> =
            containers.iter().map(|container| row(container, settings, ps.no_trunc)).collect();
        ps.format.format.print(&rows, FIELDS, |rows| table(rows).to_string())?;
    }
    Ok(SUCCESS)
}

/// The states of `--status` and `--filter`.
fn states(ps: &Ps) -> Result<Vec<&str>, Failure> {
    let known = ["created", "running", "restarting", "paused", "exited"];
    let mut wanted: Vec<&str> = ps.status.iter().map(String::as_str).collect();
    if let Some(filter) = &ps.filter {
        wanted.push(filter.strip_prefix("status=").ok_or_else(|| {
            Failure::usage(format!("`{filter}` is no filter")).hint("--filter status=running")
        })?);
    }
    // Docker has more words for states that do not exist here.
    match wanted.iter().find(|state| !known.contains(state) && !["dead", "removing"].contains(state)) {
        None => Ok(wanted),
        Some(other) => Err(Failure::usage(format!("`{other}` is no state of a container"))
            .hint(format!("the states are: {}", known.join(", ")))),
    }
}

fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::new(&["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
    for row in rows {
        let cells =
            [row.name, row.image, &row.command, row.service, &row.running_for, &row.status, &row.ports];
        table.row(cells.map(str::to_owned));
    }
    table
}

/// As Docker quotes it, and cuts it off unless all of it is wanted.
fn command(words: &[String], whole: bool) -> String {
    let quoted = words.iter().enumerate().map(|(index, word)| match index > 0 && word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    let words = quoted.collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(COMMAND) {
        Some((end, _)) if !whole => format!("{:?}", format!("{}…", &words[..end - 1])),
        _ => format!("{words:?}"),
    }
}

fn row<'a>(container: &'a Container, settings: &'a Settings, whole: bool) -> Row<'a> {
    let (identity, project) = (&container.identity, settings.name.as_str());
    let (state, status) = state(container, settings);
    let networks = match &identity.definition.network {
        NetworkMode::Networks(networks) => {
            networks.keys().map(|key| format!("{project}_{key}")).collect::<Vec<_>>().join(",")
        }
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Service(service) => format!("service:{service}"),
        NetworkMode::Container(name) => format!("container:{name}"),
    };
    let running = container.state.is_running();
    let health = container.health.as_ref().filter(|_| running).map(|health| health.status);
    let published: &[Port] = if running { &container.supervision.ports } else { &[] };
    Row {
        id: if whole { &identity.id } else { identity.short_id() },
        name: &identity.name,
        names: &identity.name,
        command: command(&identity.command, whole),
        project,
        service: &identity.service,
        image: &identity.image,
        created_at: &identity.created,
        running_for: time::parse(&identity.created)
            .map_or_else(String::new, |at| format!("{} ago", time::ago(at, time::now()))),
        state,
        status: match status {
            Some(more) => format!("{} ({more})", container.state.status(health, time::now())),
            None => container.state.status(health, time::now()),
        },
        health: health.map_or("", crate::health::Status::word),
        exit_code: match container.state {
            State::Exited { code, .. } | State::Restarting { code, .. } => code,
            State::Created | State::Running { .. } => 0,
        },
        networks,
        ports: ports(published, if running { &identity.exposed } else { &[] }),
        publishers: published.iter().map(publisher).collect(),
    }
}

/// The word for its state, and what only its control group or its end tells.
fn state(container: &Container, settings: &Settings) -> (&'static str, Option<&'static str>) {
    match container.state {
        State::Running { pid, .. } if Group::of_process(pid).is_some_and(|group| group.is_frozen()) => {
            ("paused", Some("Paused"))
        }
        State::Exited { .. } | State::Restarting { .. } => {
            let folder = settings.project.container(&container.identity.name);
            let killed = matches!(record::state(&folder), Ok(record::State::Exited(exit)) if exit.oom_killed);
            (container.state.word(), killed.then_some("out of memory"))
        }
        state => (state.word(), None),
    }
}

fn publisher(port: &Port) -> Publisher {
    Publisher {
        url: port.host_ip.map_or_else(String::new, |address| address.to_string()),
        target: port.target,
        published: port.published.unwrap_or(0),
        protocol: protocol(port.protocol),
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp`
fn ports(published: &[Port], exposed: &[String]) -> String {
    let only_exposed = exposed.iter().filter(|exposed| {
        !published.iter().any(|port| **exposed == format!("{}/{}", port.target, protocol(port.protocol)))
    });
    let shown = published.iter().map(|port| {
        let address = match port.host_ip {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(address)) => address.to_string(),
            None => "*".to_owned(),
        };
        format!("{address}:{}->{}/{}", port.published.unwrap_or(0), port.target, protocol(port.protocol))
    });
    shown.chain(only_exposed.cloned()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_like_dockers() {
        let port = |ip: &str, target| Port {
            target,
            published: Some(8080),
            published_last: None,
            host_ip: Some(ip.parse().unwrap()),
            protocol: Protocol::Tcp,
        };
        let published = [port("0.0.0.0", 80), port("::", 80)];
        let exposed = ["80/tcp".to_owned(), "443/tcp".to_owned()];
        assert_eq!(ports(&published, &exposed), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp");
        assert_eq!(ports(&[], &[]), "");
    }
}
