//! The webhook bridge: sends each message of a mapping as an HTTP request, signed, and waits until it is taken.
//!
//! It only sends. `written` is what a mapping file says of where a message goes and `address` where it does, `exchange` one request over one connection, `destination` what is kept
//! of a server: its idle connections, its places and its `breaker`. `answer` is the one table from HTTP to verdicts.

mod address;
mod answer;
mod breaker;
mod config;
mod destination;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod request;
mod sink;
#[cfg(test)]
mod tests;
mod written;

pub use breaker::BreakerConfig;
pub use config::WebhookConfig;
