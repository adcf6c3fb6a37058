//! Declarative mapping files, compiled to plans that turn a bridge's messages into envelopes.
//!
//! [`load`] reads a set of files and either proves it or says everything that is wrong with it, each error with its
//! place. What it makes, [`Mappings`], is the gateway's [`envelope::Mapper`]: pure, no I/O, shared between threads.

mod address;
mod body;
mod codec;
mod compare;
mod expect;
mod expr;
mod file;
mod file_tests;
mod keys;
mod load;
mod map;
mod plan;
mod template;
#[cfg(test)]
mod tests;
mod uri;

use std::collections::BTreeMap;

use envelope::{AckPoint, Route};
use schema::Schemas;

pub use load::load;

/// The text of one mapping file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its path, as errors name it.
    pub path: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// What the files may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// This gateway's domain.
    pub domain: &'a str,
    /// The names of the configured bridges.
    pub bridges: &'a [&'a str],
    /// The loaded schemas.
    pub schemas: &'a Schemas,
}

/// A set of mapping files as compiled plans. Immutable; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Mappings {
    domain: Box<str>,
    all: Vec<file::Mapping>,
    /// Numbers in `all`, by bridge and address.
    bridges: BTreeMap<Box<str>, address::Index>,
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
