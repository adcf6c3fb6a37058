//! `test --fuzz`: messages that the input schema lets in, and messages like those of the file's tests, made up, through the same
//! path as live ones.
//!
//! Each must map or be refused cleanly: what is proven may be refused for nothing but its range, and what the schema does
//! not let in must not get through. Where another file sends what this one takes in, [`round_trip`] sees that it comes out as
//! it went in. The same seed makes the same messages.

mod headers;
mod round_trip;
mod sending;
#[cfg(test)]
mod tests;
mod vary;

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use envelope::{Headers, Identity, Inbound, Json, Lane, MapResult, Principal, RejectKind, Rejection, Route};
use schema::Schema;

use crate::{
    FieldProof, Mappings, Verdict,
    codec::{Codec, Decoded},
    file::Mapping,
    proof::{self, Samples, Type},
};

/// What became of the messages that were made up for a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuzzResult {
    /// The mapping's name.
    pub mapping: String,
    /// The file's path.
    pub file: String,
    /// How many became envelopes, or were filtered.
    pub mapped: usize,
    /// How many were refused.
    pub refused: usize,
    /// The mappings that send what this one takes in, and how many messages each gave back as they came.
    pub returned: Vec<(String, usize)>,
    /// The first that broke a promise.
    pub failure: Option<FuzzFailure>,
}

/// A message that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuzzFailure {
    /// Where it was sent.
    pub address: String,
    /// Its headers, names and values.
    pub headers: Vec<(String, String)>,
    /// Its payload, for `try --input`.
    pub payload: Vec<u8>,
    /// What was promised, and what came.
    pub why: String,
}

/// One in so many messages is of any shape, whatever the schema says.
const ANY_SHAPE: usize = 8;
/// One in so many is like one of the file's tests, where it has any; without a schema, all are that are not of any shape.
const LIKE_A_TEST: usize = 3;
/// How often a sample that does not conform is made anew.
const TRIES: usize = 16;
/// What is refused for being out of range, in the words of the refusal.
const RANGES: [&str; 7] = [
    "out of range",
    "out of the range",
    "between 1970 and 9999",
    "whole numbers below 2^53",
    "a topic has at most",
    "an attribute has at most",
    "bytes, the limit is",
];

// === impl Mappings ===

impl Mappings {
    /// Makes up `messages` messages for each mapping that takes messages in, and as many envelopes for each that sends; `wanted` tells
    /// which by name.
    pub fn fuzz(&self, seed: u64, messages: usize, wanted: impl Fn(&str) -> bool) -> Vec<FuzzResult> {
        self.all
            .iter()
            .filter(|mapping| wanted(mapping.route.name()))
            .map(|mapping| self.fuzz_one(mapping, seed, messages))
            .chain(
                self.egress
                    .iter()
                    .filter(|egress| wanted(egress.route.name()))
                    .map(|egress| sending::fuzz(egress, seed, messages)),
            )
            .collect()
    }

    fn fuzz_one(&self, mapping: &Mapping, seed: u64, messages: usize) -> FuzzResult {
        let mut samples = Samples::new(seed);
        let takes = Takes { codec: mapping.from.decode, schema: mapping.from.schema.as_ref() };
        let admitted = proof::payload(takes.codec, takes.schema);
        let given: Vec<_> = mapping.tests.iter().filter_map(|test| takes.tree(test.payload())).collect();
        let like_a_test = if takes.schema.is_some() { LIKE_A_TEST } else { 1 };
        let read = headers::Read::of(mapping);
        let back: Vec<_> = self.egress.iter().filter(|egress| round_trip::inverts(egress, mapping)).collect();
        let mut result = FuzzResult::of(&mapping.route, &mapping.path);
        result.returned = back.iter().map(|egress| (egress.route.name().to_owned(), 0)).collect();
        for number in 0..messages {
            let of = match samples.choice(&given) {
                _ if number % ANY_SHAPE == ANY_SHAPE - 1 => Of::AnyShape,
                Some(given) if number % like_a_test == 0 => Of::Given(given),
                _ => Of::Admitted(&admitted),
            };
            let Some((payload, conforms)) = takes.sample(&mut samples, of) else { continue };
            let address = mapping.from.pattern.example(|| samples.word());
            let headers = read.made_up(&mut samples);
            let inbound = self.made_up(mapping, &address, headers.clone(), payload.clone());
            let why = match self.dry_run(inbound) {
                MapResult::Mapped(mapped) if conforms => {
                    result.mapped += 1;
                    let ours = mapped.route == mapping.route;
                    let envelope = Some(&mapped.group).filter(|_| ours);
                    let mut ways = back.iter().zip(&mut result.returned);
                    ways.find_map(|(egress, (_, returned))| {
                        match round_trip::back(egress, mapping, envelope?, &payload) {
                            Ok(came) => {
                                *returned += usize::from(came);
                                None
                            }
                            Err(why) => Some(why),
                        }
                    })
                }
                MapResult::Filtered(_) if conforms => {
                    result.mapped += 1;
                    None
                }
                MapResult::Mapped(mapped) if mapped.route == mapping.route => {
                    Some("it does not conform to \"from.schema\", and was taken".to_owned())
                }
                MapResult::Mapped(_) | MapResult::Filtered(_) => None,
                MapResult::Refused(route, rejection) => {
                    result.refused += 1;
                    let ours = route.is_some_and(|route| route == mapping.route);
                    (ours && conforms).then(|| broken(&mapping.proofs, &rejection)).flatten()
                }
            };
            if let Some(why) = why {
                let headers =
                    headers.iter().map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into())).collect();
                result.failure = Some(FuzzFailure { address, headers, payload: payload.to_vec(), why });
                break;
            }
        }
        result
    }

    fn made_up(&self, mapping: &Mapping, address: &str, headers: Headers, payload: Bytes) -> Inbound {
        Inbound {
            bridge: (&*mapping.from.bridge).into(),
            address: address.into(),
            headers,
            payload,
            lane: Lane(0),
            identity: Identity::fresh(),
            principal: Arc::new(Principal::anonymous(&self.domain)),
            peer: None,
            trace: None,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::UNIX_EPOCH,
        }
    }
}

/// What a payload is made of.
#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    /// The trees that `from.schema` lets in.
    Admitted(&'a Type),
    /// The tree of a test.
    Given(&'a Json),
    /// Nothing that the file says.
    AnyShape,
}

/// What a mapping's `from` says of payloads.
#[derive(Debug, Clone, Copy)]
struct Takes<'m> {
    codec: Codec,
    schema: Option<&'m Schema>,
}

// === impl FuzzResult ===

impl FuzzResult {
    fn of(route: &Route, path: &str) -> Self {
        let (mapping, file) = (route.name().to_owned(), path.to_owned());
        Self { mapping, file, mapped: 0, refused: 0, returned: Vec::new(), failure: None }
    }
}

// === impl Takes ===

impl Takes<'_> {
    /// A payload, and whether the schema lets it in.
    fn sample(self, samples: &mut Samples, of: Of<'_>) -> Option<(Bytes, bool)> {
        let mut last = None;
        for _ in 0..TRIES {
            let json = match of {
                Of::Admitted(of) => samples.json(of),
                Of::Given(json) => Some(vary::varied(samples, json.root())),
                Of::AnyShape => samples.json(&self.codec.shape()),
            };
            let Some(payload) = json.and_then(|json| encoded(json, self.codec)) else { continue };
            let conforms = self.conforms(&payload);
            last = Some((payload, conforms));
            if conforms || !matches!(of, Of::Admitted(_)) {
                break;
            }
        }
        // what no format can say at all, as bytes of another
        last.or_else(|| {
            let payload = Bytes::from(samples.json(&Type::ANY)?);
            let conforms = self.conforms(&payload);
            Some((payload, conforms))
        })
    }

    /// What a test gives, as a tree; `None` if it is none.
    fn tree(self, payload: &Bytes) -> Option<Json> {
        match self.codec.decode(payload).ok()? {
            Decoded::Json(json) | Decoded::Tree(json) => Some(json),
            Decoded::Text(_) | Decoded::Bytes => None,
        }
    }

    fn conforms(self, payload: &Bytes) -> bool {
        let Ok(decoded) = self.codec.decode(payload) else { return false };
        match (self.schema, decoded.tree()) {
            (Some(schema), Some(json)) => schema.check(json).is_ok(),
            (_, _) => true,
        }
    }
}

/// A value in a format; `None` if the format can't say it.
fn encoded(json: Vec<u8>, codec: Codec) -> Option<Bytes> {
    let json = Json::parse(json.into()).ok()?;
    match codec {
        Codec::Bytes => Some(json.bytes()),
        codec => codec.encode(&json).ok(),
    }
}

/// What was promised, if a refusal breaks it.
fn broken(proofs: &[FieldProof], rejection: &Rejection) -> Option<String> {
    let range = rejection.kind == RejectKind::TooLarge || RANGES.iter().any(|range| rejection.detail.contains(range));
    if range {
        return None;
    }
    if rejection.decided_by == "conformance" {
        let mut data = proofs.iter().filter(|proof| proof.field.starts_with("envelope.data"));
        let proven = data.all(|proof| proof.verdict == Verdict::Proven);
        return proven.then(|| format!("its data is proven, and it was refused: {rejection}"));
    }
    let detail = match rejection.detail.strip_prefix("item ").and_then(|rest| rest.split_once(": ")) {
        Some((_, detail)) => detail,
        None => &rejection.detail,
    };
    let about = |proof: &&FieldProof| detail.strip_prefix(&*proof.field).is_some_and(|rest| rest.starts_with(": "));
    let proof = proofs.iter().find(about)?;
    match proof.verdict {
        Verdict::Proven => Some(format!("{} is proven, and it was refused: {rejection}", proof.field)),
        Verdict::Given => Some(format!("{} is always there, and it was refused: {rejection}", proof.field)),
        Verdict::AtRunTime(_) => None,
    }
}
