//! Whose subscriptions are whose, and how many one principal may have.

use envelope::RejectKind;

use super::*;
use crate::{Subscriber, SubscriptionQuota};

fn limited(path: &Path, each: usize, durable: usize) -> Embedded {
    let subscriptions = SubscriptionQuota { each, durable };
    open_with(EmbeddedConfig { subscriptions, ..config(path) }, Hooks::default)
}

fn principal(id: &str) -> Subscriber {
    Subscriber::Principal(id.into())
}

async fn ask(store: &Embedded, who: Subscriber, durable: Option<&str>) -> Result<Box<dyn Deliveries>, RejectKind> {
    let opened = store.subscribe_for(who, subscribe("#", durable, Start::Earliest, 10)).await;
    opened.map_err(|rejection| rejection.kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_principal_has_its_share_and_what_ends_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = limited(folder.path(), 2, 2);
    let first = ask(&store, principal("ada"), None).await.unwrap();
    let _second = ask(&store, principal("ada"), None).await.unwrap();
    assert_eq!(ask(&store, principal("ada"), None).await.err(), Some(RejectKind::RateLimited));
    assert!(ask(&store, principal("bob"), None).await.is_ok());
    for _ in 0..3 {
        std::mem::forget(store.subscribe(subscribe("#", None, Start::New, 1)).await.unwrap());
    }
    drop(first);
    let _again = ask(&store, principal("ada"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_that_nobody_consumes_counts_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = limited(folder.path(), 3, 2);
    for name in ["a", "b"] {
        drop(ask(&store, principal("ada"), Some(name)).await.unwrap());
    }
    assert_eq!(ask(&store, principal("ada"), Some("c")).await.err(), Some(RejectKind::RateLimited));
    drop(ask(&store, principal("ada"), Some("a")).await.unwrap());
    store.close().await.unwrap();
    drop(store);

    let store = limited(folder.path(), 3, 2);
    assert_eq!(ask(&store, principal("ada"), Some("c")).await.err(), Some(RejectKind::RateLimited));
    let _b = ask(&store, principal("ada"), Some("b")).await.unwrap();
    let _open = ask(&store, principal("ada"), None).await.unwrap();
    assert_eq!(ask(&store, principal("ada"), None).await.err(), Some(RejectKind::RateLimited));
    assert!(store.drop_subscription("a").await.unwrap());
    assert!(ask(&store, principal("ada"), Some("c")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_name_is_its_owners_also_after_a_restart_unless_it_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, 1, "a").await;
    drop(ask(&store, principal("ada"), Some("own")).await.unwrap());
    drop(ask(&store, Subscriber::Several("ada".into()), Some("shared")).await.unwrap());
    drop(store);

    let store = open(folder.path());
    assert_eq!(ask(&store, principal("bob"), Some("own")).await.err(), Some(RejectKind::Denied));
    assert!(ask(&store, Subscriber::Several("bob".into()), Some("shared")).await.is_ok());
    let mut own = ask(&store, principal("ada"), Some("own")).await.unwrap();
    assert_eq!(ask(&store, principal("bob"), Some("own")).await.err(), Some(RejectKind::Denied));
    assert_eq!(ids(&take(&mut own, 1).await), [1], "whoever was refused has not taken it over");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_is_known_to_own_is_of_who_consumes_it_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = limited(folder.path(), 9, 1);
    // as an older gateway made it
    drop(store.subscribe(subscribe("#", Some("old"), Start::Earliest, 1)).await.unwrap());
    drop(ask(&store, principal("ada"), Some("old")).await.unwrap());
    drop(store);
    let store = limited(folder.path(), 9, 1);
    assert_eq!(ask(&store, principal("bob"), Some("old")).await.err(), Some(RejectKind::Denied));
    assert_eq!(ask(&store, principal("ada"), Some("new")).await.err(), Some(RejectKind::RateLimited));
}
