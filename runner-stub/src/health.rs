//! Whether a container is well: what is checked, what came of it, and `health.json`. Pure; the supervisor does the checks.
//!
//! The rules are Docker's (moby: `daemon/health.go`, and `daemon/commit.go` for what the image adds to the service).

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use dpack_bundle::image;
use dpack_compose::project::Healthcheck;
use serde::{Deserialize, Serialize};

use crate::files::{self, Lasts};

const VERSION: u32 = 1;
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Results that are kept.
const KEPT: usize = 5;
/// Bytes of a check's output that are kept.
pub(crate) const OUTPUT: usize = 4096;

/// How to find out: the service's check with the image's in its gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Between two checks.
    pub(crate) interval: Duration,
    /// How long one may take.
    pub(crate) timeout: Duration,
    /// After the start, in which failures do not count.
    pub(crate) start_period: Duration,
    /// Between two checks in the start period.
    pub(crate) start_interval: Duration,
    /// Failures in a row that make a container unhealthy.
    pub(crate) retries: u32,
}

impl Check {
    /// The check of a container; none when neither service nor image has one.
    pub(crate) fn of(service: Option<&Healthcheck>, image: Option<&image::Healthcheck>) -> Option<Self> {
        let (own, theirs) = (service.cloned().unwrap_or_default(), image.cloned().unwrap_or_default());
        if own.disable {
            return None;
        }
        let test = if own.test.is_empty() { &theirs.test } else { &own.test };
        let (kind, rest) = test.split_first()?;
        let command = match (kind.as_str(), rest) {
            ("NONE", _) | (_, []) => return None,
            ("CMD-SHELL", [line, ..]) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            ("CMD", rest) => rest.to_vec(),
            // Docker knows no other kind and runs no check.
            _ => return None,
        };
        let length = |own: Option<u64>, theirs: u64, usual: Duration| {
            let own = own.filter(|length| *length > 0).map(Duration::from_millis);
            own.or((theirs > 0).then_some(Duration::from_nanos(theirs))).unwrap_or(usual)
        };
        Some(Self {
            command,
            interval: length(own.interval_ms, theirs.interval, INTERVAL),
            timeout: length(own.timeout_ms, theirs.timeout, TIMEOUT),
            start_period: length(own.start_period_ms, theirs.start_period, Duration::ZERO),
            start_interval: length(own.start_interval_ms, theirs.start_interval, START_INTERVAL),
            retries: [own.retries.unwrap_or(0), theirs.retries, RETRIES]
                .into_iter()
                .find(|retries| *retries > 0)
                .unwrap_or(RETRIES),
        })
    }

    /// How long to wait before the next check of a container that started `age` ago.
    pub(crate) fn pause(&self, status: Status, age: Duration) -> Duration {
        if age < self.start_period && status == Status::Starting {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// What the checks have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Nothing yet.
    Starting,
    /// The last one succeeded.
    Healthy,
    /// The last ones failed.
    Unhealthy,
}

impl Status {
    /// Docker's word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        }
    }
}

/// One check that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// RFC 3339.
    pub(crate) start: String,
    /// RFC 3339.
    pub(crate) end: String,
    /// Exit status; -1 when it took too long or could not be done.
    pub(crate) exit_code: i32,
    /// The beginning of what it wrote.
    pub(crate) output: String,
}

/// `health.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Version of this file.
    version: u32,
    /// What the checks have told.
    pub(crate) status: Status,
    /// Failures in a row.
    pub(crate) failing_streak: u32,
    /// The last results.
    pub(crate) log: Vec<Probe>,
}

impl Health {
    /// Of a container that starts.
    pub(crate) fn starting() -> Self {
        Self { version: VERSION, status: Status::Starting, failing_streak: 0, log: Vec::new() }
    }

    /// Reads it; none for a container without a check or one that never ran.
    pub(crate) fn load(container: &Path) -> Result<Option<Self>> {
        files::read_json(&container.join("health.json"))
    }

    /// Writes it. After a power cut no container runs, so that nobody waits for the disk.
    pub(crate) fn store(&self, container: &Path) -> Result<()> {
        files::write_json_that(Lasts::ThisBoot, &container.join("health.json"), self)
    }

    /// What is known after one more check, which began when the container was `age` old.
    pub(crate) fn after(&self, check: &Check, probe: Probe, age: Duration) -> Self {
        let mut next = self.clone();
        if probe.exit_code == 0 {
            (next.status, next.failing_streak) = (Status::Healthy, 0);
        } else if self.status != Status::Starting || age >= check.start_period {
            next.failing_streak = next.failing_streak.saturating_add(1);
            if next.failing_streak >= check.retries {
                next.status = Status::Unhealthy;
            }
        }
        next.log.push(probe);
        let surplus = next.log.len().saturating_sub(KEPT);
        next.log.drain(..surplus);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_image_fills_the_gaps_of_the_service() {
        let image = image::Healthcheck {
            test: words(&["CMD-SHELL", "wget x"]),
            interval: 7_000_000_000,
            retries: 9,
            ..image::Healthcheck::default()
        };
        let service = |test: &[&str]| Healthcheck { test: words(test), ..Healthcheck::default() };
        let both = Check::of(Some(&Healthcheck { retries: Some(2), ..service(&[]) }), Some(&image)).unwrap();
        assert_eq!(both.command, ["/bin/sh", "-c", "wget x"]);
        assert_eq!((both.interval, both.timeout, both.retries), (Duration::from_secs(7), TIMEOUT, 2));
        let own = Check::of(Some(&service(&["CMD", "a", "b c"])), None).unwrap();
        assert_eq!((own.command, own.retries), (words(&["a", "b c"]), 3));
        for (service, image) in [
            (None, None),
            (Some(service(&["NONE"])), Some(&image)),
            (Some(Healthcheck { disable: true, ..service(&[]) }), Some(&image)),
            (Some(service(&["CMD"])), None),
        ] {
            assert_eq!(Check::of(service.as_ref(), image), None, "{service:?}");
        }
    }

    #[test]
    fn failures_count_after_the_start_period_or_the_first_success() {
        let check = Check {
            start_period: Duration::from_secs(10),
            retries: 2,
            ..Check::of(Some(&Healthcheck { test: words(&["CMD", "x"]), ..Healthcheck::default() }), None)
                .unwrap()
        };
        let story = |steps: &[(i32, u64)]| {
            steps.iter().fold(Health::starting(), |health, (exit_code, age)| {
                let probe = Probe {
                    start: String::new(),
                    end: String::new(),
                    exit_code: *exit_code,
                    output: String::new(),
                };
                health.after(&check, probe, Duration::from_secs(*age))
            })
        };
        for (steps, status, streak) in [
            (&[(1, 1), (1, 2), (-1, 3)][..], Status::Starting, 0),
            (&[(1, 1), (1, 11)], Status::Starting, 1),
            (&[(1, 11), (1, 12)], Status::Unhealthy, 2),
            (&[(0, 1), (1, 2)], Status::Healthy, 1),
            (&[(0, 1), (1, 2), (2, 3)], Status::Unhealthy, 2),
            (&[(1, 11), (1, 12), (0, 13)], Status::Healthy, 0),
        ] {
            let health = story(steps);
            assert_eq!((health.status, health.failing_streak), (status, streak), "{steps:?}");
        }
        assert_eq!(story(&[(0, 1); 9]).log.len(), KEPT);
        assert_eq!(check.pause(Status::Starting, Duration::from_secs(1)), START_INTERVAL);
        assert_eq!(check.pause(Status::Healthy, Duration::from_secs(1)), INTERVAL);
        assert_eq!(check.pause(Status::Starting, Duration::from_secs(10)), INTERVAL);
    }
}
