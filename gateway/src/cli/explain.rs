//! `openmesh explain`: each layer's decision on a message, offline, or on an envelope that is stored.

use std::{fs, io::Write, ops::ControlFlow, path::PathBuf, sync::Arc, time::SystemTime};

use bytes::Bytes;
use clap::Args;
use envelope::{
    Delivery, EnvelopeId, Identity, Inbound, Json, Lane, Outgoing, Position, Principal, cloudevents, json::Node,
};
use policy::{Explanation, LayerDecision};

use super::{Failure, Invalid, stored::Stored};
use crate::{
    config::{self, Loaded},
    reload,
};

/// Which message to explain.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["message", "id"])))]
pub(super) struct Explain {
    /// A file with the message: { "address": "POST /a", "payload": ... }; "text" in place of "payload" for one that is no
    /// JSON; and, if they matter, "bridge", "headers", "peer" and "principal" (id, domain, roles, jurisdiction, trust)
    #[arg(long)]
    message: Option<PathBuf>,
    /// The id of an envelope that a running gateway has stored: what its way out would be
    #[arg(long, value_parser = id)]
    id: Option<EnvelopeId>,
    /// To whom the envelope of --id would go: a user, with what users.yaml says of it, or any other name
    #[arg(long = "as", default_value = Principal::ANONYMOUS)]
    receiver: String,
    /// The bridge; may be left out if there is only one
    #[arg(long)]
    bridge: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    stored: Stored,
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
}

fn id(text: &str) -> Result<EnvelopeId, String> {
    EnvelopeId::parse(text).ok_or_else(|| "no id of an envelope".to_owned())
}

// === impl Explain ===

impl Explain {
    pub(super) async fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        let explanation = match (&self.message, &self.id) {
            (Some(path), _) => self.message(&loaded, fs::read(path).map_err(|error| unreadable(path, &error))?)?,
            (None, Some(id)) => self.stored(&loaded, id).await?,
            (None, None) => return Err("either --message or --id".into()),
        };
        if self.json { write_json(&explanation, out) } else { write_text(&explanation, out) }
    }

    fn message(&self, loaded: &Loaded, text: Vec<u8>) -> Result<Explanation, Failure> {
        let json = Json::parse(text.into()).map_err(|error| format!("the message: {error}"))?;
        let inbound = inbound(json.root(), &self.bridge(loaded, &json)?, &loaded.config.domain)?;
        let bridge = loaded.config.bridges.iter().find(|(name, _)| *name == inbound.bridge);
        let max = bridge.map_or(usize::MAX, |(_, bridge)| bridge.max_payload_bytes());
        Ok(policy::explain(&reload::epoch_of(loaded), max, inbound))
    }

    async fn stored(&self, loaded: &Loaded, id: &EnvelopeId) -> Result<Explanation, Failure> {
        let mut found = None;
        let look = |envelope: envelope::Envelope| match envelope.id == *id {
            true => {
                found = Some(envelope);
                ControlFlow::Break(())
            }
            false => ControlFlow::Continue(()),
        };
        self.stored.read(look).await?;
        let envelope = found.ok_or_else(|| format!("no envelope {id} that may be read is stored"))?;
        let domain = &loaded.config.domain;
        let user = loaded.guards.users.principal(&self.receiver, domain);
        let to = Arc::new(user.unwrap_or_else(|| Principal::new(self.receiver.as_str(), domain.clone())));
        let delivery = Delivery::new(Position(Bytes::new()), envelope);
        let bridge = match &self.bridge {
            Some(bridge) => known(loaded, bridge)?,
            None => only(loaded)?,
        };
        Ok(policy::explain_egress(&reload::epoch_of(loaded), &bridge, &Outgoing { to, delivery }))
    }

    fn bridge(&self, loaded: &Loaded, message: &Json) -> Result<Arc<str>, Failure> {
        let said = message.root().get("bridge").and_then(Node::as_str);
        match self.bridge.as_deref().or(said) {
            Some(bridge) => known(loaded, bridge),
            None => only(loaded),
        }
    }
}

fn known(loaded: &Loaded, bridge: &str) -> Result<Arc<str>, Failure> {
    let found = loaded.config.bridges.iter().find(|(name, _)| **name == *bridge);
    let names = || loaded.config.bridge_names().join(", ");
    Ok(found.map(|(name, _)| name.clone()).ok_or_else(|| format!("no bridge {bridge:?}; bridges: {}", names()))?)
}

fn only(loaded: &Loaded) -> Result<Arc<str>, Failure> {
    match &loaded.config.bridges[..] {
        [(name, _)] => Ok(name.clone()),
        _ => Err(format!("say which bridge with --bridge: {}", loaded.config.bridge_names().join(", ")).into()),
    }
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> String {
    format!("{}: can't be read: {error}", path.display())
}

/// The members of the file; what it does not know is an error.
fn inbound(root: Node<'_>, bridge: &Arc<str>, domain: &str) -> Result<Inbound, String> {
    only_members(root, &["address", "bridge", "headers", "payload", "text", "peer", "principal"])?;
    let text = |name| root.get(name).and_then(Node::as_str);
    let payload = match (root.get("payload"), text("text")) {
        (Some(payload), None) => Bytes::copy_from_slice(payload.source().as_bytes()),
        (None, Some(text)) => Bytes::copy_from_slice(text.as_bytes()),
        _ => return Err("a message has either \"payload\" or a string \"text\"".to_owned()),
    };
    let mut headers = Vec::new();
    for (name, value) in root.get("headers").and_then(Node::as_object).into_iter().flatten() {
        let value = value.as_str().ok_or_else(|| format!("header {name:?} is no string"))?;
        headers.push((name.to_ascii_lowercase(), Bytes::copy_from_slice(value.as_bytes())));
    }
    let peer = text("peer").map(|peer| peer.parse().map_err(|_| format!("peer {peer:?} is no IP address")));
    Ok(Inbound {
        bridge: bridge.clone(),
        address: text("address").ok_or("member \"address\" is missing")?.into(),
        headers: headers.into(),
        payload,
        lane: Lane(0),
        identity: Identity::fresh(),
        principal: Arc::new(principal(root.get("principal"), domain)?),
        peer: peer.transpose()?,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::now(),
    })
}

fn principal(node: Option<Node<'_>>, domain: &str) -> Result<Principal, String> {
    let Some(node) = node else { return Ok(Principal::anonymous(domain)) };
    only_members(node, &["id", "domain", "roles", "jurisdiction", "trust"])?;
    let text = |name| node.get(name).and_then(Node::as_str);
    let id = text("id").ok_or("member \"principal.id\" is missing")?;
    let roles = node.get("roles").and_then(Node::as_array).into_iter().flatten().map(|role| role.as_str());
    let mut roles: Vec<Arc<str>> =
        roles.map(|role| role.map(Into::into)).collect::<Option<_>>().ok_or("roles are strings")?;
    roles.sort_unstable();
    roles.dedup();
    let trust = node.get("trust").map(|trust| trust.as_number().and_then(|trust| trust.parse().ok()));
    let trust: u8 = trust.unwrap_or(Some(0)).filter(|trust| *trust <= 100).ok_or("trust is a number from 0 to 100")?;
    let jurisdiction = text("jurisdiction").map(Into::into);
    Ok(Principal { roles, trust, jurisdiction, ..Principal::new(id, text("domain").unwrap_or(domain)) })
}

fn only_members(node: Node<'_>, known: &[&str]) -> Result<(), String> {
    let mut members = node.as_object().ok_or_else(|| format!("an object is expected, not {}", node.type_name()))?;
    match members.find(|(name, _)| !known.contains(name)) {
        Some((name, _)) => Err(format!("unknown member {name:?}; members: {}", known.join(", "))),
        None => Ok(()),
    }
}

/// A line a layer, and then the envelopes.
fn write_text(told: &Explanation, out: &mut impl Write) -> Result<(), Failure> {
    for explained in &told.layers {
        let said = match &explained.decision {
            LayerDecision::Passes(found) => format!("passes    {found}"),
            LayerDecision::Filtered => "filtered  acked, and nothing is stored".to_owned(),
            LayerDecision::Refused(no) => format!("refused   {no}"),
        };
        writeln!(out, "{:<16}{}", explained.layer, said.escape_debug().to_string().replace("\\\"", "\""))?;
    }
    writeln!(out, "=> {}", told.outcome())?;
    for envelope in &told.envelopes {
        let mut line = Vec::new();
        cloudevents::write_json(envelope, &mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    Ok(())
}

fn write_json(told: &Explanation, out: &mut impl Write) -> Result<(), Failure> {
    let layers = told.layers.iter().map(|explained| match &explained.decision {
        LayerDecision::Passes(found) => {
            serde_json::json!({ "layer": explained.layer, "decision": "passes", "found": found })
        }
        LayerDecision::Filtered => serde_json::json!({ "layer": explained.layer, "decision": "filtered" }),
        LayerDecision::Refused(no) => serde_json::json!({
            "layer": explained.layer, "decision": "refused", "kind": no.kind.as_str(),
            "decided_by": no.decided_by.to_string(), "detail": no.detail, "pointer": no.pointer,
            "policy": no.policy.as_deref(),
        }),
    });
    let layers: Vec<_> = layers.collect();
    let route = told.route.as_ref().map(|route| route.name());
    Ok(writeln!(out, "{}", serde_json::json!({ "outcome": told.outcome(), "route": route, "layers": layers }))?)
}
