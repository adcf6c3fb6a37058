//! Declarative mapping files, compiled to plans that turn a bridge's messages into envelopes.
//!
//! [`load`] reads a set of files and either proves it or says everything that is wrong with it, each error with its
//! place. What it makes, [`Mappings`], is the gateway's [`envelope::Mapper`]: pure, no I/O, shared between threads.

mod address;
mod body;
mod codec;
pub mod codes;
mod compare;
mod echo;
mod egress;
mod egress_tests;
mod expect;
mod expect_message;
mod expr;
mod file;
mod file_tests;
mod format;
mod fuzz;
mod given;
mod keys;
mod load;
#[cfg(test)]
mod manual;
mod map;
mod message;
mod one_to_one;
mod plan;
mod promise;
mod proof;
mod reply;
mod start;
mod table;
mod takers;
mod template;
#[cfg(test)]
mod tests;
mod text;
mod uri;

use std::{collections::BTreeMap, fmt, sync::Arc};

use envelope::{AckPoint, Filter, Route};
use schema::Schemas;

pub use echo::Echo;
pub use format::json_schema;
pub use fuzz::{FuzzFailure, FuzzResult};
pub use load::load;
pub use plan::PERFORMATIVES;
pub use proof::{FieldProof, Verdict};
pub use start::{Sample, Started, formats, start};
pub use table::{MAX_TABLE, TableSource, Tables};

/// The text of one mapping file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its path, as errors name it.
    pub path: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// What the files may refer to. What a file asks for and nobody here can do is an error of the file.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// This gateway's domain.
    pub domain: &'a str,
    /// The configured bridges.
    pub bridges: &'a [Bridge<'a>],
    /// The loaded schemas.
    pub schemas: &'a Schemas,
    /// The loaded tables.
    pub tables: &'a Tables,
    /// What the gateway around the mappings can do.
    pub gateway: Abilities,
}

/// A configured bridge.
#[derive(Debug, Clone, Copy)]
pub struct Bridge<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// It can send what an egress mapping makes.
    pub sends: bool,
    /// Those who subscribe to its addresses see there what an egress mapping makes, and nothing is sent by itself.
    pub shows: bool,
    /// It can give a sender the answer that `reply` makes.
    pub replies: bool,
    /// Its senders may ask that a message be taken exactly once.
    pub exactly_once: bool,
    /// What no mapping takes goes through one to one, below this topic.
    pub one_to_one: Option<&'a str>,
    /// What it says of an address that it is to send to, as the file writes it.
    pub sends_to: AddressCheck<'a>,
    /// What it says of addresses that are to be taken from it, as the file writes them.
    pub takes_from: AddressCheck<'a>,
}

/// Says what is wrong with an address that a file writes, as far as that is known before a message is.
#[derive(Clone, Copy)]
pub struct AddressCheck<'a>(pub &'a (dyn Fn(&str) -> Result<(), String> + Sync));

/// What mapping files may ask of the gateway around them; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// `keep: last`: the newest envelope of a topic is kept for whoever subscribes later.
    pub last_values: bool,
    /// `ack: delivered` and `ack: consumer`: the sender's answer waits until somebody took the message.
    pub later_acks: bool,
    /// `store: false`: a message passes through without being stored.
    pub pass_through: bool,
}

/// A set of mapping files as compiled plans. Immutable; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Mappings {
    domain: Box<str>,
    all: Vec<file::Mapping>,
    /// Numbers in `all`, by bridge and address.
    bridges: BTreeMap<Box<str>, address::Index>,
    /// Numbers in `all`, by name.
    by_name: BTreeMap<Box<str>, usize>,
    /// One of them has a reply.
    replies: bool,
    /// Some keep dead letters.
    buries: bool,
    /// What takes the rest, by bridge.
    one_to_one: BTreeMap<Box<str>, one_to_one::OneToOne>,
    /// Those that send.
    egress: Vec<egress::Egress>,
    egress_by_name: BTreeMap<Box<str>, usize>,
    /// What subscribers of a bridge see, by bridge.
    shown: BTreeMap<Box<str>, Arc<[envelope::Shown]>>,
}

/// One mapping file that sends, as lists and logs show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressInfo<'a> {
    /// The mapping's name and version.
    pub route: &'a Route,
    /// The topics it takes envelopes from.
    pub topic: &'a Filter,
    /// The condition under which it sends one, if it has one.
    pub when: Option<&'a str>,
    /// The bridge it sends through.
    pub bridge: &'a str,
    /// What came by that bridge may be sent back there.
    pub echoes: bool,
    /// The address it sends to, as the file writes it.
    pub address: &'a str,
    /// What is known at load of each part of what it sends.
    pub proofs: &'a [FieldProof],
    /// The file's path.
    pub file: &'a str,
    /// Subscribers of the bridge see it, and nothing is sent by itself.
    pub shown: bool,
}

/// One mapping file, as lists and logs show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo<'a> {
    /// The mapping's name and version.
    pub route: &'a Route,
    /// The bridge it takes messages from.
    pub bridge: &'a str,
    /// The addresses it takes, as the file writes them.
    pub address: &'a str,
    /// The topic as the file writes it; `None` if it drops its messages.
    pub topic: Option<&'a str>,
    /// The condition under which it takes a message, if it has one.
    pub when: Option<&'a str>,
    /// What names a message, where the file says so.
    pub identity: Option<&'a str>,
    /// When its senders hear yes.
    pub ack: AckPoint,
    /// What is known at load of each field of the data it makes.
    pub proofs: &'a [FieldProof],
    /// The same of each part of its replies.
    pub replies: &'a [FieldProof],
    /// The file's path.
    pub file: &'a str,
}

/// What became of one test of a mapping file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// The file's path.
    pub file: String,
    /// The mapping's name.
    pub mapping: String,
    /// The test's name.
    pub name: String,
    /// The line it begins at, from 1.
    pub line: usize,
    /// Passed or not.
    pub outcome: Outcome,
}

/// Whether a test of a mapping file passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As expected.
    Passed,
    /// Each difference in a line of its own: the path, what was expected and what came out.
    Failed(String),
}

// === impl Bridge ===

impl<'a> Bridge<'a> {
    /// One that only takes messages in.
    pub const fn named(name: &'a str) -> Self {
        let any = AddressCheck(&|_| Ok(()));
        let (sends, shows, replies, exactly_once, one_to_one) = (false, false, false, false, None);
        Self { name, sends, shows, replies, exactly_once, one_to_one, sends_to: any, takes_from: any }
    }
}

// === impl AddressCheck ===

impl fmt::Debug for AddressCheck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressCheck")
    }
}

// === impl Context ===

impl<'a> Context<'a> {
    /// For files that ask nothing of the gateway but to take messages in and store them.
    pub const fn new(domain: &'a str, bridges: &'a [Bridge<'a>], schemas: &'a Schemas, tables: &'a Tables) -> Self {
        let gateway = Abilities { last_values: false, later_acks: false, pass_through: false };
        Self { domain, bridges, schemas, tables, gateway }
    }
}
