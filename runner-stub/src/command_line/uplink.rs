//! The kernel's own way out, which root makes: the command line is the one process of ours with rights over the device.

use dpack_network::uplink::{self, UplinkError};
use dpack_network::{Client, ClientError};

use super::settings::Settings;
use crate::failure::Failure;

/// Makes it for the project's networks, where the device has what it takes and we may change the device's network.
///
/// # Errors
/// What went wrong. Containers have the relayed way out then.
pub(crate) fn make(settings: &Settings) -> Result<(), String> {
    let socket = settings.paths.find_project(&settings.name).network_socket();
    let namespace = Client::connect(&socket).and_then(|mut client| client.network_namespace());
    match uplink::connect(&socket, namespace.map_err(|error: ClientError| error.to_string())?) {
        Err(error @ UplinkError::System { .. }) if !error.is_refusal() => {
            Err(Failure::of(&error.into()).to_string())
        }
        // As it is on many devices; `doctor --network` tells.
        _ => Ok(()),
    }
}

/// Takes away what projects that have ended left of it, this one's included.
pub(crate) fn tidy(settings: &Settings) {
    let socket = settings.project.network_socket();
    if settings.is_root() && Client::connect(&socket).is_err_and(|error| error.is_absent()) {
        // Nothing depends on it any more, and the next command tries again.
        let _ = uplink::disconnect(&socket);
    }
}
