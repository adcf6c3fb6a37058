//! What is put on record: who was refused what by which rule, and what was changed; never a payload.

use std::{net::IpAddr, sync::Arc};

use envelope::{Principal, RejectKind, Timestamp, json::write_string};

/// One event of the audit trail.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: AuditEvent,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum AuditEvent {
    /// A message, a delivery or a peer was refused.
    Refused {
        /// The bridge.
        bridge: Arc<str>,
        /// `ingress`, `egress`, or `bridge` where no layer of a stack had seen it yet.
        stage: &'static str,
        /// The mapping, where it is known.
        route: Option<String>,
        /// Why, for machines.
        kind: RejectKind,
        /// The rule that decided.
        decided_by: String,
        /// JSON Pointer to the place in the message, where there is one.
        pointer: Option<String>,
        /// Whose it was, or who was to get it; `None` if that is not known yet.
        principal: Option<Arc<Principal>>,
        /// Where it came from.
        peer: Option<IpAddr>,
    },
    /// So many refusals of a kind were not put on record one by one.
    LeftOut {
        /// The bridge.
        bridge: Arc<str>,
        /// `ingress`, `egress` or `bridge`.
        stage: &'static str,
        /// Their kind.
        kind: RejectKind,
        /// How many.
        messages: u64,
    },
    /// Something was changed at the gateway itself, or the change was refused.
    Admin {
        /// Who: a principal's id, `files` or `signal`.
        who: String,
        /// What, in a word: `reload`.
        what: &'static str,
        /// How it ended.
        outcome: String,
    },
}

/// Where audit records go besides the log. Must not block, and bounds what it keeps.
pub trait AuditSink: Send + Sync {
    /// Takes a record, or counts that it could not.
    fn write(&self, record: AuditRecord);
}

// === impl AuditRecord ===

impl AuditRecord {
    /// Of what happened now.
    pub fn now(event: AuditEvent) -> Self {
        Self { at: Timestamp::now(), event }
    }

    /// The last segments of its topic, behind `$mesh/audit/`.
    pub(crate) fn topic(&self) -> String {
        match &self.event {
            AuditEvent::Refused { bridge, .. } | AuditEvent::LeftOut { bridge, .. } => format!("refused/{bridge}"),
            AuditEvent::Admin { .. } => "admin".to_owned(),
        }
    }

    /// Appends it as a JSON object.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        let mut members = Members { out, first: true };
        match &self.event {
            AuditEvent::Refused { bridge, stage, route, kind, decided_by, pointer, principal, peer } => {
                members.text("event", "refused");
                members.text("bridge", bridge);
                members.text("stage", stage);
                members.optional("route", route.as_deref());
                members.text("kind", kind.as_str());
                members.text("decided_by", decided_by);
                members.optional("pointer", pointer.as_deref());
                members.optional("principal", principal.as_deref().map(|principal| &*principal.id));
                members.optional("domain", principal.as_deref().map(|principal| &*principal.domain));
                members.optional("peer", peer.map(|peer| peer.to_string()).as_deref());
            }
            AuditEvent::LeftOut { bridge, stage, kind, messages } => {
                members.text("event", "left-out");
                members.text("bridge", bridge);
                members.text("stage", stage);
                members.text("kind", kind.as_str());
                members.number("messages", *messages);
            }
            AuditEvent::Admin { who, what, outcome } => {
                members.text("event", "admin");
                members.text("who", who);
                members.text("what", what);
                members.text("outcome", outcome);
            }
        }
        out.push(b'}');
    }
}

/// Writes the members of an object, with its opening brace.
struct Members<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

// === impl Members ===

impl Members<'_> {
    fn name(&mut self, name: &str) {
        self.out.push(if std::mem::take(&mut self.first) { b'{' } else { b',' });
        write_string(self.out, name);
        self.out.push(b':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_string(self.out, value);
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
    }
}
