//! The appliance: configuration, wiring, admin API, drain and command line around the other crates.
//!
//! [`config::load`] reads everything and proves that it fits, [`App::start`] makes a [`Running`] gateway of it,
//! [`Running::drain`] ends it. `wiring` is where policy, backbone, mappings and bridges meet, and the only place.

mod addresses;
mod admin;
mod app;
mod audit;
mod broken;
pub mod cli;
pub mod config;
pub mod drain;
mod egress;
mod jwks;
mod letters;
mod notice;
mod outlet;
mod readiness;
mod reload;
mod store;
pub mod telemetry;
mod tickets;
mod wiring;

pub use app::{Addresses, App, Running, StartError};
pub use outlet::GatewayOutlet;
pub use readiness::{NotReady, Readiness};
pub use reload::Reloaded;
