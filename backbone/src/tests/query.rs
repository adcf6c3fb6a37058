//! Stored envelopes that are looked for.

use envelope::{Conversation, RejectKind};

use super::*;
use crate::{
    Query, Retention,
    index::{self, Column, Known},
    store::Store,
};

/// A message whose attributes follow from its number.
fn numbered(id: u128) -> Admitted {
    let mut envelope = envelope(id, &format!("line/{}/state", id % 7));
    if id.is_multiple_of(3) {
        envelope.conversation = Some(Box::new(Conversation {
            protocol: None,
            id: Some(format!("talk-{}", id % 100).into()),
            inreplyto: None,
            replyto: None,
            replyby: None,
            recipients: vec!["all".into(), format!("agent-{}", id % 5).into()],
        }));
    }
    let (mut mapped, epoch) = admitted(Group::One(envelope), AckPoint::Durable).into_parts();
    mapped.principal = Arc::new(Principal::new(format!("sender-{}", id % 11), "plant-a"));
    sealed(mapped, epoch)
}

/// In batches of a size that no block has.
async fn fill(store: &Embedded, ids: std::ops::Range<u128>) {
    for from in ids.clone().step_by(700) {
        let batch = (from..(from + 700).min(ids.end)).map(numbered).collect();
        offer(store, batch).await.unwrap();
    }
}

/// All pages of at most `most`; the ids, and how many pages there were.
async fn asked(store: &Embedded, query: &Query, most: usize) -> (Vec<u128>, usize) {
    let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = store.query(Query { after, most, ..query.clone() }).await.unwrap();
        assert!(page.matches.len() <= most, "{} of {most}", page.matches.len());
        found.extend(page.matches.iter().map(|one| one.delivery.envelope.id.uuid().as_u128()));
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (found, pages);
        }
    }
}

/// Each kind of question, and which numbers answer it.
type Question = (Query, Box<dyn Fn(u128) -> bool>);

fn questions() -> Vec<Question> {
    let talk = |id: u128| id.is_multiple_of(3);
    let query = Query::default;
    vec![
        (query(), Box::new(|_| true)),
        (Query { id: Some(EnvelopeId::new(Uuid::from_u128(1_500))), ..query() }, Box::new(|id| id == 1_500)),
        (Query { id: Some(EnvelopeId::new(Uuid::from_u128(1_500)).item(0)), ..query() }, Box::new(|_| false)),
        (Query { conversation: Some("talk-33".into()), ..query() }, Box::new(move |id| talk(id) && id % 100 == 33)),
        (Query { conversation: Some("talk".into()), ..query() }, Box::new(|_| false)),
        (Query { topic: Some(Filter::new("line/3/state").unwrap()), ..query() }, Box::new(|id| id % 7 == 3)),
        (Query { topic: Some(Filter::new("line/+/state").unwrap()), ..query() }, Box::new(|_| true)),
        (Query { sender: Some("sender-4".into()), ..query() }, Box::new(|id| id % 11 == 4)),
        (Query { recipient: Some("agent-2".into()), ..query() }, Box::new(move |id| talk(id) && id % 5 == 2)),
        (
            Query {
                conversation: Some("talk-33".into()),
                sender: Some("sender-0".into()),
                topic: Some(Filter::new("line/#").unwrap()),
                recipient: Some("all".into()),
                ..query()
            },
            Box::new(move |id| talk(id) && id % 100 == 33 && id % 11 == 0),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_has_its_answers_in_order_whatever_the_pages_and_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    // Blocks that are full, and one that is open.
    fill(&store, 0..3_000).await;
    for restarted in [false, true] {
        let store = if restarted { open(folder.path()) } else { store.clone() };
        if restarted {
            fill(&store, 3_000..3_500).await;
        }
        let end = if restarted { 3_500 } else { 3_000 };
        for (query, answers) in questions() {
            let expected: Vec<_> = (0..end).filter(|id| answers(*id)).collect();
            for most in [1_000, 997, 41] {
                assert_eq!(asked(&store, &query, most).await.0, expected, "{query:?}");
            }
        }
        if !restarted {
            store.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_says_how_its_envelope_came_here() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 0..10).await;
    let page = store.query(Query { sender: Some("sender-7".into()), most: 5, ..Query::default() }).await.unwrap();
    let [found] = &page.matches[..] else { panic!("{page:?}") };
    assert_eq!((&*found.sender, &*found.bridge, &*found.mapping), ("sender-7", "web", "r"));
    assert!(found.admitted_at <= Timestamp::now());
    assert_eq!(found.delivery.envelope.data.as_slice(), b"7");
    let receipt = offer(&store, vec![numbered(7)]).await.unwrap().remove(0).unwrap();
    assert_eq!(receipt.position, Some(found.delivery.position.clone()), "its receipt has the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_bound_a_question() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut marks = Vec::new();
    for from in [0, 1_500, 3_000] {
        fill(&store, from..from + 1_500).await;
        marks.push(super::times::now().await);
    }
    let sender = || Some("sender-4".into());
    let between = |from: Option<usize>, to: Option<usize>| {
        let mark = |at: Option<usize>| at.and_then(|at| marks.get(at).copied());
        Query { sender: sender(), from: mark(from), to: mark(to), ..Query::default() }
    };
    let expected = |range: std::ops::Range<u128>| range.filter(|id| id % 11 == 4).collect::<Vec<_>>();
    assert_eq!(asked(&store, &between(Some(0), None), 100).await.0, expected(1_500..4_500));
    assert_eq!(asked(&store, &between(Some(0), Some(1)), 100).await.0, expected(1_500..3_000));
    assert_eq!(asked(&store, &between(None, Some(1)), 100).await.0, expected(0..3_000));
    assert_eq!(asked(&store, &between(Some(2), None), 100).await.0, [0; 0]);
    assert_eq!(asked(&store, &between(Some(1), Some(0)), 100).await.0, [0; 0], "it ends before it begins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_so_much_and_no_more_and_its_position_is_of_this_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 0..20_000).await;
    let nobody = Query { recipient: Some("nobody".into()), ..Query::default() };
    assert_eq!(asked(&store, &nobody, 10).await, (Vec::new(), 3), "8,192 records a page");
    let unknown = Query { sender: Some("nobody".into()), ..Query::default() };
    assert_eq!(asked(&store, &unknown, 10).await, (Vec::new(), 1), "its rows are few");
    let page = store.query(Query { most: usize::MAX, ..Query::default() }).await.unwrap();
    assert_eq!(page.matches.len(), 1_000);
    let late = Query { after: Some(store.shared().position(u64::MAX)), ..Query::default() };
    let page = store.query(late).await.unwrap();
    assert!(page.matches.is_empty() && page.next.is_none());
    let wrong = Query { after: Some(Position(Bytes::from_static(b"x"))), ..Query::default() };
    assert_eq!(store.query(wrong).await.unwrap_err().kind, RejectKind::Conflict);
    store.close().await.unwrap();
    assert_eq!(store.query(Query::default()).await.unwrap_err().kind, RejectKind::Unavailable);
}

/// Blocks that have rows of ids, from the first.
fn blocks(store: &Store, last: u64) -> Vec<std::ops::Range<u64>> {
    let (mut found, mut at) = (Vec::new(), 1);
    while at <= last {
        match index::known(store, Column::Id, at).unwrap() {
            Known::Row(row) => {
                found.push(row.first..row.end());
                at = row.end();
            }
            Known::Unknown(next) => at = next,
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_with_the_records_that_they_speak_of() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { age: None, bytes: None, records: Some(2_000) };
    let keeping = || open_with(EmbeddedConfig { retention, ..config(folder.path()) }, Hooks::default);
    let store = keeping();
    fill(&store, 0..9_100).await;
    let inner = store.shared().store.borrow().clone().unwrap();
    let trimmed = async {
        while store.report().store.first_sequence != 7_101 || blocks(&inner, 9_100).first().unwrap().end < 6_000 {
            put(&store, 20_000 + u128::from(store.report().store.last_sequence), "more").await;
            if store.report().store.first_sequence > 7_101 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, trimmed).await.unwrap();
    let first = store.report().store.first_sequence;
    put(&store, 1 << 64, "more").await;
    let blocks = blocks(&inner, 9_100);
    assert!(blocks.len() <= 4 && blocks.first().unwrap().start > 5_000, "{blocks:?}");
    let (found, _) = asked(&store, &Query { sender: Some("sender-4".into()), ..Query::default() }, 50).await;
    assert!(found.iter().all(|id| *id % 11 == 4 && *id + 1 >= u128::from(first)), "{found:?}");
    assert!(found.len() >= 150, "{}", found.len());
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_an_older_gateway_gets_its_rows_while_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 0..20_000).await;
    store.close().await.unwrap();
    drop(store);
    let inner = Store::open(folder.path()).unwrap();
    let keys: Vec<_> = inner.index.iter().map(|row| row.key().unwrap()).collect();
    keys.into_iter().for_each(|key| inner.index.remove(key).unwrap());
    inner.database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(inner);
    let store = open(folder.path());
    let query = Query { conversation: Some("talk-33".into()), ..Query::default() };
    let expected: Vec<u128> = (0..20_000).filter(|id| id % 3 == 0 && id % 100 == 33).collect();
    assert_eq!(asked(&store, &query, 1_000).await.0, expected, "rows or not");
    let inner = store.shared().store.borrow().clone().unwrap();
    let whole = async {
        while blocks(&inner, 20_000).first().is_none_or(|block| block.start != 1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap();
    let blocks = blocks(&inner, 20_000);
    assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start), "{blocks:?}");
    assert_eq!(blocks.last().unwrap().end, 20_001);
    assert_eq!(asked(&store, &query, 1_000).await, (expected, 1), "and now at once");
    assert_balanced(&store);
}

#[test]
fn a_row_that_is_cut_is_found_by_a_check_and_misleads_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(folder.path());
        fill(&store, 0..3_000).await;
        store.close().await.unwrap();
    });
    let inner = Store::open(folder.path()).unwrap();
    for row in inner.index.iter() {
        let (key, value) = row.into_inner().unwrap();
        inner.index.insert(key, &value[..value.len() / 2]).unwrap();
    }
    inner.database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(inner);
    let checked = crate::care::Folder::open(folder.path()).unwrap().check().unwrap();
    assert!(checked.wrong.iter().any(|wrong| wrong.contains("index")), "{:?}", checked.wrong);
    runtime.block_on(async {
        let store = open(folder.path());
        for (query, answers) in questions() {
            let expected: Vec<_> = (0..3_000).filter(|id| answers(*id)).collect();
            assert_eq!(asked(&store, &query, 1_000).await.0, expected, "{query:?}");
        }
        store.close().await.unwrap();
    });
}

/// Keys that the store never writes: a sequence over the greatest, and one with a byte too many.
#[tokio::test(flavor = "multi_thread")]
async fn rows_at_keys_that_are_no_sequences_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    // the first block has rows, of the second none are written yet
    for from in (0..1_200).step_by(100) {
        offer(&store, (from..from + 100).map(|id| message(id, "a")).collect()).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let rows = loop {
        if let Ok(rows) = crate::store::Store::open(folder.path()) {
            break rows;
        }
    };
    let record = rows.log.get(1_150_u64.to_be_bytes()).unwrap().unwrap();
    rows.log.insert([&1_150_u64.to_be_bytes()[..], &[1]].concat(), record).unwrap();
    for column in 0..4 {
        rows.index.insert([&[column][..], &[0xee; 8]].concat(), [0]).unwrap();
    }
    rows.database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(rows);
    let store = open(folder.path());
    let topic = Some(Filter::new("a").unwrap());
    let query = Query { topic, most: 1_000, ..Query::default() };
    let page = store.query(query.clone()).await.unwrap();
    assert_eq!(page.matches.len(), 1_000);
    let rest = store.query(Query { after: page.next, ..query }).await.unwrap();
    assert_eq!((rest.matches.len(), rest.next), (200, None));
    let mut consumer = store.subscribe(subscribe("a", None, Start::Earliest, 2_000)).await.unwrap();
    assert_eq!(ids(&take(&mut consumer, 1_200).await), (0..1_200).collect::<Vec<_>>());
    put(&store, 2_000, "a").await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [2_000]);
}
