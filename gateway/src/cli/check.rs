//! `openmesh check`: everything that is wrong with a configuration, or a summary of what it says.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;

use super::{
    Failure, Invalid,
    format::{self, Format},
};
use crate::{
    admin::ack_word,
    config::{self, Loaded},
};

/// Which configuration to check.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

// === impl Check ===

impl Check {
    /// Validates the configuration; opens and binds nothing.
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        if self.format == Format::Json {
            let mappings: Vec<_> = loaded.mappings.routes().map(|route| format::route(&route)).collect();
            let schemas: Vec<_> = loaded.schemas.names().collect();
            let senders: Vec<_> = loaded.mappings.senders().map(|sender| format::sender(&sender)).collect();
            let said = json!({ "ok": true, "mappings": mappings, "senders": senders, "schemas": schemas });
            return Ok(format::write(&said, out)?);
        }
        Ok(summary(&loaded, &self.config, out)?)
    }
}

fn summary(loaded: &Loaded, path: &Path, out: &mut impl Write) -> io::Result<()> {
    let config = &loaded.config;
    let store = config.backbone.path();
    let mut line = |what: String| writeln!(out, "{what}");
    line(format!("{}: ok, domain {}, store in {}", path.display(), config.domain, store.display()))?;
    for (name, bridge) in &config.bridges {
        let claims: Vec<_> = bridge.resources().iter().map(ToString::to_string).collect();
        let guarantees = bridge.delivery();
        let what = match claims.is_empty() && bridge.sends() {
            true => "sends".to_owned(),
            false => format!("{}, at most {} bytes a message", claims.join(", "), bridge.max_payload_bytes()),
        };
        line(format!("bridge {name}: {what}"))?;
        line(format!("  in order: {}; yes is said by: {}", guarantees.ordered_within, guarantees.ack))?;
    }
    let mut routes = 0;
    for route in loaded.mappings.routes() {
        routes += 1;
        let becomes = route.topic.unwrap_or("(dropped)");
        let ack = ack_word(route.ack);
        line(format!("mapping {}: {} {}  ->  {becomes}, ack {ack}", route.route.name(), route.bridge, route.address))?;
        if let Some(when) = route.when {
            line(format!("  when {when}"))?;
        }
        for proof in route.proofs.iter().chain(route.replies) {
            line(format!("  {}: {}", proof.field, proof.verdict))?;
        }
        if let Some(identity) = route.identity.or_else(|| identity_of(loaded, route.bridge)) {
            line(format!("  a sender's retry is a duplicate by: {identity}"))?;
        }
    }
    for sender in loaded.mappings.senders() {
        routes += 1;
        line(format!("mapping {}: {}  ->  {} {}", sender.route.name(), sender.topic, sender.bridge, sender.address))?;
        if let Some(when) = sender.when {
            line(format!("  when {when}"))?;
        }
        for proof in sender.proofs {
            line(format!("  {}: {}", proof.field, proof.verdict))?;
        }
    }
    for (table, rows) in loaded.tables.sizes() {
        line(format!("table {table}: {rows} rows"))?;
    }
    let (schemas, tables) = (loaded.schemas.names().count(), loaded.tables.names().len());
    line(format!("{routes} mappings, {schemas} schemas, {tables} tables, policy: {}", policy(loaded)))
}

fn identity_of(loaded: &Loaded, bridge: &str) -> Option<&'static str> {
    let (_, config) = loaded.config.bridges.iter().find(|(name, _)| **name == *bridge)?;
    Some(config.delivery().identity)
}

fn policy(loaded: &Loaded) -> String {
    let who = if loaded.policy.anonymous { "anonymous peers are let in" } else { "credentials are required" };
    let (users, policies) = (loaded.guards.users.users().count(), loaded.guards.policies.len());
    let warning = if policies == 0 { ": nothing is permitted" } else { "" };
    format!("{who}, {users} users, {policies} Cedar policies{warning}")
}
