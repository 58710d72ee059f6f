//! Carrying a plan out: every step as soon as those it waits for are done, as many at once as the plan allows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::failure::Failure;
use crate::plan::Step;

/// What happens when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// Steps that wait for it are not tried: a service does not start without what it depends on.
    Skip,
    /// They are tried all the same: what can be stopped is stopped.
    GoOn,
}

/// Runs `step` on every step. The first error comes back when everything that could be done is done.
pub(crate) async fn carry_out<F>(
    steps: &[Step],
    on_failure: OnFailure,
    step: impl Fn(Step) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    let names: BTreeSet<&str> = steps.iter().map(|step| step.container.as_str()).collect();
    // Of each step that has not begun: how many steps it waits for.
    let mut waiting: BTreeMap<usize, usize> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        waiting.insert(number, step.after.iter().filter(|name| names.contains(name.as_str())).count());
    }
    let mut running = tokio::task::JoinSet::new();
    let mut first_error = None;
    loop {
        let ready: Vec<usize> =
            waiting.iter().filter(|(_, count)| **count == 0).map(|(number, _)| *number).collect();
        for number in ready {
            waiting.remove(&number);
            let work = step(steps[number].clone());
            running.spawn_local(async move { (number, work.await) });
        }
        let Some(finished) = running.join_next().await else { break };
        let (number, result) = finished.map_err(|error| anyhow::anyhow!("a step was cut short: {error}"))?;
        let failed = result.is_err();
        if let Err(error) = result {
            first_error.get_or_insert(error);
        }
        if !failed || on_failure == OnFailure::GoOn {
            let done = &steps[number].container;
            for (other, count) in &mut waiting {
                *count -= steps[*other].after.iter().filter(|name| *name == done).count();
            }
        }
    }
    match first_error {
        Some(error) => Err(error),
        None if waiting.is_empty() => Ok(()),
        None => Err(Failure::input("steps wait for each other in a circle").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::plan::Action;

    fn step(name: &str, after: &[&str]) -> Step {
        let after = after.iter().map(|name| (*name).to_owned()).collect();
        Step { after, ..Step::new(name.into(), name, 1, Action::Start) }
    }

    /// Carries out steps that take 20 ms each; what began and ended, in order.
    fn trace(steps: &[Step], on_failure: OnFailure, failing: &'static str) -> (String, bool) {
        let trace = Rc::new(RefCell::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let result = tokio::task::LocalSet::new().block_on(&runtime, async {
            carry_out(steps, on_failure, |step| {
                let trace = Rc::clone(&trace);
                async move {
                    trace.borrow_mut().push(format!("+{}", step.container));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    trace.borrow_mut().push(format!("-{}", step.container));
                    if step.container == failing { Err(anyhow::anyhow!("failed")) } else { Ok(()) }
                }
            })
            .await
        });
        (trace.take().join(" "), result.is_ok())
    }

    #[test]
    fn independent_steps_run_at_once_and_dependent_ones_wait() {
        let steps = [step("a", &[]), step("b", &[]), step("c", &["a", "b", "not in the plan"])];
        assert_eq!(trace(&steps, OnFailure::Skip, ""), ("+a +b -a -b +c -c".to_owned(), true));
    }

    #[test]
    fn a_failure_skips_dependents_or_not_and_spares_the_others() {
        let steps = [step("a", &[]), step("b", &[]), step("c", &["a"]), step("d", &["b"])];
        assert_eq!(trace(&steps, OnFailure::Skip, "a"), ("+a +b -a -b +d -d".to_owned(), false));
        assert_eq!(trace(&steps[..1], OnFailure::GoOn, "a"), ("+a -a".to_owned(), false));
        assert_eq!(
            trace(&[step("a", &[]), step("c", &["a"])], OnFailure::GoOn, "a"),
            ("+a -a +c -c".to_owned(), false)
        );
    }

    #[test]
    fn a_circle_is_an_error_and_no_hang() {
        assert!(!trace(&[step("a", &["b"]), step("b", &["a"])], OnFailure::Skip, "").1);
    }
}
