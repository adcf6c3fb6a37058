//! Policy: what every message has to pass, as tower layers.
//!
//! [`ingress`] and [`egress`] build the two stacks; `stack.rs` and `egress.rs` are the order of their layers, a reason
//! per line. A layer knows no protocol, no mapping language and no backbone: it reads the nouns of `envelope` and the one
//! [`Epoch`] that decides on its batch.
//!
//! To add a policy: write a `Rule` for one message in a file of its own (`payload_limit.rs` is the shortest), and put it
//! at its place in the stack. `lift.rs` turns it into a layer over batches and keeps lanes and verdicts in order.

mod access;
mod account;
mod admit;
mod answers;
mod audit;
mod authenticate;
mod bury;
mod config;
mod conformance;
mod egress;
mod epoch;
mod explain;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod lift;
mod limits;
mod loop_guard;
mod map;
mod payload_limit;
mod priority;
mod reply;
mod residency;
mod send;
mod shed;
mod stack;
mod trace;

pub use access::{Action, Decision, KnownNames, Policies, PolicySource};
pub use admit::admit_audit;
pub use answers::{AnswerPart, Asker, ReplyDesk, ReplyTopics};
pub use audit::{AuditEvent, AuditRecord, AuditSink, Trail};
pub use authenticate::{
    BRIDGE, CertificateRule, ChangeError, Fetched, FetchedKeys, Gate, Issuers, KeyHash, KeySet, KeySetError, Keys,
    KeysFrom, MAX_DOCUMENT, NewKey, NoRandom, PasswordError, Revoked, StoredPassword, TokenConfig, User, Users,
    UsersFile, certificate_names,
};
pub use config::{AccessConfig, Attributes, DataField, PolicyConfig, ValueType, policy_json_schema};
pub use egress::{Egress, egress, hand_over, sending};
pub use envelope::Flow;
pub use epoch::{Current, Epoch, Pass};
pub use explain::{Explained, Explanation, LayerDecision, explain, explain_egress, judge, may_be_sent, sender};
pub use limits::{LimitsConfig, Meters};
pub use priority::PriorityConfig;
pub use residency::{Labels, ResidencyConfig};
pub use stack::{IngressConfig, ingress};

#[cfg(test)]
mod tests;
