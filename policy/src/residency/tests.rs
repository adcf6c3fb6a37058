//! Where data may be, in the stacks.

use std::sync::Arc;

use bytes::Bytes;
use envelope::{
    Batch, Delivery, Envelope, EnvelopeId, Inbound, Lane, MapResult, Mapper, Outgoing, Position, Principal,
};
use futures_util::FutureExt;
use schema::{Schema, Schemas};
use tower::{Service, ServiceExt};

use crate::{
    Epoch, Pass, PolicyConfig, Trail, egress, hand_over,
    tests::world::{DOMAIN, Told, World, envelope, everything, inbound, typed},
};

/// Labels with what the address says behind `label `.
struct Labels;

impl Mapper for Labels {
    fn map(&self, inbound: Inbound) -> MapResult {
        let address = inbound.address.clone();
        let MapResult::Mapped(mut mapped) = Told.map(Inbound { address: "pass".into(), ..inbound }) else {
            unreachable!("it passes")
        };
        let words = address.strip_prefix("label").unwrap_or_default();
        for envelope in mapped.group.as_mut_slice() {
            if address.starts_with("typed") {
                *envelope = typed(envelope.clone(), "strict@v1.0.0");
            }
            envelope.residency = words.split_whitespace().map(Into::into).collect();
        }
        MapResult::Mapped(mapped)
    }
}

fn epoch(here: &[&str], residency: &str) -> Epoch {
    let mut schemas = Schemas::default();
    schemas.insert(Schema::compile("strict@v1.0.0", br#"{"x-residency": ["no", "se"]}"#).unwrap());
    let policy = format!("anonymous: true\nresidency:\n{residency}");
    let policy = PolicyConfig::parse("policy.yaml", &policy).unwrap();
    let here = here.iter().map(|label| (*label).into()).collect();
    Epoch::new(1, DOMAIN.into(), Arc::new(Labels), Arc::new(schemas), policy).within(here).with_policies(everything())
}

fn world(here: &[&str], residency: &str) -> World {
    let world = World::new();
    world.current.store(Arc::new(epoch(here, residency)));
    world
}

/// The label that it is stored with, or why it is refused.
fn stored(world: &World, inbound: Inbound) -> Result<Vec<String>, String> {
    if let Err(rejection) = world.offer(Batch::one(inbound)).pop().unwrap().answer {
        assert_eq!(rejection.decided_by, "residency");
        assert!(world.kept.take().is_empty());
        return Err(rejection.detail);
    }
    let (group, _) = world.kept.take().pop().unwrap();
    Ok(group.as_slice()[0].residency.iter().map(|label| label.to_string()).collect())
}

fn labelled(world: &World, label: &str) -> Result<Vec<String>, String> {
    stored(world, inbound(1, &format!("label {label}")))
}

fn refusal(world: &World, label: &str) -> String {
    labelled(world, label).unwrap_err()
}

#[test]
fn one_of_the_jurisdictions_of_every_place_has_to_be_allowed() {
    let world = world(&["no", "eu"], "  store: [no, eea]\n  bridges: { web: eu }\n");
    assert_eq!(labelled(&world, "eu no").unwrap(), ["eu", "no"]);
    assert_eq!(refusal(&world, "us"), "the data may be in us, and this gateway is in no, eu");
    assert_eq!(refusal(&world, "no"), "the data may be in no, and bridge \"web\" is in eu");
    assert_eq!(refusal(&world, "eu"), "the data may be in eu, and the store is in no, eea");
    assert!(labelled(&world, "").unwrap().is_empty(), "without a label or a default it may be anywhere");
}

#[test]
fn a_gateway_that_does_not_say_where_it_is_takes_nothing_that_is_labelled() {
    let world = world(&[], "  store: [no]\n");
    assert_eq!(refusal(&world, "no"), "the data may be in no, and this gateway is in no declared jurisdiction");
}

#[test]
fn what_is_not_labelled_has_the_senders_jurisdiction_and_then_the_default_and_is_stored_with_it() {
    let world = world(&["no", "eu"], "  default: [eu, no]\n");
    assert_eq!(labelled(&world, "").unwrap(), ["eu", "no"]);
    let from = |place: &str| Inbound {
        principal: Arc::new(Principal { jurisdiction: Some(place.into()), ..Principal::anonymous(DOMAIN) }),
        ..inbound(1, "label")
    };
    assert_eq!(stored(&world, from("no")).unwrap(), ["no"]);
    assert!(stored(&world, from("us")).is_err());
    assert_eq!(stored(&world, Inbound { address: "label eu".into(), ..from("us") }).unwrap(), ["eu"]);
}

#[test]
fn a_schema_narrows_what_the_mapping_says() {
    let world = world(&["no", "eu"], "  default: [eu]\n");
    assert_eq!(stored(&world, inbound(1, "typed")).unwrap(), ["no", "se"]);
    let mut mapped = match Labels.map(inbound(1, "typed")) {
        MapResult::Mapped(mapped) => mapped,
        other => panic!("{other:?}"),
    };
    let epoch = epoch(&["no"], "  default: [eu]\n");
    mapped.group.as_mut_slice()[0].residency = vec!["no".into(), "us".into()];
    super::label(&epoch, &mut mapped).unwrap();
    assert_eq!(mapped.group.as_slice()[0].residency, ["no".into()]);
    mapped.group.as_mut_slice()[0].residency = vec!["us".into()];
    let said = super::label(&epoch, &mut mapped).unwrap_err().detail;
    assert_eq!(said, "no place is in us and in no, se, which data of type \"strict@v1.0.0\" has to be");
}

#[test]
fn at_egress_the_bridge_and_the_receiver_are_asked_again() {
    let id = EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap();
    let goes = |residency: &str, label: &[&str], to: Option<&str>| {
        let envelope =
            Envelope { residency: label.iter().map(|label| (*label).into()).collect(), ..envelope(id, b"{}") };
        let position = Position(Bytes::from_static(b"1"));
        let delivery =
            Delivery { position, redelivered: false, is_last: false, retained: false, envelope, lane: Lane(1) };
        let to = Principal { jurisdiction: to.map(Into::into), ..Principal::anonymous(DOMAIN) };
        let batch = Batch::one(Outgoing { to: Arc::new(to), delivery });
        let mut stack = egress(hand_over(), Arc::new(Trail::egress("web".into(), None)), Arc::default());
        let pass = Pass { epoch: Arc::new(epoch(&["no"], residency)), batch };
        let ready = stack.ready().now_or_never().unwrap().unwrap();
        ready.call(pass).now_or_never().unwrap().unwrap().pop().unwrap().answer.map(drop).map_err(|no| no.detail)
    };
    let at_home = "  default: [no]\n";
    assert_eq!(goes(at_home, &["no"], None), Ok(()));
    assert_eq!(goes(at_home, &["no"], Some("no")), Ok(()));
    assert_eq!(goes(at_home, &["no"], Some("us")).unwrap_err(), "the data may be in no, and the receiver is in us");
    let abroad = "  bridges: { web: [us] }\n  default: [no]\n";
    assert_eq!(goes(abroad, &["no"], None).unwrap_err(), "the data may be in no, and bridge \"web\" is in us");
    assert_eq!(goes(abroad, &[], None).unwrap_err(), "the data may be in no, and bridge \"web\" is in us");
    assert_eq!(goes("  bridges: { web: [us] }\n", &[], None), Ok(()));
}

#[test]
fn what_is_not_understood_is_an_error_with_its_place() {
    for (text, what) in [
        ("  store: []", "0 jurisdictions, it is 1 to 64"),
        ("  default: [NO]", "a jurisdiction such as no or us-ca"),
        ("  bridges: { web: [a b] }", "a jurisdiction such as no or us-ca"),
        ("  strore: [no]", "did you mean \"store\"?"),
    ] {
        let error = PolicyConfig::parse("policy.yaml", &format!("residency:\n{text}\n")).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
}
