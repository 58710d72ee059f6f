//! `network capture`: the frames of one bridge, as a pcap file (draft-ietf-opsawg-pcap).
//!
//! The network process opens the packet socket, because only it is in the project's namespace; this process reads it. It sees
//! what containers of the network send to each other and to the bridge. Published ports do not pass there: they are dialled
//! inside the container's own namespace.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};

use super::super::super::SUCCESS;
use super::super::super::args::NetworkCapture;
use super::super::super::output::note;
use super::super::super::settings::Settings;
use crate::failure::{Context as _, Failure};
use crate::time;

/// Longest frame: a segment of 64 KiB that was not cut to the MTU yet, with its headers.
const FRAME: usize = 256 * 1024;
/// Bytes of frames that wait to be written; the kernel cuts it down to `net.core.rmem_max`.
const BUFFER: usize = 16 << 20;
/// Microseconds, Ethernet.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: (u16, u16) = (2, 4);
const ETHERNET: u32 = 1;

/// `network capture`
pub(crate) fn run(settings: &Settings, arguments: &NetworkCapture) -> Result<u8> {
    let project = settings.known()?;
    let key = super::key(&project, &arguments.network)?;
    let Some(mut client) = super::client(settings)? else {
        let failure = Failure::environment("no network of the project is up").hint("start it: up -d");
        return Err(failure.into());
    };
    let (socket, bridge) = client.packet_socket(key).environment()?;
    // Before anything is there to be lost: without it Ctrl-C would end us with frames unwritten.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block().context("failed to block signals")?;
    let signals =
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("failed to wait for signals")?;

    let mut writer = Writer::create(&arguments.write)?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER).context("failed to make room for packets")?;
    dpack_sandbox::packet::listen(socket.as_fd(), bridge)
        .with_context(|| format!("failed to listen on network `{key}`"))
        .environment()?;
    note(&format!("capturing network `{key}`, Ctrl-C ends it"));
    let count = copy(&socket, &signals, &mut writer, arguments.count.unwrap_or(u64::MAX))?;
    let lost = dpack_sandbox::packet::statistics(socket.as_fd()).map_or(0, |(_, lost)| lost);
    note(&format!("{count} packets written, {lost} lost"));
    Ok(SUCCESS)
}

/// Until a signal comes or `limit` frames are written; how many were.
fn copy(socket: &OwnedFd, signals: &SignalFd, writer: &mut Writer, limit: u64) -> Result<u64> {
    let mut frame = vec![0; FRAME];
    let mut count = 0;
    while count < limit {
        match recv(socket, &mut frame[..], RecvFlags::TRUNC) {
            Ok((kept, length)) => {
                writer.frame(frame.get(..kept).unwrap_or_default(), length, time::now())?;
                count += 1;
            }
            Err(Errno::AGAIN) => {
                writer.flush()?;
                let mut ready = [
                    PollFd::new(socket.as_fd(), PollFlags::POLLIN),
                    PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                ];
                poll(&mut ready, PollTimeout::NONE).context("failed to wait for packets")?;
                if ready[1].any() == Some(true) {
                    break;
                }
            }
            // The bridge was taken down and is gone: no more will come.
            Err(Errno::NETDOWN | Errno::NODEV) => break,
            Err(errno) => return Err(errno).context("failed to receive packets"),
        }
    }
    writer.flush()?;
    Ok(count)
}

/// A pcap file that grows.
struct Writer {
    out: BufWriter<Box<dyn Write>>,
    name: String,
}

impl Writer {
    fn create(path: &Path) -> Result<Self> {
        let (out, name): (Box<dyn Write>, String) = match path.to_str() {
            Some("-") => (Box::new(io::stdout()), "standard output".to_owned()),
            _ => {
                let file = File::create(path)
                    .with_context(|| format!("failed to create `{}`", path.display()))
                    .environment()?;
                (Box::new(file), format!("`{}`", path.display()))
            }
        };
        let mut writer = Self { out: BufWriter::new(out), name };
        writer.write(&header())?;
        Ok(writer)
    }

    fn frame(&mut self, frame: &[u8], length: usize, at: u64) -> Result<()> {
        self.write(&record(frame, length, at))?;
        self.write(frame)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.out.write_all(bytes);
        self.explain(written)
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.out.flush();
        self.explain(flushed)
    }

    fn explain(&self, result: io::Result<()>) -> Result<()> {
        result.with_context(|| format!("failed to write to {}", self.name)).environment()
    }
}

/// The beginning of a pcap file.
fn header() -> Vec<u8> {
    let mut header = MAGIC.to_le_bytes().to_vec();
    header.extend(VERSION.0.to_le_bytes());
    header.extend(VERSION.1.to_le_bytes());
    // Time zone and accuracy, which nobody fills in.
    header.extend([0; 8]);
    header.extend((FRAME as u32).to_le_bytes());
    header.extend(ETHERNET.to_le_bytes());
    header
}

/// What comes before a frame; `at` is in nanoseconds since 1970.
fn record(frame: &[u8], length: usize, at: u64) -> Vec<u8> {
    let (seconds, microseconds) = (at / 1_000_000_000, at % 1_000_000_000 / 1000);
    [seconds as u32, microseconds as u32, frame.len() as u32, length as u32]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_laid_out_as_the_specification_says() {
        let expected = "d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000";
        assert_eq!(hex(&header()), expected.replace(' ', ""));
        let expected = "02000000 03000000 04000000 05000000";
        assert_eq!(hex(&record(&[1, 2, 3, 4], 5, 2_000_003_999)), expected.replace(' ', ""));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
