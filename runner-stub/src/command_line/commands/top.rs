//! `top`: the processes of running containers, as the device sees them. Read from `/proc`; needs no supervisor.

use anyhow::Result;
use dpack_sandbox::cgroup::processes;

use super::super::SUCCESS;
use super::super::args::Services;
use super::super::output::{self, Table};
use super::super::settings::Settings;
use crate::container::{Container, State};
use crate::plan;

/// `top`
pub(crate) fn run(settings: &Settings, arguments: &Services) -> Result<u8> {
    if !arguments.services.is_empty() {
        plan::check_services(&settings.known()?, &arguments.services)?;
    }
    for container in Container::list(&settings.project)? {
        let wanted =
            arguments.services.is_empty() || arguments.services.contains(&container.identity.service);
        let State::Running { pid, .. } = container.state else { continue };
        if wanted {
            let mut table = Table::new(&["UID", "PID", "PPID", "TIME", "CMD"]);
            processes(pid).into_iter().filter_map(row).for_each(|row| table.row(row));
            output::print(&format!("{}\n{table}\n", container.identity.name));
        }
    }
    Ok(SUCCESS)
}

/// One process; none when it has ended meanwhile.
fn row(pid: i32) -> Option<[String; 5]> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let (status, stat) = (read("status")?, read("stat")?);
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let seconds = (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second().max(1);
    let command = read("cmdline").unwrap_or_default().replace('\0', " ");
    // The kernel's own name for a process that has no arguments.
    let name = value("Name:").map(|name| format!("[{name}]")).unwrap_or_default();
    Some([
        value("Uid:")?,
        pid.to_string(),
        value("PPid:")?,
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        if command.trim().is_empty() { name } else { command.trim().to_owned() },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_one_line() {
        let own = row(std::process::id().cast_signed()).unwrap();
        assert_eq!(own[1], std::process::id().to_string());
        assert!(own[4].contains("dpack"), "{own:?}");
    }
}
