//! Ctrl-C and SIGTERM: the first asks to stop, the second ends at once.

use dpack::cancel::Cancel;
use dpack::error::Kind;

/// A flag that the first signal sets. Listens on a thread of its own for as long as the program runs.
pub(crate) fn cancel_on_signal() -> Cancel {
    let cancel = Cancel::new();
    let flag = cancel.clone();
    std::thread::spawn(move || {
        // Without it a signal ends the program at once, as signals do; a temporary file may stay then.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            if signal().await.is_some() {
                flag.cancel();
                if signal().await.is_some() {
                    std::process::exit(i32::from(Kind::Interrupted.exit_code()));
                }
            }
        });
    });
    cancel
}

#[cfg(unix)]
async fn signal() -> Option<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).ok()?;
    let mut hangup = signal(SignalKind::hangup()).ok()?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.ok(),
        received = terminate.recv() => received,
        received = hangup.recv() => received,
    }
}

#[cfg(not(unix))]
async fn signal() -> Option<()> {
    tokio::signal::ctrl_c().await.ok()
}
