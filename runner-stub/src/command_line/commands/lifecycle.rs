//! `down`, `stop`, `start`, `restart`, `kill`: a request, its progress, nothing else.

use anyhow::Result;

use super::super::args::{Down, Kill, Restart, Services, Stop};
use super::super::progress::Display;
use super::super::settings::{Settings, Terminal};
use super::super::{SUCCESS, client, output};
use crate::container::Container;
use crate::plan;
use crate::project::Record;
use crate::protocol::Request;

/// `down`
pub(crate) fn down(settings: &Settings, down: &Down) -> Result<u8> {
    if nothing_there(settings)? && !settings.project.volumes().is_dir() {
        output::note(&format!("warning: there is nothing of project `{}` to remove", settings.name));
        return Ok(SUCCESS);
    }
    ask(settings, &Request::Down { volumes: down.volumes, timeout: down.timeout })
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
    ask(settings, &Request::Restart { services: restart.services.clone(), timeout: restart.timeout })
}

/// `kill`
pub(crate) fn kill(settings: &Settings, kill: &Kill) -> Result<u8> {
    let request = Request::Kill { services: kill.services.clone(), signal: kill.signal.clone() };
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
