//! Inboxes: what a subscription is counted that selects envelopes by whom they are for.

use envelope::Conversation;

use super::*;
use crate::Retention;

fn addressed(id: u128, to: &[&str]) -> Admitted {
    let recipients = to.iter().map(|name| (*name).into()).collect();
    let conversation = Conversation { recipients, ..Conversation::default() };
    let envelope = Envelope { conversation: Some(Box::new(conversation)), ..envelope(id, "market") };
    admitted(Group::One(envelope), AckPoint::Durable)
}

/// By turns to ada, to bob, and to both; the fourth goes to nobody.
async fn offer_each(store: &Embedded, from: u128, until: u128) {
    let to = |id: u128| [&["ada"][..], &["bob"], &["bob", "ada"], &[]][(id % 4) as usize];
    offer(store, (from..until).map(|id| addressed(id, to(id))).collect()).await.unwrap();
}

async fn inbox(store: &Embedded, durable: Option<&str>, start: Start) -> Box<dyn Deliveries> {
    store.subscribe(subscribe("$mesh/inbox/ada", durable, start, 100)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_gets_what_is_for_its_principal_new_and_stored_and_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    offer_each(&store, 0, 8).await;
    let mut soon = inbox(&store, None, Start::New).await;
    let mut ada = inbox(&store, Some("s"), Start::Earliest).await;
    let deliveries = take(&mut ada, 4).await;
    assert_eq!(ids(&deliveries), [0, 2, 4, 6], "what was there before");
    settle(&mut ada, &deliveries, Settlement::Delivered).await;
    offer_each(&store, 8, 12).await;
    assert_eq!(ids(&take(&mut ada, 2).await), [8, 10]);
    assert_eq!(ids(&take(&mut soon, 2).await), [8, 10]);
    let mut both = store
        .subscribe(Subscribe {
            filters: ["$mesh/inbox/ada", "$mesh/inbox/bob", "market"].map(|f| Filter::new(f).unwrap()).into(),
            ..subscribe("market", None, Start::New, 9)
        })
        .await
        .unwrap();
    offer_each(&store, 12, 15).await;
    assert_eq!(ids(&take(&mut both, 3).await), [12, 13, 14], "each once, however often it is selected");
    drop((store, soon, ada, both));

    let store = open(folder.path());
    let mut ada = inbox(&store, Some("s"), Start::New).await;
    assert_eq!(ids(&take(&mut ada, 4).await), [8, 10, 12, 14]);
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.delivered, counts.pending), (8, 4, 4));
    assert_balanced(&store);
    assert!(store.drop_subscription("s").await.unwrap());
    offer_each(&store, 16, 17).await;
    assert!(ada.next().await.is_err(), "an inbox that is over gets nothing more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_by_retention_has_lapsed_in_the_inboxes_that_it_was_for() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { records: Some(4), age: None, bytes: None };
    let store = open_with(EmbeddedConfig { retention, ..config(folder.path()) }, Hooks::default);
    drop(inbox(&store, Some("s"), Start::New).await);
    offer_each(&store, 0, 100).await;
    offer_each(&store, 100, 104).await;
    while store.report().store.first_sequence < 101 {
        tokio::task::yield_now().await;
    }
    let counts = store.report().subscriptions["s"].clone();
    assert_eq!((counts.matched, counts.lapsed, counts.pending), (52, 50, 2));
    let mut ada = inbox(&store, Some("s"), Start::New).await;
    assert_eq!(ids(&take(&mut ada, 2).await), [100, 102]);
    assert_balanced(&store);
}
