//! The HTTP bridge: publishing by request, and publishing and subscribing by WebSocket under `/mesh/v1/ws`.

mod config;
mod problem;
mod server;
mod source;

pub use config::{HttpConfig, ServerConfig, WebSocketConfig, check_loopback};
pub use server::Listener;
