//! The bridges: one folder a protocol, all of the same shape.
//!
//! A bridge turns what its protocol brings into [`envelope::Inbound`] and answers in its own tongue. It knows no
//! policy, no mapping and no backbone, only the seams of `envelope` that [`SourceContext`] hands it. The kinds that
//! exist are listed in [`registry`]; every kind passes
//! the suite in `conformance`.

mod backoff;
mod bridge;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod connect;
pub mod http;
pub mod mqtt;
mod net;
pub mod private;
pub mod registry;
pub mod room;
mod section;
pub mod sign;
mod standing;
pub mod tls;
pub mod webhook;
pub mod websocket_client;

pub use bridge::{
    Bridge, BridgeConfig, BridgeError, Guarantees, Link, LinkContext, Resource, Sending, Source, SourceContext,
};
pub use standing::{Standing, Standings, State};
