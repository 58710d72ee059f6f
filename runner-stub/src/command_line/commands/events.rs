//! `events`: read from disk; needs no supervisor.

use std::time::Duration;

use anyhow::Result;

use super::super::SUCCESS;
use super::super::args::Events;
use super::super::output;
use super::super::settings::Settings;
use super::super::times;
use crate::events::{Event, Reader};
use crate::logs::Follower;
use crate::{plan, time};

/// How often to look whether `--until` has come.
const LOOK: Duration = Duration::from_secs(1);

/// `events`
pub(crate) fn run(settings: &Settings, arguments: &Events) -> Result<u8> {
    if !arguments.services.is_empty() {
        plan::check_services(&settings.known()?, &arguments.services)?;
    }
    let since = arguments.since.as_deref().map(times::parse).transpose()?;
    let until = arguments.until.as_deref().map(times::parse).transpose()?;
    settings.paths.make_data(&settings.project.folder)?;
    let mut follower = Follower::new();
    follower.watch_file(&settings.project.folder, &settings.project.events());
    let mut reader = Reader::new(&settings.project, since.is_some());
    loop {
        let over = until.is_some_and(|until| time::now() >= until);
        for event in reader.read()? {
            let at = time::parse(&event.time).unwrap_or(0);
            let meant = arguments.services.is_empty() || arguments.services.contains(&event.service);
            if meant && since.is_none_or(|since| at >= since) && until.is_none_or(|until| at <= until) {
                print(&event, arguments.json)?;
            }
        }
        if over {
            return Ok(SUCCESS);
        }
        follower.watch_file(&settings.project.folder, &settings.project.events());
        follower.wait(LOOK);
    }
}

fn print(event: &Event, json: bool) -> Result<()> {
    if json {
        output::print(&format!("{}\n", serde_json::to_string(event)?));
        return Ok(());
    }
    let attributes: Vec<String> =
        event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let (time, id) = (event.time.replace('T', " "), event.id.get(..64).unwrap_or(&event.id));
    let time = time.trim_end_matches('Z').get(..26).unwrap_or(&event.time).to_owned();
    output::print(&format!("{time} container {} {id} ({})\n", event.action, attributes.join(", ")));
    Ok(())
}
