//! The MQTT bridge: a listener for MQTT 3.1.1 and 5.0, on one port.
//!
//! It is no broker: what a client publishes goes through mapping and policy into the mesh, what it subscribes to comes
//! from there, and PUBACK says that the mesh has taken responsibility. `packet` is the wire, `session` what the standard
//! calls session state, both without I/O; a `connection` is one task that owns its socket, with a task for each of its
//! subscriptions.

mod address;
mod config;
mod connection;
mod keeper;
mod lane;
mod outbox;
mod packet;
mod reject;
mod session;
mod sessions;
mod share;
mod source;
mod subscription;
#[cfg(test)]
mod tests;
mod websocket;

pub use config::{MqttConfig, SessionConfig};
