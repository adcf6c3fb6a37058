//! Rate limits: messages and bytes a second, by address, domain, principal, topic and receiver.
//!
//! All levels hold; within a level the most specific limit wins. A message over a rate is under Retry: pushed ones hear
//! when to come again, lanes wait. The rates are the epoch's, [`Meters`] keeps what was sent, so that a reload changes
//! the one and not the other.

mod config;
mod meters;
mod rate;
mod rules;
#[cfg(test)]
mod tests;

pub use config::LimitsConfig;
pub(crate) use config::breadth;
pub use meters::Meters;
pub(crate) use rules::{PeerLimit, PrincipalLimit, ReceiveLimit, TopicLimit};
