//! The bridge to remote brokers of MQTT 3.1.1 and 5.0: a client that loses nothing on the way.
//!
//! It has a connection for each direction, so that a gateway that is full, and so reads nothing more of what it subscribed
//! to, still hears what became of what it publishes. `subscriber` brings in what mappings take, and acknowledges it once the
//! gateway has taken responsibility; `publisher` sends what mappings make, which is delivered once the broker has
//! acknowledged it, with `flights` as its state without I/O. `dial` makes connections, `server` says to which broker and when.
//!
//! It speaks through the codec and the session state of the listener, and not through a client library: those keep what is
//! sent in a queue of their own, hide which acknowledgement belongs to what and why it was a refusal, and are no more
//! careful with a broker's bytes than with a friend's.

mod config;
mod dial;
mod flights;
mod held;
mod names;
mod publisher;
mod server;
mod subscriber;
#[cfg(test)]
mod tests;
mod verdict;

pub use config::{MqttClientConfig, Protocol};
pub use server::Server;
