//! The gateway from outside: in process on ephemeral ports, and as the built binary.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "these are tests, and their tasks end with them")]

mod access;
mod admin;
mod answers;
mod audit;
mod authority;
mod broken;
mod care;
mod cli;
mod config;
mod egress;
mod events;
mod explain;
mod flow;
mod inbox;
mod limits;
mod messages;
mod mqtt;
mod notices;
mod parts;
mod places;
mod promises;
mod quotas;
mod receiver;
mod reload;
mod residency;
mod resume;
mod revocation;
mod sends;
mod spelling;
mod support;
mod through;
mod tls;
mod tokens;
mod ways;
