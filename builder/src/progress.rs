//! Progress: bars on a terminal, lines elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dpack::reporter::{Event, Reporter};
use dpack_payload::digest::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::text::{message, size};

/// The reporter for standard error as it is.
pub(crate) fn reporter(quiet: bool, colours: bool) -> Arc<dyn Reporter> {
    if !quiet && std::io::stderr().is_terminal() {
        Arc::new(Bars { all: MultiProgress::new(), bars: Mutex::default(), colours })
    } else {
        Arc::new(Lines { quiet, pulls: Mutex::default() })
    }
}

fn short(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

fn seconds(pause: Duration) -> String {
    format!("{:.1} s", pause.as_secs_f64())
}

/// One line for each thing that is done.
struct Lines {
    quiet: bool,
    pulls: Mutex<HashMap<Digest, (String, u64)>>,
}

impl Reporter for Lines {
    fn report(&self, event: Event) {
        let mut pulls = self.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            Event::Warning(text) => Some(format!("warning: {text}")),
            Event::Retry { reason, pause } => {
                Some(format!("warning: {reason}; trying again in {}", seconds(pause)))
            }
            _ if self.quiet => None,
            Event::BuildStarted { tool, place, platform } => {
                Some(format!("building {place} for {platform} with {tool}"))
            }
            Event::Output(line) => Some(line),
            Event::Resolved { image, platform, digest } => {
                Some(format!("resolved {image} for {platform}: {digest}"))
            }
            Event::PullStarted { digest, image, size } => {
                pulls.insert(digest, (image, size));
                None
            }
            Event::PullFinished { digest } => pulls
                .remove(&digest)
                .map(|(image, bytes)| format!("pulled {} of {image}, {}", short(&digest), size(bytes))),
            Event::CompressStarted { platform, total } if total > 0 => {
                Some(format!("compressing {} for {platform}", size(total)))
            }
            Event::Written { path, size: bytes, .. } => {
                Some(format!("wrote {}, {}", path.display(), size(bytes)))
            }
            _ => None,
        };
        if let Some(line) = line {
            message(&(line + "\n"));
        }
    }
}

/// A bar for each thing that is going on.
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
    colours: bool,
}

impl Bars {
    fn style(&self, template: &str) -> ProgressStyle {
        let template = if self.colours { template.to_owned() } else { template.replace(".cyan", "") };
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
    }

    fn start(&self, key: String, total: u64, text: String) {
        let style =
            self.style("{msg:38!} {bar:24.cyan} {decimal_bytes:>9} of {decimal_total_bytes:9} {eta:>4}");
        let bar = self.all.add(ProgressBar::new(total).with_style(style).with_message(text));
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(key, bar);
    }

    fn spin(&self, key: String, text: String) {
        let style = self.style("{msg:38!} {spinner:.cyan} {elapsed:>4}");
        let bar = self.all.add(ProgressBar::new_spinner().with_style(style).with_message(text));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(key, bar);
    }

    fn set(&self, key: &str, position: u64) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            bar.set_position(position);
        }
    }

    fn end(&self, key: &str) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }
}

impl Reporter for Bars {
    fn report(&self, event: Event) {
        let pull = |digest: &Digest| format!("pull {digest}");
        let cut = |digest: &Digest| format!("cut {digest}");
        match event {
            Event::BuildStarted { tool, place, platform } => {
                let _ = self.all.println(format!("building {place} for {platform} with {tool}"));
            }
            Event::Output(line) => {
                let _ = self.all.println(line);
            }
            Event::Resolved { .. } => {}
            Event::PullStarted { digest, image, size } => {
                self.start(pull(&digest), size, format!("pull {} {image}", short(&digest)));
            }
            Event::PullProgress { digest, received } => self.set(&pull(&digest), received),
            Event::PullFinished { digest } => self.end(&pull(&digest)),
            Event::LayerStarted { diff_id, image } => {
                self.spin(cut(&diff_id), format!("unpack {} {image}", short(&diff_id)));
            }
            Event::LayerFinished { diff_id, .. } => self.end(&cut(&diff_id)),
            Event::CompressStarted { platform, total } if total > 0 => {
                self.start(platform.to_string(), total, format!("compress {platform}"));
            }
            Event::CompressStarted { .. } => {}
            Event::CompressProgress { platform, done } => self.set(&platform.to_string(), done),
            Event::Written { platform, .. } => self.end(&platform.to_string()),
            Event::Retry { reason, pause } => {
                let _ = self.all.println(format!("warning: {reason}; trying again in {}", seconds(pause)));
            }
            Event::Warning(text) => {
                let _ = self.all.println(format!("warning: {text}"));
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}
