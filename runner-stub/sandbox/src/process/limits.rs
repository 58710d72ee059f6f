//! Resource limits by name, and the score for the out-of-memory killer.

use rustix::process::{Resource, Rlimit};

use super::confine;
use crate::Error;

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_STACK" => Resource::Stack,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        _ => return None,
    })
}

/// The most that processes of this session may be allowed of a resource, by its name in config.json; nothing when there is
/// no end to it.
pub fn hard_limit(name: &str) -> Option<u64> {
    rustix::process::getrlimit(resource(name)?).maximum
}

/// Whether all names are known, and each is there once (config.md, "POSIX process": MUST generate an error).
pub(super) fn check(limits: &[crate::spec::Rlimit]) -> Result<(), Error> {
    for (index, limit) in limits.iter().enumerate() {
        find(&limit.kind)?;
        if limits[..index].iter().any(|other| other.kind == limit.kind) {
            return Err(Error::Invalid {
                property: "process.rlimits".to_owned(),
                reason: format!("`{}` is there twice", limit.kind),
            });
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<Resource, Error> {
    resource(name).ok_or_else(|| Error::Invalid {
        property: "process.rlimits".to_owned(),
        reason: format!("`{name}` is not a resource"),
    })
}

/// `u64::MAX` is no limit.
pub(super) fn set(limits: &[crate::spec::Rlimit]) -> Result<(), Error> {
    for limit in limits {
        let resource = find(&limit.kind)?;
        let value = |number: u64| (number != u64::MAX).then_some(number);
        let new = Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
        rustix::process::setrlimit(resource, new).map_err(confine(super::STEP_LIMIT))?;
    }
    Ok(())
}

/// Written while the host's `/proc` is still at hand.
pub(crate) fn set_oom_score(score: Option<i32>) -> Result<(), Error> {
    let Some(score) = score else { return Ok(()) };
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
        .map_err(|source| Error::Confine { step: "lower the out-of-memory score", source })
}
