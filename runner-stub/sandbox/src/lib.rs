//! Executes a bundle: user namespace, root file system, process, shim.
