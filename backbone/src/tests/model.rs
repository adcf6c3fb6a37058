//! Random publishes, settlements, repeats, last values, keys, dead letters replayed and dropped, takeovers, crashes and
//! closes, with retention and without, against a model of what must come out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// Ids from a small space, so that there are duplicates.
    Publish(Vec<u8>),
    /// Sets the last value of a topic, or deletes it.
    Retain(u8, bool),
    /// Writes a key, or deletes it.
    Write(u8, Option<u8>),
    /// Pulls a batch and settles each delivery by a coin: 0 leaves it, 1 asks for it again, 4 gives it up, else it is
    /// delivered.
    Pull(Vec<u8>),
    /// Asks for one of the dead letters to be delivered again, or drops it.
    Letter(u8, bool),
    TakeOver,
    Crash,
    Close,
    /// The next commit fails: 1 lost, 2 got to disk.
    Fault(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 1..20).prop_map(Step::Publish),
        6 => prop::collection::vec(0_u8..5, 1..20).prop_map(Step::Pull),
        3 => (0_u8..4, any::<bool>()).prop_map(|(topic, deletes)| Step::Retain(topic, deletes)),
        3 => (0_u8..4, any::<Option<u8>>()).prop_map(|(key, value)| Step::Write(key, value)),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, drops)| Step::Letter(which, drops)),
        1 => Just(Step::TakeOver),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
        1 => (1_u8..3).prop_map(Step::Fault),
    ];
    prop::collection::vec(step, 1..30)
}

#[derive(Default)]
struct Model {
    /// Acked ids, by their position.
    acked: BTreeMap<u128, Position>,
    handed: BTreeSet<u128>,
    delivered: BTreeSet<u128>,
    /// Settled in a group that failed: it may have got to disk all the same.
    unsure: BTreeSet<u128>,
    /// Given up, and told so.
    dead: BTreeSet<u128>,
    last: BTreeMap<u8, u128>,
    /// What may be there: more than one thing after a write that failed.
    keys: BTreeMap<u8, BTreeSet<Option<u8>>>,
}

impl Model {
    fn see(&mut self, delivery: &Delivery) {
        let id = delivery.envelope.id.uuid().as_u128();
        assert!(!self.delivered.contains(&id), "{id} was settled and comes again");
        assert!(self.handed.insert(id) || delivery.redelivered, "{id} is a repeat without its mark");
    }
}

/// A store with its switch for faults.
struct Bench {
    folder: tempfile::TempDir,
    fault: Arc<std::sync::atomic::AtomicU8>,
    /// The most records that stay.
    most: Option<u64>,
}

impl Bench {
    fn open(&self) -> Embedded {
        let retention = crate::Retention { age: None, bytes: None, records: self.most };
        open_with(EmbeddedConfig { retention, ..config(self.folder.path()) }, || {
            let fault = self.fault.clone();
            let commit = move || match fault.swap(0, std::sync::atomic::Ordering::SeqCst) {
                1 => crate::writer::Fault::Lost,
                2 => crate::writer::Fault::Unsure,
                _ => crate::writer::Fault::None,
            };
            Hooks { commit: Box::new(commit), ..Hooks::default() }
        })
    }
}

/// Offers until the store takes it.
async fn publish(store: &Embedded, ids: &[u8], model: &mut Model) {
    store.ledger().received("web", ids.len() as u64);
    let messages: Vec<_> = ids.iter().map(|id| message(u128::from(*id), "a")).collect();
    let verdicts = loop {
        match store.publish(Batch::new(messages.clone()).unwrap()).await {
            Ok(verdicts) => break verdicts,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    for (id, verdict) in ids.iter().zip(verdicts) {
        let Ok(Admission::Stored(receipt)) = verdict.answer else { panic!("{id} was not stored") };
        let position = receipt.position.unwrap();
        let known = model.acked.insert(u128::from(*id), position.clone());
        assert!(known.is_none_or(|known| known == position), "{id} has two positions");
    }
}

/// Pulls what is there; `None` if the subscription ended.
async fn pull(consumer: &mut Box<dyn Deliveries>, coins: &[u8], model: &mut Model) -> Option<()> {
    let Ok(batch) = tokio::time::timeout(Duration::from_millis(5), consumer.next()).await else { return Some(()) };
    let deliveries = batch.ok()?.into_vec();
    let mut settled = Vec::new();
    for (delivery, coin) in deliveries.iter().zip(coins.iter().cycle()) {
        model.see(delivery);
        match coin {
            0 => {}
            1 => settled.push((delivery.position.clone(), Settlement::Again { after: Duration::ZERO })),
            4 => settled.push((delivery.position.clone(), GIVEN_UP)),
            _ => settled.push((delivery.position.clone(), Settlement::Delivered)),
        }
    }
    let settled_as = |how: Settlement| {
        let is_so = |delivery: &&Delivery| settled.contains(&(delivery.position.clone(), how.clone()));
        deliveries.iter().filter(is_so).map(|delivery| delivery.envelope.id.uuid().as_u128()).collect::<Vec<_>>()
    };
    let (mut delivered, dead) = (settled_as(Settlement::Delivered), settled_as(GIVEN_UP));
    delivered.extend(&dead);
    match consumer.settle(settled).await {
        Ok(()) => {
            model.delivered.extend(delivered);
            model.dead.extend(dead);
        }
        Err(_) => {
            model.unsure.extend(delivered);
            return None;
        }
    }
    Some(())
}

const GIVEN_UP: Settlement = Settlement::DeadLettered(envelope::RejectKind::Malformed);

/// Sets a last value until the store has taken it. Its id is its own.
async fn retain(store: &Embedded, topic: u8, deletes: bool, model: &mut Model) {
    let id = 1_000 + model.acked.len() as u128;
    let mut one = envelope(id, &format!("r/{topic}"));
    if deletes {
        one.data = Data::Opaque(Bytes::new());
    }
    let one = super::last::retained(one);
    store.ledger().received("web", 1);
    let verdict = loop {
        match store.publish(Batch::one(one.clone())).await {
            Ok(mut verdicts) => break verdicts.remove(0),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let Ok(Admission::Stored(receipt)) = verdict.answer else { panic!("{id} was not stored") };
    model.acked.insert(id, receipt.position.unwrap());
    match deletes {
        true => model.last.remove(&topic),
        false => model.last.insert(topic, id),
    };
}

async fn write(store: &Embedded, key: u8, value: Option<u8>, model: &mut Model) {
    use envelope::KeyWrite;
    let name = key.to_string();
    let write = match value {
        Some(value) => KeyWrite::put(name, vec![value]),
        None => KeyWrite::delete(name),
    };
    let known = model.keys.entry(key).or_insert_with(|| [None].into());
    if store.keys("b").write(vec![write]).await.is_ok() {
        known.clear();
    }
    known.insert(value);
}

/// Deals with one of the dead letters, if there is one.
async fn take_letter(store: &Embedded, which: u8, drops: bool, model: &mut Model) {
    let Ok(letters) = store.dead_letters(0, 1_000).await else { return };
    let Some(letter) = letters.get(usize::from(which) % letters.len().max(1)) else { return };
    let id = id_of(letter);
    let done = match drops {
        true => store.drop_dead_letters(vec![letter.id]).await.map(|dropped| dropped == 1),
        false => store.replay_dead_letter(letter.id).await,
    };
    match done {
        Ok(done) => assert!(done, "{id} had a letter"),
        Err(refused) if refused.kind == envelope::RejectKind::Unavailable => drop(model.unsure.insert(id)),
        // Retention took the record, or the subscription settled it in a group that was told to have failed.
        Err(_) => return,
    }
    model.dead.remove(&id);
    if !drops {
        model.delivered.remove(&id);
    }
}

fn id_of(letter: &crate::DeadLetter) -> u128 {
    match &letter.content {
        crate::DeadContent::Envelope { envelope, .. } => envelope.as_ref().unwrap().id.uuid().as_u128(),
        other => panic!("{other:?}"),
    }
}

/// Last values, keys and dead letters are what they have to be.
async fn assert_kept(store: &Embedded, model: &Model) {
    let page = store.last(Filter::new("r/+").unwrap(), None, 100).await.unwrap();
    assert_eq!(ids(&page.values), model.last.values().copied().collect::<Vec<_>>());
    for (key, possible) in &model.keys {
        let entry = store.keys("b").get(&key.to_string()).await.unwrap();
        assert!(possible.contains(&entry.map(|entry| entry.value[0])), "{key}: not one of {possible:?}");
    }
    let letters = store.dead_letters(0, 1_000).await.unwrap();
    let letters: BTreeSet<_> = letters.iter().map(id_of).collect();
    // What retention took while it was in hand had its outcome before it was given up.
    let lapsed = store.report().subscriptions["s"].lapsed;
    assert!(model.dead.difference(&letters).count() as u64 <= lapsed, "{:?} of {letters:?}", model.dead);
    assert!(letters.iter().all(|id| model.dead.contains(id) || model.unsure.contains(id)), "{letters:?}");
}

async fn run(steps: Vec<Step>, most: Option<u64>) {
    let bench = Bench { folder: tempfile::tempdir().unwrap(), fault: Arc::default(), most };
    let mut model = Model::default();
    let mut store = bench.open();
    let mut consumer = consumer(&store, "s", 8).await;
    for step in steps {
        match step {
            Step::Publish(ids) => publish(&store, &ids, &mut model).await,
            Step::Retain(topic, deletes) => retain(&store, topic, deletes, &mut model).await,
            Step::Write(key, value) => write(&store, key, value, &mut model).await,
            Step::Pull(coins) => {
                if pull(&mut consumer, &coins, &mut model).await.is_none() {
                    consumer = reconnect(&store).await;
                }
            }
            Step::Letter(which, drops) => take_letter(&store, which, drops, &mut model).await,
            Step::TakeOver => consumer = reconnect(&store).await,
            Step::Fault(kind) => bench.fault.store(kind, std::sync::atomic::Ordering::SeqCst),
            Step::Crash | Step::Close => {
                if matches!(step, Step::Close) {
                    // A fault may meet the last group: then it ended as in a crash.
                    store.close().await.ok();
                }
                drop(consumer);
                drop(store);
                store = bench.open();
                consumer = reconnect(&store).await;
            }
        }
        assert_eq!(store.report().check(), [""; 0]);
    }
    bench.fault.store(0, std::sync::atomic::Ordering::SeqCst);
    drain(&store, &mut model).await;
    let counts = store.report().subscriptions["s"].clone();
    assert_eq!((counts.pending, counts.matched), (0, model.acked.len() as u64));
    let came = |id: &&u128| model.delivered.contains(id) || model.unsure.contains(id);
    let missing = model.acked.keys().filter(|id| !came(id)).count() as u64;
    assert!(
        missing <= counts.lapsed && (most.is_some() || counts.lapsed == 0),
        "{missing} of {} lapsed",
        counts.lapsed
    );
    assert_kept(&store, &model).await;
    assert!(store.verify().await.unwrap().wrong.is_empty());
    store.close().await.unwrap();
    drop(store);
    assert_kept(&bench.open(), &model).await;
}

/// A new consumer; the store may be opening anew.
async fn reconnect(store: &Embedded) -> Box<dyn Deliveries> {
    loop {
        if let Ok(consumer) = store.subscribe(subscribe("#", Some("s"), Start::Earliest, 8)).await {
            return consumer;
        }
        tokio::task::yield_now().await;
    }
}

/// Every acked message comes out.
async fn drain(store: &Embedded, model: &mut Model) {
    let started = std::time::Instant::now();
    let mut consumer = reconnect(store).await;
    let lapsed = || store.report().subscriptions["s"].lapsed;
    while store.report().subscriptions["s"].pending > 0
        || model.handed.len() + usize::try_from(lapsed()).unwrap() < model.acked.len()
    {
        assert!(started.elapsed() < PATIENCE, "{} of {} came out", model.delivered.len(), model.acked.len());
        if pull(&mut consumer, &[2], model).await.is_none() {
            consumer = reconnect(store).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn nothing_acked_is_lost_and_every_repeat_is_marked(steps in steps(), most in prop::option::of(1_u64..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps, most));
    }
}
