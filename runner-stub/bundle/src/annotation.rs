//! Annotations of a bundle that tell the sandbox how to make the root file system. Another OCI runtime ignores them and
//! takes `rootfs` as it finds it.

/// What all of them begin with.
pub const PREFIX: &str = "dev.dpack.";
/// JSON array of absolute layer folders, lowest first.
pub const LAYERS: &str = "dev.dpack.layers";
/// Upper directory of the overlay.
pub const UPPER: &str = "dev.dpack.upper";
/// Work directory of the overlay.
pub const WORK: &str = "dev.dpack.work";
/// `true` when nothing of the upper directory is kept: overlayfs then leaves out each sync (`volatile`, Linux 5.10).
pub const VOLATILE: &str = "dev.dpack.volatile";
/// `true` when PID 1 is our init, which forks the command, reaps and forwards signals.
pub const INIT: &str = "dev.dpack.init";
/// `true` when standard input stays open, as a FIFO named `stdin` in the container's folder.
pub const STDIN: &str = "dev.dpack.stdin";
/// `none` when nothing of what the container writes is kept.
pub const LOG: &str = "dev.dpack.log";
/// Size in bytes at which a new log file is begun.
pub const LOG_MAX_SIZE: &str = "dev.dpack.log.max-size";
/// Number of log files that are kept.
pub const LOG_MAX_FILE: &str = "dev.dpack.log.max-file";
/// `default`: nobody asked for the SELinux labels, so that a device without SELinux does without.
pub const LABELS: &str = "dev.dpack.labels";
