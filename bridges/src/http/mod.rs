//! The HTTP bridge: publishing by request, and publishing and subscribing by WebSocket under `/mesh/v1/ws`.
//!
//! `server` is the listener in its `versions`, which the gateway's admin API uses as well; `guard` keeps foreign web pages out of both.
//! `coding` is gzip and zstd. `publish` turns a request into a message, `websocket` a connection into a lane; both go through `offer`.

mod address;
mod answer;
mod batch;
mod coding;
mod config;
mod draft;
mod events;
mod finish;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod guard;
mod head;
mod kept;
mod last;
mod offer;
mod openapi;
mod parts;
mod problem;
mod publish;
mod query;
mod server;
mod shown;
mod source;
mod streams;
mod versions;
mod websocket;

pub use answer::read_position;
pub use config::{HttpConfig, ServerConfig, WebSocketConfig};
pub use openapi::{CloudEvent, Document, NotLetIn, Refusal, secured};
pub use problem::Problem;
pub use publish::credentials;
pub use query::{parameters, shortened};
pub use server::{Listener, Peer};
pub(crate) use websocket::{ByteStream, Handshake};

#[cfg(test)]
mod tests;
