//! MQTT 3.1.1 and 5.0: a listener for both on one port, and in `client` the bridge to remote brokers.
//!
//! The listener is no broker: what a client publishes goes through mapping and policy into the mesh, what it subscribes to comes
//! from there, and PUBACK says that the mesh has taken responsibility. `packet` is the wire, `session` what the standard
//! calls session state, both without I/O; a `connection` is one task that owns its socket, with a task for each of its
//! subscriptions.

mod address;
mod answers;
mod client;
mod codec;
mod config;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod headers;
mod keeper;
mod lane;
mod link;
mod offers;
mod outbox;
mod packet;
mod reject;
mod session;
mod sessions;
mod share;
mod source;
mod subscription;
mod sys;
#[cfg(test)]
mod tests;
mod unconnected;
mod websocket;
mod will;

pub use client::{MqttClientConfig, Protocol, Server};
pub use config::{MqttConfig, SessionConfig};
