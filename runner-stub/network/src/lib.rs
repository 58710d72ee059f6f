//! The project's network: namespace, bridges, names, published ports.
