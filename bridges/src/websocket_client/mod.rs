//! The client of remote feeds: connects to a WebSocket server, logs in, subscribes, and brings in what it sends.
//!
//! It only takes in. `opening` is what is said and heard before anything else, `dial` makes a connection, `sequence` tells from
//! the feed's own numbers what is missing, `source` runs all of it. A feed keeps nothing for those who are away: what is
//! missing is asked for again where the feed can do that, and counted where it can't.

mod config;
mod dial;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod offers;
mod opening;
mod sequence;
mod source;
#[cfg(test)]
mod tests;

pub use config::WebSocketClientConfig;
