//! `down`, `rm`, `stop`, `start`, `restart`, `kill`: a request, its progress, nothing else.

use std::io::{BufRead as _, Write as _};

use anyhow::Result;

use super::super::args::{Down, Kill, Restart, Rm, Services, Stop};
use super::super::progress::Display;
use super::super::settings::{Settings, Terminal};
use super::super::{SUCCESS, client, output, uplink};
use crate::container::{Container, Identity, State};
use crate::plan;
use crate::project::Record;
use crate::protocol::Request;

/// `down`
pub(crate) fn down(settings: &Settings, down: &Down) -> Result<u8> {
    let done = down_all(settings, down);
    uplink::tidy(settings);
    done
}

fn down_all(settings: &Settings, down: &Down) -> Result<u8> {
    if nothing_there(settings)? && !settings.project.volumes().is_dir() {
        output::note(&format!("warning: there is nothing of project `{}` to remove", settings.name));
        return Ok(SUCCESS);
    }
    let Down { volumes, remove_orphans, timeout, services } = down;
    let (services, orphans) = (services.clone(), *remove_orphans);
    ask(settings, &Request::Down { services, volumes: *volumes, orphans, timeout: *timeout })
}

/// `rm`
pub(crate) fn rm(settings: &Settings, rm: &Rm) -> Result<u8> {
    let known = settings.known()?;
    plan::check_services(&known, &rm.services)?;
    let meant: Vec<String> = Container::list(&settings.project)?
        .into_iter()
        .filter(|container| {
            let Identity { service, one_off, .. } = &container.identity;
            let still = !matches!(container.state, State::Running { .. } | State::Restarting { .. });
            let named = rm.services.is_empty() || rm.services.contains(service);
            named && !one_off && known.services.contains_key(service) && (still || rm.stop)
        })
        .map(|container| container.identity.name)
        .collect();
    if meant.is_empty() {
        output::note("No stopped containers");
        return Ok(SUCCESS);
    }
    if !rm.force {
        output::note(&format!("Going to remove {}", meant.join(", ")));
        if !confirmed()? {
            return Ok(SUCCESS);
        }
    }
    ask(settings, &Request::Remove { services: rm.services.clone(), stop: rm.stop, volumes: rm.volumes })
}

/// Asks on the terminal; no answer is no.
fn confirmed() -> Result<bool> {
    let _ = write!(std::io::stderr().lock(), "Are you sure? [yN] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// `stop`
pub(crate) fn stop(settings: &Settings, stop: &Stop) -> Result<u8> {
    let request = Request::Stop { services: stop.services.clone(), timeout: stop.timeout };
    unless_nothing_there(settings, &stop.services, &request)
}

/// `start`
pub(crate) fn start(settings: &Settings, start: &Services) -> Result<u8> {
    ask(settings, &Request::Start { services: start.services.clone() })
}

/// `restart`
pub(crate) fn restart(settings: &Settings, restart: &Restart) -> Result<u8> {
    let Restart { services, timeout, no_deps } = restart;
    let request = Request::Restart { services: services.clone(), timeout: *timeout, dependents: !no_deps };
    ask(settings, &request)
}

/// `kill`
pub(crate) fn kill(settings: &Settings, kill: &Kill) -> Result<u8> {
    let Kill { services, signal, remove_orphans } = kill;
    let (services, signal) = (services.clone(), signal.clone());
    let request = Request::Kill { services, signal, orphans: *remove_orphans };
    unless_nothing_there(settings, &kill.services, &request)
}

fn unless_nothing_there(settings: &Settings, services: &[String], request: &Request) -> Result<u8> {
    if nothing_there(settings)? {
        plan::check_services(&settings.known()?, services)?;
        return Ok(SUCCESS);
    }
    ask(settings, request)
}

fn nothing_there(settings: &Settings) -> Result<bool> {
    Ok(Record::load(&settings.project)?.is_none() && Container::list(&settings.project)?.is_empty())
}

fn ask(settings: &Settings, request: &Request) -> Result<u8> {
    let mut display = Display::new(Terminal::detect().redraw);
    client::request(settings, request, &mut |event| display.show(event))?;
    Ok(SUCCESS)
}
