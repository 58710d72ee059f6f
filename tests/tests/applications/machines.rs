//! Virtual machines, one after another: two of them at once take more than twice as long on a small machine.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hold the result as long as a machine runs.
pub(crate) fn one_machine_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    // the machine of a test that failed has ended with it
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
