//! Sorts of errors and their exit codes: the one place that says so.

/// What sort of trouble an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A defect of this program.
    Internal,
    /// The command line is wrong.
    Usage,
    /// The machine or the network: registries, disks, credentials.
    Environment,
    /// What was given: Compose files, images, executables.
    Input,
    /// The user asked to stop.
    Interrupted,
}

impl Kind {
    /// Exit code of the program.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Environment => 3,
            Kind::Input => 4,
            // As a shell reports SIGINT.
            Kind::Interrupted => 130,
        }
    }
}
