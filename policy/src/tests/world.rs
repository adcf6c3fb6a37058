//! What surrounds a stack in these tests: messages whose address says what becomes of them, and who answers.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use envelope::{
    AckPoint, Admission, Admitted, Batch, Data, DeadLetters, DeadMessage, Envelope, EnvelopeId, Group, Identity,
    IdentityParts, Inbound, Ingress, Lane, Ledger, MapResult, Mapped, Mapper, Principal, Proof, Receipt, RejectKind,
    Rejection, Replies, Reply, Route, Settled, Store, Terms, Timestamp, Topic, Verdict, Verdicts,
};
use futures_util::{FutureExt, future::BoxFuture};
use schema::{Schema, Schemas};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    AccessConfig, Current, Epoch, Fetched, Flow, IngressConfig, Issuers, Keys, Policies, PolicyConfig, PolicySource,
    ReplyDesk, TokenConfig, Trail, ingress,
};

pub(crate) const DOMAIN: &str = "plant-a";
pub(crate) const MAX_PAYLOAD: usize = 64;
pub(crate) const READING: &str = "telemetry/reading@v1.0.0";

/// A message; what is done with it is its address.
pub(crate) fn inbound(lane: u64, address: &str) -> Inbound {
    let payload = if address == "too-large" { vec![b'x'; MAX_PAYLOAD + 1] } else { b"{\"celsius\": 21}".to_vec() };
    Inbound {
        bridge: "web".into(),
        address: address.into(),
        headers: Arc::default(),
        payload: payload.into(),
        lane: Lane(lane),
        identity: Identity::fresh(),
        principal: Arc::new(Principal::anonymous(DOMAIN)),
        peer: None,
        trace: None,
        retain: false,
        unacknowledged: false,
        hops: Vec::new(),
        received_at: SystemTime::UNIX_EPOCH,
    }
}

pub(crate) fn batch(messages: impl IntoIterator<Item = (u64, &'static str)>) -> Batch<Inbound> {
    Batch::new(messages.into_iter().map(|(lane, address)| inbound(lane, address)).collect()).unwrap()
}

pub(crate) fn envelope(id: EnvelopeId, data: &[u8]) -> Envelope {
    Envelope::plain(
        id,
        "mesh://plant-a/web/anonymous".into(),
        "mesh/opaque@v1.0.0".into(),
        Topic::new("telemetry/7").unwrap(),
        Timestamp::from_micros(0),
        Data::Opaque(Bytes::copy_from_slice(data)),
    )
}

pub(crate) fn typed(mut envelope: Envelope, kind: &str) -> Envelope {
    envelope.kind = kind.into();
    envelope.dataschema = Some(format!("mesh://{DOMAIN}/schemas/{kind}").into());
    envelope
}

/// Does what the address says.
#[derive(Debug)]
pub(crate) struct Told;

impl Mapper for Told {
    /// These routes answer in their own words.
    fn terms(&self, route: &Route) -> Option<&Arc<Terms>> {
        static TERMS: LazyLock<Arc<Terms>> =
            LazyLock::new(|| Arc::new(Terms { reply: Some(Box::new(Words)), ..Terms::default() }));
        static BURIES: LazyLock<Arc<Terms>> =
            LazyLock::new(|| Arc::new(Terms { dead_letter_unproven: true, ..Terms::default() }));
        match route.name() {
            "words" | "refuse" | "drop" | "store-retry" => Some(&TERMS),
            "wrong" | "typed" | "denied" => Some(&BURIES),
            _ => None,
        }
    }

    fn buries(&self) -> bool {
        true
    }

    fn replies(&self) -> bool {
        true
    }

    fn map(&self, inbound: Inbound) -> MapResult {
        let route = Route::new(inbound.address.split(' ').next().unwrap(), "1");
        let parts = IdentityParts { domain: DOMAIN, bridge: "web", principal: "anonymous", route: route.name() };
        let one = envelope(inbound.identity.envelope_id(parts), &inbound.payload);
        let refuse = |kind| MapResult::Refused(Some(route.clone()), Rejection::new(kind, "mapping", "told to"));
        let group = match &*inbound.address {
            "drop" => return MapResult::Filtered(route),
            "refuse" => return refuse(RejectKind::Malformed),
            "retry" => return refuse(RejectKind::Unavailable),
            "denied" => return refuse(RejectKind::Denied),
            "unmapped" => return MapResult::Refused(None, Rejection::new(RejectKind::Unmapped, "mapping", "told to")),
            "loop" => Group::One(Envelope { hops: vec!["other".into(), DOMAIN.into()], ..one }),
            "typed" => Group::One(typed(one, READING)),
            "wrong" => {
                Group::One(typed(Envelope { data: Data::Opaque("{\"celsius\": \"hot\"}".into()), ..one }, READING))
            }
            "half" => {
                Group::Many(vec![one.clone(), typed(Envelope { data: Data::Opaque("{}".into()), ..one }, READING)])
            }
            address if address.starts_with("latest ") => {
                Group::One(Envelope { partitionkey: Some(address["latest ".len()..].into()), ..one })
            }
            address => match address.strip_prefix("each ") {
                Some(items) => Group::Many((0..items.parse().unwrap()).map(|_| one.clone()).collect()),
                None => Group::One(one),
            },
        };
        let shed_latest = inbound.address.starts_with("latest ");
        let Inbound { bridge, lane, principal, identity, retain, .. } = inbound;
        MapResult::Mapped(Mapped {
            route,
            ack: AckPoint::Durable,
            terms: Arc::new(Terms { shed_latest, ..Terms::default() }),
            bridge,
            lane,
            principal,
            identity,
            retain,
            group,
        })
    }
}

/// Says `yes` or the kind of a refusal; of what is away for now it can say nothing.
#[derive(Debug)]
struct Words;

impl Replies for Words {
    fn within(&self) -> Option<Duration> {
        None
    }

    fn kind(&self) -> Option<&Arc<str>> {
        None
    }

    fn answered(&self, _: &Envelope, _: Timestamp) -> Result<Option<Reply>, Rejection> {
        Ok(None)
    }

    fn accepted(&self, _: &Receipt, _: Timestamp) -> Result<Option<Reply>, Rejection> {
        Ok(Some(Reply { status: Some(200), headers: Arc::default(), payload: "yes".into() }))
    }

    fn refused(&self, rejection: &Rejection, _: Timestamp) -> Result<Option<Reply>, Rejection> {
        if rejection.kind == RejectKind::Unavailable {
            return Err(Rejection::new(RejectKind::Malformed, "mapping", "can't say"));
        }
        Ok(Some(Reply { status: None, headers: Arc::default(), payload: rejection.kind.as_str().into() }))
    }
}

pub(crate) fn epoch(number: u64, mapper: impl Mapper + 'static) -> Epoch {
    epoch_of(number, mapper, "anonymous: true")
}

/// With this text as its policy file.
pub(crate) fn epoch_of(number: u64, mapper: impl Mapper + 'static, policy: &str) -> Epoch {
    let mut schemas = Schemas::default();
    let reading = br#"{"required": ["celsius"], "properties": {"celsius": {"type": "number"}}}"#;
    schemas.insert(Schema::compile(READING, reading).unwrap());
    let policy = PolicyConfig::parse("policy.yaml", policy).unwrap();
    let issuer = (
        issuer(),
        Keys::Fetched(Fetched::default().at(&http::Uri::from_static("https://issuer.example"))),
        Arc::default(),
    );
    Epoch::new(number, DOMAIN.into(), Arc::new(mapper), Arc::new(schemas), policy)
        .with_issuers(Issuers::new([issuer]))
        .with_policies(everything())
}

/// Policies that permit all of it.
pub(crate) fn everything() -> Arc<Policies> {
    permitting("permit(principal, action, resource);")
}

fn permitting(text: &str) -> Arc<Policies> {
    let source = PolicySource { path: "all.cedar", name: "all", text };
    let (policies, found) = Policies::load(&[source], &AccessConfig::default());
    assert!(found.is_empty(), "{found:?}");
    Arc::new(policies)
}

/// One whose keys are nowhere: nobody gets a token from it, and those of who has one can't be doubted.
fn issuer() -> Arc<TokenConfig> {
    let text = "tokens: { test: { issuer: i, audience: a, keys: { url: https://issuer.example } } }";
    PolicyConfig::parse("policy.yaml", text).unwrap().tokens.remove(0)
}

/// The principal as every epoch of these tests lets it in.
pub(crate) fn vouched(principal: Principal) -> Arc<Principal> {
    let proof = Proof::Token { issuer: "test".into(), version: issuer().version(), key: "k".into(), id: None };
    Arc::new(Principal { proof, ..principal })
}

/// Keeps what it is given; a message on the route `store-retry` it can't take for now, nor what follows in its lane.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<(Group, u64)>>>);

impl Kept {
    /// What was stored: the group and the epoch that decided.
    pub(crate) fn take(&self) -> Vec<(Group, u64)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn store(&self) -> Store {
        let kept = self.clone();
        from_fn(move |batch| std::future::ready(Ok(kept.keep(batch))).boxed())
    }

    /// One that answers when the semaphore gives a permit.
    pub(crate) fn store_when(&self, open: Arc<tokio::sync::Semaphore>) -> Store {
        let kept = self.clone();
        from_fn(move |batch| {
            let (kept, open) = (kept.clone(), open.clone());
            async move {
                open.acquire().await.unwrap().forget();
                Ok(kept.keep(batch))
            }
            .boxed()
        })
    }

    fn keep(&self, batch: Batch<Admitted>) -> Verdicts<Admission> {
        let mut stopped = Vec::new();
        let keep = |admitted: Admitted| {
            let (mapped, epoch) = admitted.into_parts();
            if stopped.contains(&mapped.lane) {
                return Verdict::no(Rejection::new(RejectKind::Behind, "store", "told to"));
            }
            if mapped.route.name() == "store-retry" {
                stopped.push(mapped.lane);
                return Verdict::no(Rejection::new(RejectKind::Unavailable, "store", "told to"));
            }
            let id = mapped.group.as_slice()[0].id;
            self.0.lock().unwrap().push((mapped.group, epoch));
            Verdict::yes(Admission::Stored(Receipt {
                id,
                position: None,
                duplicate: false,
                settled: Settled::Now,
                reply: None,
            }))
        };
        batch.into_vec().into_iter().map(keep).collect()
    }
}

type Answer = BoxFuture<'static, Result<Verdicts<Admission>, Rejection>>;

pub(crate) fn from_fn(answer: impl FnMut(Batch<Admitted>) -> Answer + Clone + Send + Sync + 'static) -> Store {
    BoxCloneSyncService::new(tower::service_fn(answer))
}

/// Counts by (route, word).
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<(String, &'static str), u64>>);

impl Counts {
    pub(crate) fn get(&self) -> BTreeMap<(String, &'static str), u64> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, route: Option<&Route>, word: &'static str) {
        let route = route.map(|route| route.name().to_owned()).unwrap_or_default();
        *self.0.lock().unwrap().entry((route, word)).or_default() += 1;
    }
}

impl Ledger for Counts {
    fn received(&self, _: &str, _: u64) {
        unreachable!("the bridge counts what it received")
    }

    fn refused(&self, bridge: &str, route: Option<&Route>, rejection: &Rejection) {
        assert_eq!(bridge, "web");
        self.count(route, rejection.kind.as_str());
    }

    fn passed(&self, _: &str, _: &Route) {
        unreachable!("whoever hands it on counts it")
    }

    fn filtered(&self, bridge: &str, route: &Route) {
        assert_eq!(bridge, "web");
        self.count(Some(route), "filtered");
    }

    fn returned(&self, _: &str, _: RejectKind) {
        unreachable!("the bridge counts what it gave back")
    }
}

/// A stack and what can be seen of it.
pub(crate) struct World {
    pub(crate) ingress: Ingress,
    pub(crate) current: Current,
    pub(crate) counts: Arc<Counts>,
    pub(crate) kept: Kept,
    pub(crate) letters: Letters,
    pub(crate) open: Arc<tokio::sync::Semaphore>,
}

/// The dead letters, and what they were refused for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Letters(pub(crate) Arc<Mutex<Vec<(DeadMessage, RejectKind)>>>);

impl DeadLetters for Letters {
    fn bury(
        &self,
        message: DeadMessage,
        _: &Route,
        rejection: &Rejection,
    ) -> BoxFuture<'static, Result<bool, Rejection>> {
        self.0.lock().unwrap().push((message, rejection.kind));
        Box::pin(std::future::ready(Ok(true)))
    }
}

impl World {
    /// Over a store that answers at once.
    pub(crate) fn new() -> Self {
        let kept = Kept::default();
        Self::over(kept.store(), kept, Flow::Push, 8)
    }

    /// Over a store that answers a batch for each permit of `open`.
    pub(crate) fn closed(flow: Flow, max_in_flight: u32) -> Self {
        let (kept, open) = (Kept::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        Self { open: open.clone(), ..Self::over(kept.store_when(open), kept, flow, max_in_flight) }
    }

    /// Where answers are handed in at `desk`.
    pub(crate) fn with_desk(desk: Arc<dyn ReplyDesk>) -> Self {
        let kept = Kept::default();
        let world = Self::at(Some(desk), kept.store(), kept, Flow::Push, 4);
        let policies =
            permitting("permit(principal, action == Action::\"reply\", resource in Topic::\"$mesh/reply\");");
        world.current.store(Arc::new(epoch(1, Told).with_policies(policies)));
        world
    }

    pub(crate) fn over(store: Store, kept: Kept, flow: Flow, max_in_flight: u32) -> Self {
        Self::at(None, store, kept, flow, max_in_flight)
    }

    fn at(desk: Option<Arc<dyn ReplyDesk>>, store: Store, kept: Kept, flow: Flow, max_in_flight: u32) -> Self {
        let (max_in_flight, letters) = (NonZeroU32::new(max_in_flight).unwrap(), Letters::default());
        let config = IngressConfig {
            dead_letters: Some(Arc::new(letters.clone())),
            trail: Arc::new(Trail::ingress("web".into(), None)),
            flow,
            max_payload_bytes: MAX_PAYLOAD,
            max_in_flight,
            meters: Arc::default(),
            desk,
        };
        let (current, counts) = (epoch(1, Told).into_current(), Arc::new(Counts::default()));
        let ingress = ingress(store, &config, current.clone(), counts.clone());
        Self { ingress, current, counts, kept, letters, open: Arc::new(tokio::sync::Semaphore::new(0)) }
    }

    /// Offers a batch that no one has to wait for.
    pub(crate) fn offer(&self, batch: Batch<Inbound>) -> Verdicts<Admission> {
        let mut ingress = self.ingress.clone();
        now(&mut ingress).call(batch).now_or_never().expect("answers at once").unwrap()
    }
}

/// The service, which is ready.
pub(crate) fn now(ingress: &mut Ingress) -> &mut Ingress {
    is_ready(ingress).then_some(()).expect("is ready at once");
    ingress
}

pub(crate) fn is_ready(ingress: &mut Ingress) -> bool {
    ingress.ready().now_or_never().is_some()
}

/// A verdict in one word.
pub(crate) fn word<T: Into<Said>>(verdict: Verdict<T>) -> &'static str {
    match verdict.answer {
        Ok(answer) => answer.into().0,
        Err(rejection) => rejection.kind.as_str(),
    }
}

/// A yes in one word.
pub(crate) struct Said(&'static str);

impl From<Admission> for Said {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Stored(_) => Self("stored"),
            Admission::Filtered => Self("filtered"),
        }
    }
}

impl From<envelope::Delivery> for Said {
    fn from(_: envelope::Delivery) -> Self {
        Self("delivered")
    }
}

pub(crate) fn words<T: Into<Said>>(verdicts: Verdicts<T>) -> Vec<&'static str> {
    verdicts.into_iter().map(word).collect()
}
