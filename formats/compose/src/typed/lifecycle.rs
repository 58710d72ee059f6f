//! Health, restarts, hooks.

use crate::diagnostic::{Path, Report};
use crate::node::{Node, Value};
use crate::project::{Healthcheck, Hook, Order, Restart, UpdateConfig};
use crate::short::time;
use crate::typed::values;

/// A duration in milliseconds, rounded up.
pub(super) fn milliseconds(node: &Node, key: &str) -> Option<u64> {
    let nanoseconds = values::text(node, key).and_then(|text| time::parse(text).ok())?;
    Some(nanoseconds.div_ceil(1_000_000))
}

pub(super) fn healthcheck(service: &Node, path: &Path<'_>, report: &mut Report) -> Option<Healthcheck> {
    let node = service.get("healthcheck")?;
    let path = path.key("healthcheck");
    let test = node.get("test").and_then(values::texts).unwrap_or_default();
    let at = node.get("test").map_or(node.at, |test| test.at);
    let disable = values::flag(node, "disable") || test.first().is_some_and(|word| word == "NONE");
    match test.first().map(String::as_str) {
        None => {}
        Some("NONE") => {}
        Some("CMD" | "CMD-SHELL") if test.len() > 1 => {}
        Some("CMD" | "CMD-SHELL") => {
            report.error(at, &path.key("test"), "there is no command in it");
        }
        Some(other) => {
            let message = format!("a list starts with `NONE`, `CMD` or `CMD-SHELL`, found `{other}`");
            report.error(at, &path.key("test"), message);
        }
    }
    if test.first().is_some_and(|word| word == "CMD-SHELL") && test.len() > 2 {
        report
            .error(at, &path.key("test"), "`CMD-SHELL` takes one string")
            .hint("use `CMD` for a list of words");
    }
    Some(Healthcheck {
        disable,
        test: if disable { Vec::new() } else { test },
        interval_ms: milliseconds(node, "interval").filter(|time| *time > 0),
        timeout_ms: milliseconds(node, "timeout").filter(|time| *time > 0),
        retries: values::number(node, "retries").and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        start_period_ms: milliseconds(node, "start_period").filter(|time| *time > 0),
        start_interval_ms: milliseconds(node, "start_interval").filter(|time| *time > 0),
    })
}

/// `restart`, which `deploy.restart_policy` wins over.
pub(super) fn restart(service: &Node, path: &Path<'_>, report: &mut Report) -> (Restart, Option<u64>) {
    let mut restart = Restart::No;
    if let Some(text) = values::text(service, "restart") {
        match policy(text) {
            Ok(policy) => restart = policy,
            Err(message) => {
                let at = service.get("restart").map_or(service.at, |value| value.at);
                report.error(at, &path.key("restart"), message);
            }
        }
    }
    let Some(node) = service.get("deploy").and_then(|deploy| deploy.get("restart_policy")) else {
        return (restart, None);
    };
    let attempts = values::number(node, "max_attempts").and_then(|n| u32::try_from(n).ok());
    let attempts = attempts.filter(|attempts| *attempts > 0);
    match values::text(node, "condition") {
        None | Some("any") => restart = Restart::Always,
        Some("none") => restart = Restart::No,
        Some("on-failure") => restart = Restart::OnFailure(attempts),
        Some(other) => {
            let at = node.get("condition").map_or(node.at, |value| value.at);
            let path = path.key("deploy");
            let message = format!("expected `none`, `on-failure` or `any`, found `{other}`");
            report.error(at, &path.key("restart_policy").key("condition"), message);
        }
    }
    (restart, milliseconds(node, "delay"))
}

fn policy(text: &str) -> Result<Restart, String> {
    match text {
        "no" => Ok(Restart::No),
        "always" => Ok(Restart::Always),
        "unless-stopped" => Ok(Restart::UnlessStopped),
        "on-failure" => Ok(Restart::OnFailure(None)),
        _ => text
            .strip_prefix("on-failure:")
            .and_then(|count| count.parse().ok())
            // Docker takes 0 for no limit.
            .map(|count: u32| Restart::OnFailure(Some(count).filter(|count| *count > 0)))
            .ok_or_else(|| {
                format!("expected `no`, `always`, `on-failure[:N]` or `unless-stopped`, found `{text}`")
            }),
    }
}

pub(super) fn update(service: &Node, path: &Path<'_>, report: &mut Report) -> Option<UpdateConfig> {
    let node = service.get("deploy")?.get("update_config")?;
    let order = match values::text(node, "order") {
        None | Some("stop-first") => Order::StopFirst,
        Some("start-first") => Order::StartFirst,
        Some(other) => {
            let path = path.key("deploy");
            let message = format!("expected `stop-first` or `start-first`, found `{other}`");
            report.error(node.at, &path.key("update_config").key("order"), message);
            Order::StopFirst
        }
    };
    let parallelism = values::number(node, "parallelism").and_then(|n| u32::try_from(n).ok());
    Some(UpdateConfig { parallelism, delay_ms: milliseconds(node, "delay"), order })
}

pub(super) fn hooks(service: &Node, key: &str, path: &Path<'_>, report: &mut Report) -> Vec<Hook> {
    let path = path.key(key);
    let items = service.get(key).and_then(Node::as_list).unwrap_or_default();
    let mut hooks = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let command = item.get("command").and_then(values::texts).unwrap_or_default();
        if command.is_empty() && !(key == "pre_start" && item.get("image").is_some()) {
            report.error(item.at, &path, "no `command` is given");
        }
        for only in ["image", "per_replica"] {
            if key != "pre_start"
                && let Some(value) = item.get(only)
            {
                report.error(value.at, &path.key(only), "is for `pre_start` only");
            }
        }
        let unset = super::entries(item.get("environment"))
            .filter(|(_, entry)| matches!(entry.node.value, Value::Null))
            .map(|(name, _)| name.clone());
        hooks.push(Hook {
            command,
            user: values::text(item, "user").map(str::to_owned),
            privileged: values::flag(item, "privileged"),
            working_dir: values::text(item, "working_dir").map(str::to_owned),
            environment: values::pairs(item, "environment"),
            unset_environment: unset.collect(),
            image: values::text(item, "image").map(str::to_owned),
            per_replica: values::flag(item, "per_replica"),
        });
    }
    hooks
}
