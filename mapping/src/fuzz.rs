//! `test --fuzz`: messages that the input schema lets in, made up, through the same path as live ones.
//!
//! Each must map or be refused cleanly: what is proven may be refused for nothing but its range, and what the schema does
//! not let in must not get through. The same seed makes the same messages.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use envelope::{Identity, Inbound, Json, Lane, MapResult, Principal, RejectKind, Rejection};

use crate::{
    Mappings, Verdict,
    codec::Codec,
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
    /// The first that broke a promise.
    pub failure: Option<FuzzFailure>,
}

/// A message that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuzzFailure {
    /// Where it was sent.
    pub address: String,
    /// Its payload, for `try --input`.
    pub payload: Vec<u8>,
    /// What was promised, and what came.
    pub why: String,
}

/// One in so many messages is of any shape, whatever the schema says.
const ANY_SHAPE: usize = 8;
/// How often a sample that does not conform is made anew.
const TRIES: usize = 16;
/// What is refused for being out of range, in the words of the refusal.
const RANGES: [&str; 4] = ["out of range", "out of the range", "between 1970 and 9999", "whole numbers below 2^53"];

// === impl Mappings ===

impl Mappings {
    /// Makes up `messages` messages for each mapping that takes JSON or text; `wanted` tells which by name. Other formats
    /// are left out.
    pub fn fuzz(&self, seed: u64, messages: usize, wanted: impl Fn(&str) -> bool) -> Vec<FuzzResult> {
        let made = |mapping: &&Mapping| {
            matches!(mapping.from.decode, Codec::Json | Codec::Text(_)) && wanted(mapping.route.name())
        };
        self.all.iter().filter(made).map(|mapping| self.fuzz_one(mapping, seed, messages)).collect()
    }

    fn fuzz_one(&self, mapping: &Mapping, seed: u64, messages: usize) -> FuzzResult {
        let mut samples = Samples::new(seed);
        let schema = mapping.from.schema.as_ref();
        let admitted = proof::payload(mapping.from.decode, schema);
        let mut result = FuzzResult {
            mapping: mapping.route.name().to_owned(),
            file: mapping.path.to_string(),
            mapped: 0,
            refused: 0,
            failure: None,
        };
        for number in 0..messages {
            let of = if number % ANY_SHAPE == ANY_SHAPE - 1 { &Type::ANY } else { &admitted };
            let Some((payload, conforms)) = sample(&mut samples, mapping, of) else { continue };
            let address = mapping.from.pattern.example(|| samples.word());
            let inbound = self.made_up(mapping, &address, payload.clone());
            let why = match self.dry_run(inbound) {
                MapResult::Mapped(_) | MapResult::Filtered(_) if conforms => {
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
                    (ours && conforms).then(|| broken(mapping, &rejection)).flatten()
                }
            };
            if let Some(why) = why {
                result.failure = Some(FuzzFailure { address, payload: payload.to_vec(), why });
                break;
            }
        }
        result
    }

    fn made_up(&self, mapping: &Mapping, address: &str, payload: Bytes) -> Inbound {
        Inbound {
            bridge: (&*mapping.from.bridge).into(),
            address: address.into(),
            headers: Arc::new([]),
            payload,
            lane: Lane(0),
            identity: Identity::fresh(),
            principal: Arc::new(Principal::anonymous(&self.domain)),
            peer: None,
            trace: None,
            retain: false,
            received_at: SystemTime::UNIX_EPOCH,
        }
    }
}

/// A payload, and whether `from.schema` lets it in.
fn sample(samples: &mut Samples, mapping: &Mapping, of: &Type) -> Option<(Bytes, bool)> {
    if let Codec::Text(charset) = mapping.from.decode {
        return Some((charset.encode(&samples.word())?.into(), true));
    }
    let mut last = None;
    for _ in 0..TRIES {
        let payload = Bytes::from(samples.json(of)?);
        let json = Json::parse(payload.clone()).ok()?;
        let conforms = mapping.from.schema.as_ref().is_none_or(|schema| schema.check(&json).is_ok());
        last = Some((payload, conforms));
        if conforms {
            break;
        }
    }
    last
}

/// What was promised, if a refusal breaks it.
fn broken(mapping: &Mapping, rejection: &Rejection) -> Option<String> {
    let proven = mapping.proofs.iter().all(|proof| proof.verdict == Verdict::Proven);
    let range = rejection.kind == RejectKind::TooLarge || RANGES.iter().any(|range| rejection.detail.contains(range));
    let data = rejection.decided_by == "conformance" || rejection.detail.starts_with("envelope.data");
    (proven && data && !range).then(|| format!("its data is proven, and it was refused: {rejection}"))
}

#[cfg(test)]
mod tests {
    use schema::{Schema, Schemas};

    use super::*;
    use crate::{Bridge, Context, Source, Tables, load};

    fn loaded(text: &str) -> Mappings {
        let mut schemas = Schemas::default();
        let input = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"integer","minimum":1}}}"#;
        let output = r#"{"type":"object","required":["n"],"properties":{"n":{"type":"number"}}}"#;
        schemas.insert(Schema::compile("in", input.as_bytes()).unwrap());
        schemas.insert(Schema::compile("out", output.as_bytes()).unwrap());
        let bridges = [Bridge::named("web")];
        let context = Context::new("d", &bridges, &schemas, Tables::none());
        load(&[Source { path: "m.yaml", text }], &context).unwrap_or_else(|errors| panic!("{errors}"))
    }

    const PROVEN: &str = "mapping: m\nfrom: { bridge: web, address: \"POST /a/{x}\", schema: schemas/in.json }\n\
        envelope: { topic: \"t/${address.x}\", schema: out, data: { n: \"${10 / payload.n}\" } }\n";

    #[test]
    fn what_is_proven_maps_and_what_does_not_conform_is_refused() {
        let results = loaded(PROVEN).fuzz(7, 400, |_| true);
        let [result] = results.as_slice() else { panic!("{results:?}") };
        assert_eq!(result.failure, None);
        assert!(result.mapped > 300 && result.refused > 20, "{result:?}");
        assert_eq!(loaded(PROVEN).fuzz(7, 400, |_| true), results, "the same seed makes the same messages");
        assert_eq!(loaded(PROVEN).fuzz(7, 400, |name| name == "other"), []);
    }

    #[test]
    fn a_promise_that_is_broken_is_shown_with_its_message() {
        let mut mappings = loaded(
            &PROVEN
                .replace("10 / payload.n", "10 / (payload.n - 1)")
                .replace("envelope:", "unproven: dead-letter\nenvelope:"),
        );
        assert_eq!(mappings.fuzz(7, 400, |_| true)[0].failure, None, "nothing was promised");
        mappings.all[0].proofs.clear();
        let failure = mappings.fuzz(7, 400, |_| true)[0].failure.clone().unwrap();
        assert!(failure.why.contains("division by zero") && failure.address.starts_with("POST /a/"), "{failure:?}");
        assert_eq!(Json::parse(failure.payload.into()).unwrap().root().get("n").unwrap().source().parse(), Ok(1.0));
    }

    #[test]
    fn texts_are_made_up_too() {
        let text = "mapping: m\nfrom: { bridge: web, address: a, decode: text }\nenvelope: { topic: t, data: \"${payload.upperAscii()}\" }\n";
        let results = loaded(text).fuzz(1, 50, |_| true);
        assert_eq!((results[0].mapped, results[0].refused), (50, 0));
    }
}
