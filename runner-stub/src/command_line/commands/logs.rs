//! `logs`: read from disk; needs no supervisor.

use anyhow::Result;

use super::super::SUCCESS;
use super::super::args::Logs;
use super::super::log_printer::{Follow, Look, Printer};
use super::super::settings::{Settings, Terminal};
use super::super::times;
use crate::container::Container;
use crate::failure::Failure;
use crate::logs::{Reader, Start};
use crate::plan;

/// `logs`
pub(crate) fn run(settings: &Settings, logs: &Logs) -> Result<u8> {
    let start = match logs.tail.as_str() {
        "all" | "-1" => Start::Beginning,
        number => Start::Last(number.parse().map_err(|_| {
            Failure::usage(format!("`{number}` is no number of lines"))
                .hint("--tail takes a number, or `all`")
        })?),
    };
    let since = logs.since.as_deref().map(times::parse).transpose()?;
    let until = logs.until.as_deref().map(times::parse).transpose()?;
    if !logs.services.is_empty() {
        plan::check_services(&settings.known()?, &logs.services)?;
    }
    let look = Look {
        colour: Terminal::detect().colour && !logs.no_color,
        plain: logs.no_log_prefix,
        timestamps: logs.timestamps,
        // All of it is what was asked for, as with Docker Compose.
        streams_apart: false,
        since,
        until,
    };
    let mut printer = Printer::new(look, &settings.project);
    for container in Container::list(&settings.project)? {
        let identity = &container.identity;
        let index = logs.index.is_none_or(|index| index == identity.number);
        if index
            && !identity.one_off
            && (logs.services.is_empty() || logs.services.contains(&identity.service))
        {
            let log = settings.project.container(&identity.name).join("log.json");
            printer.add(&identity.name, &settings.name, Reader::open(&log, start)?);
        }
    }
    printer.drain()?;
    // What is still to come is later than `--until`, unless that is in the future; Docker does not wait for it either.
    if logs.follow && until.is_none() {
        printer.follow(&mut |_| Follow::On)?;
    }
    printer.rest();
    Ok(SUCCESS)
}
