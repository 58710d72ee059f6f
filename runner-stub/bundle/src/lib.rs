//! From a service and an image config to an OCI runtime-spec bundle, as a pure function.
