//! Annotations of a bundle that tell the sandbox how to make the root file system. Another OCI runtime ignores them and
//! takes `rootfs` as it finds it.

/// JSON array of absolute layer folders, lowest first.
pub const LAYERS: &str = "dev.dpack.layers";
/// Upper directory of the overlay.
pub const UPPER: &str = "dev.dpack.upper";
/// Work directory of the overlay.
pub const WORK: &str = "dev.dpack.work";
/// `true` when PID 1 is our init, which forks the command, reaps and forwards signals.
pub const INIT: &str = "dev.dpack.init";
