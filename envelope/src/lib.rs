//! The nouns of OpenMesh Gateway and the seams between its parts.
//!
//! Everything that two crates must agree on is here and nothing else: the messages of each stage of the pipeline
//! ([`Inbound`], [`Mapped`], [`Admitted`], [`Delivery`], [`Outbound`]), the [`Envelope`] they carry, what is said of
//! them ([`Verdict`], [`Receipt`], [`Rejection`]) and the services they travel through ([`Ingress`], [`Store`],
//! [`Sink`], [`Outlet`]). It depends on no other crate of the workspace and does no I/O.

mod admitted;
mod batch;
pub mod cloudevents;
mod data;
mod id;
pub mod json;
mod keys;
mod ledger;
mod message;
mod principal;
mod priority;
mod rejection;
mod seams;
mod terms;
mod time;
mod topic;
mod trace;
mod verdict;

pub use admitted::Admitted;
pub use batch::Batch;
pub use data::Data;
pub use id::{EnvelopeId, Fingerprint, Identity, IdentityParts};
pub use json::Json;
pub use keys::{Expect, KeyChange, KeyEntry, KeyPage, KeyValue, KeyWatch, KeyWrite};
pub use ledger::{Audit, Ledger};
pub use message::{
    AckPoint, Conversation, Delivery, Envelope, Group, Headers, InLane, Inbound, Lane, MAX_GROUP, Mapped, Origin,
    Outbound, Outgoing, Position, Qos, Route,
};
pub use principal::{Attribute, CertificateNames, Principal, Proof};
pub use priority::Priority;
pub use rejection::{Disposition, Quota, QuotaUnit, RejectKind, Rejection};
pub use seams::{
    Authenticator, Credentials, DeadLetters, DeadMessage, Deliveries, EgressMapper, Flow, Ingress, LastValues,
    MapResult, Mapper, Outlet, Promises, Settlement, Shown, Sink, Start, Store, Subscribe,
};
pub use terms::{Replies, Reply, Terms};
pub use time::Timestamp;
pub use topic::{Filter, FilterTrie, INBOX, Topic, TopicError, inbox_of};
pub use trace::{TRACEPARENT_BYTES, TraceContext};
pub use verdict::{Admission, Part, Parts, Reached, Receipt, Settled, Taken, Ticket, Verdict, Verdicts};
