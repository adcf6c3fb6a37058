//! Stores as older gateways wrote them. What is here in bytes was written once, and has to be read for ever.

use super::*;
use crate::{
    ages::Ages,
    index,
    keys::{self, Keys},
    last::{Last, LastIndex},
    ledger::{Books, Deltas},
    record,
    store::{Remembered, Store, number},
    subscription::Cursor,
    times,
};

/// Takes away what only newer gateways write, and says that the format is 1.
fn age(store: &Store) {
    for keyspace in [&store.times, &store.index, &store.ages] {
        let keys: Vec<_> = keyspace.iter().map(|row| row.key().unwrap()).collect();
        keys.into_iter().for_each(|key| keyspace.remove(key).unwrap());
    }
    for word in ["name", "bytes", "clock"] {
        store.meta.remove(word).unwrap();
    }
    store.meta.insert("format", number(1)).unwrap();
    store.database.persist(fjall::PersistMode::SyncAll).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_format_1_is_raised_and_everything_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut reader = consumer(&store, "s", 10).await;
    offer(&store, (1..=5).map(|id| message(id, "a")).collect()).await.unwrap();
    let first = take(&mut reader, 5).await;
    settle(&mut reader, &first[..3], Settlement::Delivered).await;
    drop(reader);
    store.close().await.unwrap();
    drop(store);
    age(&Store::open(folder.path()).unwrap());

    let store = open(folder.path());
    let mut reader = consumer(&store, "s", 10).await;
    assert_eq!(ids(&take(&mut reader, 2).await), [4, 5]);
    assert!(put(&store, 2, "a").await.duplicate, "ids are remembered");
    assert!(!put(&store, 6, "a").await.duplicate);
    let found = store.query(crate::Query { most: 9, ..crate::Query::default() }).await.unwrap();
    assert_eq!(found.matches.len(), 6);
    assert!(store.verify().await.unwrap().wrong.is_empty());
    assert_balanced(&store);
    store.close().await.unwrap();
    drop(store);
    let raised = Store::open(folder.path()).unwrap();
    assert_eq!(raised.word("format").unwrap(), u64::from(crate::store::FORMAT));
    assert!(raised.name > 0, "its positions have a name from now on");
}

#[test]
fn a_store_of_a_newer_gateway_is_refused_by_name_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.meta.insert("format", number(99)).unwrap();
    store.database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(store);
    for _ in 0..2 {
        let refused = Embedded::open(config(folder.path())).err().unwrap();
        assert!(matches!(refused, OpenError::NewerFormat { found: 99, .. }), "{refused}");
    }
}

#[test]
fn a_cursor_of_each_age_is_read() {
    let filters = || vec![Filter::new("a/#").unwrap(), Filter::new("b").unwrap()];
    // filters, no backlog, top 300, mark 301, gaps 7 and 299, matched 9, delivered 5, expired 1, refused, dead-lettered
    const FIRST: &[u8] = b"\x02\x03a/#\x01b\x00\xac\x02\xad\x02\x02\x07\xa4\x02\x09\x05\x01\x00\x00";
    // lapsed 2, idle since 8 us
    const LAPSED: &[u8] = b"\x02\x01\x08";
    // since 3; the clock 77; left out 4; the owner; over 5, of which 3 are to come
    const REST: [&[u8]; 5] = [b"\x03", b"\x01\x4d", b"\x04", b"\x01\x03ada", b"\x05\x03"];
    let mut bytes = FIRST.to_vec();
    let read = |bytes: &[u8]| Cursor::decode(bytes).unwrap();
    let cursor = read(&bytes);
    assert_eq!((cursor.filters, cursor.top, cursor.mark, cursor.since), (filters(), 300, 301, 300));
    assert_eq!(cursor.gaps.into_iter().collect::<Vec<_>>(), [7, 299]);
    assert_eq!((cursor.counts.matched, cursor.counts.delivered, cursor.counts.expired), (9, 5, 1));
    bytes.extend_from_slice(LAPSED);
    assert_eq!(read(&bytes).counts.lapsed, 2);
    bytes.extend_from_slice(REST[0]);
    assert_eq!((read(&bytes).since, read(&bytes).idle), (3, None));
    bytes.extend_from_slice(REST[1]);
    assert_eq!(read(&bytes).idle.map(|idle| idle.clock), Some(77));
    bytes.extend_from_slice(REST[2]);
    assert_eq!((read(&bytes).counts.left_out, read(&bytes).owner), (4, None));
    bytes.extend_from_slice(REST[3]);
    assert_eq!((read(&bytes).owner.as_deref(), read(&bytes).skip), (Some("ada"), 0));
    bytes.extend_from_slice(REST[4]);
    let newest = read(&bytes);
    assert_eq!((newest.counts.over, newest.skip), (5, 3));
    assert_eq!(newest.encode(), bytes, "and this is how it is written");
}

#[test]
fn a_row_of_remembered_ids_is_read() {
    let id = |n: u128| EnvelopeId::new(Uuid::from_u128(n));
    let row = Remembered { clock: 77, ids: vec![(300, id(1)), (302, id(2))] };
    let mut bytes = b"\x4d\x02".to_vec();
    for (step, own) in [(0, id(1)), (2, id(2))] {
        bytes.push(step);
        record::put_id(&mut bytes, own);
    }
    assert_eq!(Remembered::decode(300, &bytes), Ok(row.clone()));
    assert_eq!(row.encode(), bytes);
}

#[test]
fn the_rows_of_the_ledger_are_read() {
    const BRIDGE: (&[u8], &[u8]) = (b"b\x03web", b"\xbb\x02\x01\x01\x09malformed\x02\x01\x0aoverloaded\x02");
    // accepted 300, duplicate 1, claimed 200, unclaimed 100, filtered 2, denied 3
    const FIRST: &[u8] = b"\xac\x02\x01\xc8\x01\x64\x02\x01\x06denied\x03";
    const ROUTE: &[u8] = b"r\x03web\x01m";
    // passed 4
    let newest = [FIRST, b"\x04"].concat();
    for (row, passed) in [(FIRST, 0), (&newest[..], 4)] {
        let books = Books::default();
        books.load(BRIDGE.0, BRIDGE.1).unwrap();
        books.load(ROUTE, row).unwrap();
        let (name, web) = books.counts().next().unwrap();
        assert_eq!((&*name, web.received, web.interrupted, web.returned["overloaded"]), ("web", 315, 1, 2));
        assert_eq!((web.rejected["malformed"], web.rejected["denied"]), (2, 3));
        let route = &web.routes["m"];
        let counts = [route.accepted, route.duplicate, route.claimed, route.unclaimed, route.filtered, route.passed];
        assert_eq!(counts, [300, 1, 200, 100, 2, passed]);
        let rows = books.rows(&Deltas::default());
        assert!(rows.contains(&(BRIDGE.0.to_vec(), BRIDGE.1.to_vec())), "{rows:?}");
        assert_eq!(rows.contains(&(ROUTE.to_vec(), newest.clone())), passed == 4, "{rows:?}");
    }
}

#[test]
fn the_row_of_a_last_value_is_read() {
    // sequence 300, and without end or one at 8 us
    for row in [&b"\xac\x02\x00"[..], b"\xac\x02\x01\x08"] {
        let last = Last::decode(row).unwrap();
        assert_eq!((last.sequence, last.encode()), (300, row.to_vec()));
        let mut index = LastIndex::default();
        index.load(b"a/b", row).unwrap();
        assert_eq!(index.sequences().collect::<Vec<_>>(), [300]);
        let filters = [Filter::new("a/+").unwrap()];
        assert_eq!(index.page(&filters, None, 300, 9).found.len(), usize::from(row.len() == 3), "one has expired");
    }
}

#[test]
fn the_row_of_a_key_is_read() {
    const KEY: &[u8] = b"\x0abridge/webone";
    // revision 300, and without end or one at 8 us
    for row in [&b"\xac\x02\x00value"[..], b"\xac\x02\x01\x08value"] {
        let read = keys::Row::decode(Bytes::from_static(row)).unwrap();
        assert_eq!((read.revision, &*read.value, read.encode()), (300, &b"value"[..], row.to_vec()));
        assert_eq!(read.has_expired(Timestamp::now()), row.len() > 8);
        let (bucket, key) = keys::split(KEY).unwrap();
        assert_eq!((&*bucket, &*key, keys::row_key(&bucket, &key)), ("bridge/web", "one", KEY.to_vec()));
        let mut all = Keys::default();
        all.load(KEY, Bytes::from_static(row)).unwrap();
        assert_eq!(all.revision, 300);
    }
}

#[test]
fn a_row_of_the_index_is_read() {
    // of topics, from sequence 300 on: two records, the second of which has this fingerprint
    let key = [&[2][..], &300_u64.to_be_bytes()].concat();
    let print = index::of_text("a/b");
    assert_eq!(print, 0xe248_0c78, "a fingerprint stays what it is");
    let row = [&[2][..], &7_u32.to_le_bytes(), &print.to_le_bytes()].concat();
    let read = index::Row::decode(&key, &row).unwrap();
    assert_eq!((read.first, read.end(), read.behind(0, print).collect::<Vec<_>>()), (300, 302, vec![301]));
    let none = index::Row::decode(&key, &[2]).unwrap();
    assert_eq!((none.end(), none.behind(0, print).count()), (302, 0), "no record has the attribute");
}

#[test]
fn the_rows_that_tell_times_and_ages_and_words_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.times.insert(1_700_000_000_000_000_u64.to_be_bytes(), b"\xac\x02").unwrap();
    let before = |at| times::before(&store, Timestamp::from_micros(at), 400).unwrap();
    assert_eq!((before(1_700_000_000_000_000), before(1_700_000_000_000_001)), (0, 300));
    store.ages.insert(77_u64.to_be_bytes(), b"\xac\x02").unwrap();
    let mut ages = Ages::load(&store, Some(Duration::from_secs(10))).unwrap();
    ages.look(87, &store).unwrap();
    assert_eq!((ages.clock(), ages.over()), (77, 0));
    ages.look(88, &store).unwrap();
    assert_eq!(ages.over(), 300);
    // two gaps: 3 to 4, and 299 to 300
    store.meta.insert("gaps", b"\x02\x03\x04\xab\x02\xac\x02").unwrap();
    assert_eq!((store.gaps().unwrap(), store.reached().unwrap()), (vec![(3, 4), (299, 300)], 300));
    store.meta.insert("anchor", [&b"\xac\x02"[..], &[9; 32]].concat()).unwrap();
    assert_eq!(store.anchor().unwrap(), Some((300, [9; 32])));
    store.meta.insert("revision", b"\xac\x02").unwrap();
    assert_eq!(store.revision().unwrap(), 300);
}
