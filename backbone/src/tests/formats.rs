//! Stores as older gateways wrote them. What is here in bytes was written once, and has to be read for ever.

use super::*;
use crate::{
    record,
    store::{Remembered, Store, number},
    subscription::Cursor,
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
    // since 3; the clock 77; left out 4; the owner
    const REST: [&[u8]; 4] = [b"\x03", b"\x01\x4d", b"\x04", b"\x01\x03ada"];
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
    let newest = read(&bytes);
    assert_eq!(newest.owner.as_deref(), Some("ada"));
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
