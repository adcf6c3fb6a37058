//! The ingress stack as its source sees it.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use envelope::{
    Admission, Admitted, Batch, Conversation, Disposition, Envelope, EnvelopeId, Group, Inbound, MapResult, Mapped,
    Mapper, Principal, Proof, RejectKind, Rejection, Verdict, Verdicts,
};
use futures_util::{FutureExt, future::BoxFuture};
use tower::{Service, util::BoxCloneSyncService};

use super::world::{
    DOMAIN, Kept, MAX_PAYLOAD, Told, World, batch, envelope, epoch, epoch_of, from_fn, inbound, typed, words,
};
use crate::{
    Current, Flow,
    authenticate::Authenticated,
    conformance::Conformance,
    lift::{Rule, Step},
    loop_guard::{LoopGuard, MAX_HOPS},
};

#[test]
fn a_bridge_may_be_the_sender_of_what_it_brings_itself_and_of_nothing_else() {
    let epoch = epoch_of(1, Told, "anonymous: false");
    let sender = |id: &str, proof: Proof| {
        let principal = Arc::new(Principal { proof, ..Principal::new(id, DOMAIN) });
        Authenticated.check(&epoch, &Inbound { principal, ..inbound(1, "stored") }).is_ok()
    };
    assert!(sender("$bridge:web", Proof::None));
    let certificate = Proof::Certificate(Arc::default());
    assert!(
        !sender("$bridge:other", Proof::None) && !sender("web", Proof::None) && !sender("$bridge:web", certificate)
    );
}

#[test]
fn final_refusals_and_filtered_messages_are_counted_by_route() {
    let world = World::new();
    let offered =
        [(1, "pass"), (1, "drop"), (2, "loop"), (2, "refuse"), (2, "wrong"), (3, "too-large"), (3, "unmapped")];
    world.offer(batch(offered.into_iter().chain([(3, "drop"), (4, "retry"), (4, "pass"), (5, "store-retry")])));
    let expected = [
        (("", "too-large"), 1),
        (("", "unmapped"), 1),
        (("drop", "filtered"), 2),
        (("loop", "filtered"), 1),
        (("refuse", "malformed"), 1),
        (("wrong", "malformed"), 1),
    ];
    let expected: BTreeMap<_, _> = expected.map(|((route, word), n)| ((route.to_owned(), word), n)).into();
    assert_eq!(world.counts.get(), expected);
}

#[test]
fn a_verdict_with_a_route_has_the_words_of_its_mapping_and_stays_what_it_is() {
    let world = World::new();
    let offered = [(1, "words"), (2, "refuse"), (3, "drop"), (4, "pass"), (5, "unmapped"), (6, "store-retry")];
    let verdicts = world.offer(batch(offered.into_iter().chain([(7, "too-large")])));
    let said = |verdict: &Verdict<Admission>| {
        let reply = match &verdict.answer {
            Ok(Admission::Stored(receipt)) => receipt.reply.as_ref(),
            Ok(Admission::Filtered) => None,
            Err(rejection) => rejection.reply.as_ref(),
        };
        reply.map(|reply| String::from_utf8(reply.payload.to_vec()).unwrap())
    };
    let replies: Vec<_> = verdicts.iter().map(said).collect();
    let none = None::<String>;
    assert_eq!(
        replies,
        [
            Some("yes".to_owned()),
            Some("malformed".to_owned()),
            none.clone(),
            none.clone(),
            none.clone(),
            none.clone(),
            none
        ]
    );
    assert_eq!(words(verdicts), ["stored", "malformed", "filtered", "stored", "unmapped", "unavailable", "too-large"]);
}

#[test]
fn a_payload_at_the_limit_passes_and_one_byte_more_does_not() {
    let world = World::new();
    for (size, said) in [(0, "stored"), (MAX_PAYLOAD, "stored"), (MAX_PAYLOAD + 1, "too-large")] {
        let message = Inbound { payload: vec![b'x'; size].into(), ..inbound(1, "pass") };
        let verdicts = world.offer(Batch::one(message));
        if let Err(rejection) = &verdicts[0].answer {
            assert_eq!(rejection.detail, "payload is 65 bytes, limit is 64");
        }
        assert_eq!(words(verdicts), [said]);
    }
}

#[test]
fn a_store_that_is_away_is_a_retry_for_what_it_was_sent() {
    let away = from_fn(|_| std::future::ready(Err(Rejection::new(RejectKind::Unavailable, "store", "away"))).boxed());
    let world = World::over(away, Kept::default(), Flow::Push, 8);
    let verdicts = world.offer(batch([(1, "drop"), (2, "pass"), (3, "refuse"), (4, "each 2"), (2, "drop")]));
    assert_eq!(words(verdicts), ["filtered", "unavailable", "malformed", "unavailable", "behind"]);
    assert_eq!(world.counts.get().values().sum::<u64>(), 2);
}

#[test]
fn a_store_that_loses_count_is_a_retry_and_not_a_wrong_yes() {
    let lost = from_fn(|_| std::future::ready(Ok(Vec::new())).boxed());
    let world = World::over(lost, Kept::default(), Flow::Pull, 8);
    assert_eq!(words(world.offer(batch([(1, "pass"), (2, "drop")]))), ["unavailable", "filtered"]);
}

/// Never ready again.
#[derive(Clone)]
struct Broken;

impl Service<Batch<Admitted>> for Broken {
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = BoxFuture<'static, Result<Verdicts<Admission>, Rejection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Err(Rejection::new(RejectKind::Unavailable, "store", "closed")))
    }

    fn call(&mut self, _: Batch<Admitted>) -> Self::Future {
        unreachable!("it was not ready")
    }
}

#[test]
fn a_store_that_can_not_be_called_is_a_verdict_too() {
    for flow in [Flow::Push, Flow::Pull] {
        let world = World::over(BoxCloneSyncService::new(Broken), Kept::default(), flow, 8);
        let verdicts = world.offer(batch([(1, "pass"), (2, "pass")]));
        assert!(verdicts.iter().all(|v| v.answer.as_ref().is_err_and(|r| r.disposition() == Disposition::Retry)));
        assert_eq!(words(verdicts), ["unavailable", "unavailable"]);
    }
}

/// Reloads the gateway while it maps.
struct Reloads(Arc<OnceLock<Current>>);

impl Mapper for Reloads {
    fn map(&self, inbound: Inbound) -> MapResult {
        self.0.get().unwrap().store(Arc::new(epoch(2, Told)));
        Told.map(inbound)
    }
}

#[test]
fn a_batch_is_decided_by_one_epoch_even_if_another_comes_meanwhile() {
    let world = World::new();
    let current = Arc::new(OnceLock::new());
    current.set(world.current.clone()).unwrap();
    world.current.store(Arc::new(epoch(1, Reloads(current))));

    world.offer(batch([(1, "pass"), (2, "pass"), (3, "each 2")]));
    let epochs = |world: &World| world.kept.take().into_iter().map(|(_, epoch)| epoch).collect::<Vec<_>>();
    assert_eq!(epochs(&world), [1, 1, 1]);
    world.offer(batch([(1, "pass")]));
    assert_eq!(epochs(&world), [2]);
}

fn mapped(group: Group) -> Mapped {
    match Told.map(inbound(1, "pass")) {
        MapResult::Mapped(mapped) => Mapped { group, ..mapped },
        other => panic!("{other:?}"),
    }
}

fn plain(data: &str) -> Envelope {
    envelope(EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(), data.as_bytes())
}

#[test]
fn an_envelope_loops_if_it_was_here_or_came_too_far() {
    let with = |hops: Vec<&str>| Envelope { hops: hops.into_iter().map(Into::into).collect(), ..plain("") };
    let filtered = |group| LoopGuard.decide(&epoch(1, Told), &mapped(group)).is_break();
    assert!(!filtered(Group::One(with(vec![]))));
    assert!(!filtered(Group::One(with(vec!["b"; MAX_HOPS]))));
    assert!(filtered(Group::One(with(vec!["b"; MAX_HOPS + 1]))));
    assert!(filtered(Group::One(with(vec!["b", DOMAIN, "c"]))));
    assert!(!filtered(Group::Many(vec![with(vec!["b"]), with(vec!["c"])])));
    assert!(filtered(Group::Many(vec![with(vec!["b"]), with(vec![DOMAIN])])));
}

fn conforms(group: Group) -> Result<(), Rejection> {
    Conformance.check(&epoch(1, Told), &mapped(group))
}

#[test]
fn data_must_be_what_its_type_says() {
    let reading = |data| typed(plain(data), super::world::READING);
    assert!(conforms(Group::One(reading("{\"celsius\": 21.5}"))).is_ok());
    assert!(conforms(Group::One(plain("\0 anything"))).is_ok());

    let refused = conforms(Group::One(reading("{\"celsius\": \"hot\"}"))).unwrap_err();
    assert_eq!((refused.kind, refused.decided_by), (RejectKind::Malformed, "conformance"));
    assert_eq!(refused.pointer.as_deref(), Some("/celsius"));
    assert_eq!(refused.detail, r#""hot" is not of type "number""#);

    let refused = conforms(Group::One(reading("{\"celsius\": 1, \"celsius\": 2}"))).unwrap_err();
    assert!(refused.detail.contains("duplicate key"), "{}", refused.detail);

    let refused = conforms(Group::Many(vec![reading("{\"celsius\": 1}"), reading("{}")])).unwrap_err();
    assert_eq!(refused.detail, r#"envelope 1 of the group: "celsius" is a required property"#);
}

#[test]
fn what_deletes_a_last_value_is_of_every_type() {
    let deletes = |retain| Mapped { retain, ..mapped(Group::One(typed(plain(""), super::world::READING))) };
    assert!(Conformance.check(&epoch(1, Told), &deletes(true)).is_ok());
    assert!(Conformance.check(&epoch(1, Told), &deletes(false)).is_err());
}

#[test]
fn an_envelope_of_a_protocol_that_is_not_loaded_is_refused() {
    let of = |protocol: Option<&str>| Envelope {
        conversation: Some(Box::new(Conversation { protocol: protocol.map(Into::into), ..Conversation::default() })),
        ..plain("")
    };
    assert!(conforms(Group::One(of(None))).is_ok());
    let refused = conforms(Group::One(of(Some("https://example.com/auction@v1.0.0")))).unwrap_err();
    assert_eq!((refused.kind, refused.decided_by), (RejectKind::Malformed, "conformance"));
    assert_eq!(refused.detail, "no package of protocol \"https://example.com/auction@v1.0.0\" is loaded");
}

#[test]
fn a_type_that_nobody_can_check_is_refused() {
    let refused = conforms(Group::One(typed(plain("{}"), "telemetry/reading@v2.0.0"))).unwrap_err();
    assert_eq!(refused.kind, RejectKind::Malformed);
    assert!(refused.detail.contains("telemetry/reading@v2.0.0"), "{}", refused.detail);

    let no_dataschema = Envelope { kind: super::world::READING.into(), ..plain("{}") };
    assert!(conforms(Group::One(no_dataschema)).is_err(), "the type counts, with or without a dataschema");
    let foreign = |dataschema: &str| Envelope {
        dataschema: Some(dataschema.into()),
        ..typed(plain("{\"celsius\": 1}"), super::world::READING)
    };
    assert!(conforms(Group::One(foreign("mesh://plant-b/schemas/telemetry/reading@v1.0.0"))).is_ok());
    for bad in
        ["mesh://plant-a/schemas/telemetry/other@v1.0.0", "https://example.com/schemas/telemetry/reading@v1.0.0", ""]
    {
        assert!(conforms(Group::One(foreign(bad))).is_err(), "{bad}");
    }
    let opaque = Envelope { dataschema: Some("mesh://plant-a/schemas/a@v1.0.0".into()), ..plain("{}") };
    assert!(conforms(Group::One(opaque)).is_err(), "what names a schema is held to it");
}

#[test]
fn what_does_not_conform_is_kept_as_it_came_where_its_mapping_says_so_and_what_is_denied_is_not() {
    let world = World::new();
    let offered = [(1, "wrong"), (2, "denied"), (3, "refuse"), (4, "pass"), (5, "wrong"), (5, "retry"), (5, "wrong")];
    let verdicts = world.offer(batch(offered));
    assert_eq!(verdicts.iter().filter(|verdict| verdict.answer.is_err()).count(), 6);
    let letters = world.letters.0.lock().unwrap().clone();
    let kept: Vec<_> = letters.iter().map(|(message, kind)| (&*message.address, *kind)).collect();
    assert_eq!(kept, [("wrong", RejectKind::Malformed), ("wrong", RejectKind::Malformed)], "once each, and none twice");
    assert_eq!(&*letters[0].0.principal, "anonymous");
    assert!(!letters[0].0.payload.is_empty());
    assert!(letters.iter().all(|(message, _)| message.may_be_kept), "access and residency have let them pass");
}
