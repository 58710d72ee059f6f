//! `up`: asks the supervisor; in the foreground, shows the logs until everything has exited or the user stops it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

use super::super::args::{Create, Making, Up};
use super::super::log_printer::{Follow, Look, Printer};
use super::super::progress::Display;
use super::super::settings::{Settings, Terminal};
use super::super::{SUCCESS, client, output};
use crate::container::{Container, Identity};
use crate::failure::Failure;
use crate::logs::{Reader, Start};
use crate::plan::{self, Recreate, UpOptions};
use crate::protocol::{Desired, Request};

/// What Docker Compose exits with after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// `up`
pub(crate) fn run(settings: &Settings, up: &Up) -> Result<u8> {
    let terminal = Terminal::detect();
    settings.executable.check_platform()?;
    let desired = scaled(settings.desired(&up.services)?, &up.making.scale)?;
    let named: Vec<String> =
        up.exit_code_from.iter().chain(&up.attach).chain(&up.no_attach).cloned().collect();
    plan::check_services(&desired.project, &named)?;
    let options = UpOptions {
        timeout: up.timeout,
        no_dependencies: up.no_deps,
        create_only: up.no_start,
        wait: up.wait,
        wait_timeout: up.wait_timeout,
        renew_volumes: up.renew_anon_volumes,
        ..options(&up.making, &up.services, up.always_recreate_deps)
    };
    let request = Request::Up { desired: Box::new(desired), options };
    if up.making.dry_run {
        return dry_run(settings, &request);
    }
    if up.detach || up.wait || up.no_start {
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
            Ok(_) if interrupted.load(Ordering::SeqCst) => INTERRUPTED,
            Ok(status) => *status,
        };
        std::process::exit(status.into())
    })
}

/// `create`
pub(crate) fn create(settings: &Settings, create: &Create) -> Result<u8> {
    settings.executable.check_platform()?;
    let desired = scaled(settings.desired(&create.services)?, &create.making.scale)?;
    let options = UpOptions { create_only: true, ..options(&create.making, &create.services, false) };
    let request = Request::Up { desired: Box::new(desired), options };
    if create.making.dry_run {
        return dry_run(settings, &request);
    }
    let mut display = Display::new(Terminal::detect().redraw);
    client::request(settings, &request, &mut |event| display.show(event))?;
    Ok(SUCCESS)
}

/// Prints the steps that a request would take.
fn dry_run(settings: &Settings, request: &Request) -> Result<u8> {
    let mut display = Display::new(false);
    let done = client::request(settings, request, &mut |event| display.show(event))?;
    output::print(&done.plan);
    Ok(SUCCESS)
}

fn options(making: &Making, services: &[String], dependencies: bool) -> UpOptions {
    let recreate = match making {
        Making { no_recreate: true, .. } => Recreate::None,
        Making { force_recreate: true, .. } if dependencies => Recreate::All,
        Making { force_recreate: true, .. } => Recreate::Selected,
        _ if dependencies => Recreate::Dependencies,
        _ => Recreate::Changed,
    };
    UpOptions {
        services: services.to_vec(),
        recreate,
        remove_orphans: making.remove_orphans,
        allow_degraded: making.limits.allow_degraded,
        dry_run: making.dry_run,
        ..UpOptions::default()
    }
}

/// The project with as many containers as `--scale` asks for.
fn scaled(mut desired: Desired, scale: &[String]) -> Result<Desired> {
    for text in scale {
        let parsed = text.split_once('=').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let Some((name, number)) = parsed else {
            let failure = Failure::usage(format!("`{text}` says no number of containers"));
            return Err(failure.hint("--scale SERVICE=N").into());
        };
        plan::check_services(&desired.project, &[name.to_owned()])?;
        if let Some(service) = desired.project.services.get_mut(name) {
            service.replicas = Some(number);
        }
    }
    Ok(desired)
}

fn foreground(settings: &Settings, up: &Up, terminal: Terminal, request: &Request) -> Result<u8> {
    let look = Look {
        colour: terminal.colour && !up.no_color,
        plain: up.no_log_prefix,
        timestamps: up.timestamps,
        streams_apart: true,
        since: None,
        until: None,
    };
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
    let mut services = BTreeMap::new();
    for container in &containers {
        let folder = settings.project.container(container);
        let Some(known) = Container::load(&folder)? else { continue };
        let reader = match readers.remove(container) {
            Some(reader) => reader,
            None => Reader::open(&folder.join("log.json"), Start::Beginning)?,
        };
        printer.add(container, &settings.name, reader);
        if !is_attached(up, &known.identity) {
            printer.silence();
        }
        services.insert(container.clone(), known.identity.service);
    }
    output::note(&format!("Attaching to {}", printer.names().join(", ")));
    printer.expect_running();
    let cascade = up.abort_on_container_exit || up.exit_code_from.is_some();
    let mut status: Option<i32> = None;
    let mut chosen: Option<i32> = None;
    std::thread::scope(|scope| {
        printer.follow(&mut |exited| {
            output::note(&format!("{} exited with code {}", exited.prefix, exited.code));
            let fails = up.abort_on_container_failure && exited.code != 0;
            if status.is_none() && (cascade || fails) {
                status = Some(exited.code);
                output::note("Aborting on container exit...");
                scope.spawn(|| ask(settings, &Request::Stop { services: Vec::new(), timeout: up.timeout }));
            }
            if up.exit_code_from.is_some() && services.get(exited.container) == up.exit_code_from.as_ref() {
                chosen = chosen.or(Some(exited.code));
            }
            Follow::On
        })
    })?;
    Ok(u8::try_from(chosen.or(status).unwrap_or(0)).unwrap_or(u8::MAX))
}

/// Whether the container's output is shown: by the command line, else by the service's `attach`.
fn is_attached(up: &Up, identity: &Identity) -> bool {
    let service = &identity.service;
    if up.no_attach.contains(service) {
        return false;
    }
    match up.attach.is_empty() {
        // What was asked for by name, and what it depends on only on request, as in Docker Compose.
        true if !up.services.is_empty() && !up.attach_dependencies && !up.services.contains(service) => false,
        true => identity.definition.attach.unwrap_or(true),
        false => up.attach.contains(service),
    }
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
                ask(
                    settings,
                    &Request::Kill { services: Vec::new(), signal: "SIGKILL".to_owned(), orphans: false },
                )
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
