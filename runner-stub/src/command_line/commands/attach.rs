//! `attach`: follows a container's log from now on, and writes what is typed to its standard input where that is open
//! (`stdin_open`). It needs no supervisor, and its end changes nothing for the container.
//!
//! Output comes by lines, because it comes from the log.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

use super::super::SUCCESS;
use super::super::args::Attach;
use super::super::log_printer::{Follow, Look, Printer};
use super::super::output;
use super::super::settings::Settings;
use super::exec::running;
use crate::logs::{Reader, Start};

/// `attach`: the exit status is the container's.
pub(crate) fn run(settings: &Settings, attach: &Attach) -> Result<u8> {
    let container = running(settings, &attach.service, attach.index)?;
    let folder = settings.project.container(&container.identity.name);
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT].into_iter().collect();
    if attach.sig_proxy {
        signals.thread_block().context("failed to block signals")?;
        let folder = folder.clone();
        std::thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                if let Ok(signal) = signal.as_str().parse() {
                    let _ = dpack_sandbox::signal::send(&folder, signal);
                }
            }
        });
    }
    let fifo = folder.join(dpack_sandbox::input::NAME);
    if !attach.no_stdin && fifo.exists() {
        std::thread::spawn(move || {
            if let Err(error) = pass_on(&fifo) {
                output::note(&format!("warning: {error:#}"));
            }
        });
    }
    let look =
        Look { colour: false, plain: true, timestamps: false, streams_apart: true, since: None, until: None };
    let log = folder.join("log.json");
    let mut printer = Printer::new(look, &settings.project);
    let reader = Reader::open(&log, Start::Offset(Reader::end_of(&log)))?;
    printer.add(&container.identity.name, &settings.name, reader);
    printer.expect_running();
    let mut status = i32::from(SUCCESS);
    printer.follow(&mut |exited| {
        status = exited.code;
        Follow::End
    })?;
    printer.rest();
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// From our standard input to the container's.
fn pass_on(fifo: &Path) -> Result<()> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let open = OpenOptions::new().write(true).custom_flags(flags).open(fifo);
    let mut theirs = open.with_context(|| format!("failed to open `{}`", fifo.display()))?;
    let mut buffer = [0; 4096];
    let mut input = std::io::stdin().lock();
    loop {
        let length = input.read(&mut buffer).context("failed to read standard input")?;
        if length == 0 {
            return Ok(());
        }
        theirs.write_all(&buffer[..length]).context("failed to write to the container")?;
    }
}
