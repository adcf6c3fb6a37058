//! Envelopes for mappings that send, made up: each must become a message or be refused cleanly, as what comes in must.

use bytes::Bytes;
use envelope::{Data, Envelope, EnvelopeId, Identity, IdentityParts, Lane, Timestamp, Topic};

use super::{ANY_SHAPE, FuzzFailure, FuzzResult, LIKE_A_TEST, Of, Takes, broken};
use crate::{
    egress::Egress,
    plan::{OPAQUE, PERFORMATIVES},
    proof::{self, Samples},
};

/// Makes up `count` envelopes of the topics that a mapping selects.
pub(super) fn fuzz(egress: &Egress, seed: u64, count: usize) -> FuzzResult {
    let mut samples = Samples::new(seed);
    let takes = Takes { codec: egress.decode, schema: egress.schema.as_ref() };
    let admitted = proof::payload(takes.codec, takes.schema);
    let given: Vec<_> = egress.tests.iter().filter_map(|test| takes.tree(&test.given().data.bytes())).collect();
    let like_a_test = if takes.schema.is_some() { LIKE_A_TEST } else { 1 };
    let mut result = FuzzResult::of(&egress.route, &egress.path);
    for number in 0..count {
        let of = match samples.choice(&given) {
            _ if number % ANY_SHAPE == ANY_SHAPE - 1 => Of::AnyShape,
            Some(given) if number % like_a_test == 0 => Of::Given(given),
            _ => Of::Admitted(&admitted),
        };
        let Some((payload, conforms)) = takes.sample(&mut samples, of) else { continue };
        let Some(envelope) = made_up(egress, &mut samples, &payload) else { continue };
        let why = match egress.map(&envelope, Lane(0), envelope.time) {
            Ok(Some(_)) if !conforms && takes.schema.is_some() => {
                Some("its data does not conform to \"from.schema\", and it was sent".to_owned())
            }
            Ok(_) => {
                result.mapped += 1;
                None
            }
            Err(rejection) => {
                result.refused += 1;
                conforms.then(|| broken(&egress.proofs, &rejection)).flatten()
            }
        };
        if let Some(why) = why {
            let address = envelope.subject.to_string();
            result.failure = Some(FuzzFailure { address, headers: Vec::new(), payload: payload.to_vec(), why });
            break;
        }
    }
    result
}

/// One with attributes that it may have or not.
fn made_up(egress: &Egress, samples: &mut Samples, payload: &Bytes) -> Option<Envelope> {
    let mut segments = Vec::new();
    for segment in egress.filter.as_str().split('/') {
        match segment {
            "+" => segments.push(samples.word()),
            "#" => {
                if samples.one_in(2) {
                    segments.push(samples.word());
                }
                segments.push(samples.word());
            }
            literal => segments.push(literal.to_owned()),
        }
    }
    let topic = Topic::new(segments.join("/")).ok()?;
    let plain = Envelope::plain(
        id(samples),
        "mesh://test/test/test".into(),
        OPAQUE.into(),
        topic,
        Timestamp::from_micros(0),
        Data::Opaque(payload.clone()),
    );
    let performative = samples.choice(&PERFORMATIVES).filter(|_| samples.one_in(2)).map(|word| (*word).into());
    let mut label = || samples.one_in(2).then(|| samples.word().into());
    Some(Envelope { performative, partitionkey: label(), classification: label(), ..plain })
}

fn id(samples: &mut Samples) -> EnvelopeId {
    let parts = IdentityParts { domain: "test", bridge: "test", principal: "test", route: "test" };
    Identity::Native(samples.word().into()).envelope_id(parts)
}
