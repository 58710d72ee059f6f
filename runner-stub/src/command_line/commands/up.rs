//! `up`: asks the supervisor; in the foreground, shows the logs until everything has exited or the user stops it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

use super::super::args::Up;
use super::super::log_printer::{Look, Printer};
use super::super::progress::Display;
use super::super::settings::{Settings, Terminal};
use super::super::{SUCCESS, client, output};
use crate::container::Container;
use crate::logs::{Reader, Start};
use crate::protocol::Request;

/// What Docker Compose exits with after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// `up`
pub(crate) fn run(settings: &Settings, up: &Up) -> Result<u8> {
    let terminal = Terminal::detect();
    settings.executable.check_platform()?;
    let request = Request::Up {
        desired: Box::new(settings.desired()?),
        services: up.services.clone(),
        timeout: up.timeout,
    };
    if up.detach {
        let mut display = Display::new(terminal.redraw);
        client::request(settings, &request, &mut |event| display.show(event))?;
        return Ok(SUCCESS);
    }
    let interrupted = AtomicBool::new(false);
    let signals = block_signals()?;
    std::thread::scope(|scope| {
        let (interrupted, timeout) = (&interrupted, up.timeout);
        scope.spawn(move || stop_on_signal(settings, &signals, interrupted, timeout));
        let result = foreground(settings, up, terminal, &request);
        // The thread waits for signals for ever; the process ends here, with what it has to say said.
        let status = match &result {
            Err(error) => {
                output::report(&crate::failure::Failure::of(error));
                crate::failure::Failure::of(error).exit_status()
            }
            Ok(()) if interrupted.load(Ordering::SeqCst) => INTERRUPTED,
            Ok(()) => SUCCESS,
        };
        std::process::exit(status.into())
    })
}

fn foreground(settings: &Settings, up: &Up, terminal: Terminal, request: &Request) -> Result<()> {
    let look = Look { colour: terminal.colour && !up.no_color, plain: up.no_log_prefix, timestamps: false };
    // What was written before is not shown: only `logs` does that.
    let mut readers = BTreeMap::new();
    for container in Container::list(&settings.project)? {
        let log = settings.project.container(&container.identity.name).join("log.json");
        readers.insert(container.identity.name, Reader::open(&log, Start::Offset(Reader::end_of(&log)))?);
    }
    let mut display = Display::new(terminal.redraw);
    let mut containers = client::request(settings, request, &mut |event| display.show(event))?.containers;
    containers.sort();
    let mut printer = Printer::new(look, &settings.project);
    for container in &containers {
        let reader = match readers.remove(container) {
            Some(reader) => reader,
            None => Reader::open(&settings.project.container(container).join("log.json"), Start::Beginning)?,
        };
        printer.add(container, &settings.name, reader);
    }
    output::note(&format!("Attaching to {}", printer.names().join(", ")));
    printer.expect_running();
    printer.follow(true)
}

/// Signals that end us reach only [`stop_on_signal`]. Before any thread and any other role is started; the supervisor
/// unblocks them again for itself and its children.
fn block_signals() -> Result<SigSet> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().context("failed to block signals")?;
    Ok(signals)
}

/// The first signal stops the containers, the second one kills them.
fn stop_on_signal(settings: &Settings, signals: &SigSet, interrupted: &AtomicBool, timeout: Option<u32>) {
    if signals.wait().is_err() {
        return;
    }
    interrupted.store(true, Ordering::SeqCst);
    output::note("Gracefully stopping... (press Ctrl+C again to force)");
    std::thread::scope(|scope| {
        scope.spawn(|| ask(settings, &Request::Stop { services: Vec::new(), timeout }));
        while signals.wait().is_ok() {
            scope.spawn(|| {
                ask(settings, &Request::Kill { services: Vec::new(), signal: "SIGKILL".to_owned() })
            });
        }
    });
}

fn ask(settings: &Settings, request: &Request) {
    let mut display = Display::new(false);
    if let Err(error) = client::request(settings, request, &mut |event| display.show(event)) {
        output::report(&crate::failure::Failure::of(&error));
    }
}
