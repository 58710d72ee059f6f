//! Stopping early: one flag that the signal handler sets and every stage looks at.
//!
//! Stages return [`Cancelled`] as soon as they notice; their temporary files go with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Handle to the flag; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    set: AtomicBool,
    notify: Notify,
}

/// The user asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes whoever waits for it.
    pub fn cancel(&self) {
        self.state.set.store(true, Ordering::SeqCst);
        self.state.notify.notify_waiters();
    }

    /// Fails once the flag is set; for loops that do not wait.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.state.set.load(Ordering::SeqCst) { Err(Cancelled) } else { Ok(()) }
    }

    /// Runs `future` unless the flag is set first.
    pub async fn or<T>(&self, future: impl Future<Output = T>) -> Result<T, Cancelled> {
        let notified = self.state.notify.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so that a `cancel` in between is not missed.
        notified.as_mut().enable();
        self.check()?;
        tokio::select! {
            () = notified => Err(Cancelled),
            value = future => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_stage_is_woken_and_a_later_one_does_not_start() {
        let cancel = Cancel::new();
        assert_eq!(cancel.or(async { 1 }).await, Ok(1));
        let waiter = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.or(std::future::pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        cancel.cancel();
        assert_eq!(waiter.await.unwrap(), Err(Cancelled));
        assert_eq!(cancel.or(async { 1 }).await, Err(Cancelled));
        assert_eq!(cancel.check(), Err(Cancelled));
    }
}
