//! Groups that publishers begin themselves.

use futures_util::FutureExt;

use super::*;

/// A subscriber that need not wait for the disk.
async fn early(store: &Embedded, filter: &str) -> Box<dyn Deliveries> {
    let mut consumer = store.subscribe(subscribe(filter, None, Start::New, 50_000)).await.unwrap();
    consumer.early(true);
    consumer
}

fn batch(id: u128, topic: &str, ack: AckPoint) -> Batch<Admitted> {
    Batch::new(vec![admitted(Group::One(envelope(id, topic)), ack)]).unwrap()
}

/// One thread, so that what it sees before it lets go of it the writer was not asked for.
#[tokio::test]
async fn who_need_not_wait_for_the_disk_is_shown_a_message_by_its_publisher() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = early(&store, "a").await;
    let receipt = put(&store, 1, "a").await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [1]);
    store.ledger().received("web", 1);
    // it answers before it is done
    drop(store.queue.writer.lock().unwrap());
    let mut publishing = store.publish(batch(2, "a", AckPoint::Durable));
    assert!((&mut publishing).now_or_never().is_none(), "the receipt waits for the disk");
    let shown = consumer.next().now_or_never().expect("it was shown at once").unwrap();
    assert_eq!(ids(shown.as_slice()), [2]);
    let verdict = publishing.await.unwrap().remove(0);
    let Ok(Admission::Stored(stored)) = verdict.answer else { panic!("it was refused") };
    assert_ne!(stored.position, receipt.position);
    assert_eq!(stored.position.unwrap(), shown.as_slice()[0].position);
    // what is known already has to be looked up, which the writer does
    store.ledger().received("web", 1);
    let again = store.publish(batch(2, "a", AckPoint::Durable)).await.unwrap().remove(0);
    let Ok(Admission::Stored(again)) = again.answer else { panic!("it was refused") };
    assert!(again.duplicate);
    assert!(is_idle(&mut consumer).await, "nothing comes twice");
    assert_balanced(&store);
}

#[tokio::test]
async fn a_message_whose_publisher_left_after_it_was_shown_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = early(&store, "a").await;
    store.ledger().received("web", 1);
    let mut publishing = store.publish(batch(1, "a", AckPoint::Durable));
    assert!((&mut publishing).now_or_never().is_none());
    drop(publishing);
    assert_eq!(ids(&take(&mut consumer, 1).await), [1]);
    let mut durable = consumer_of_all(&store).await;
    assert_eq!(ids(&take(&mut durable, 1).await), [1]);
    assert_balanced(&store);
}

async fn consumer_of_all(store: &Embedded) -> Box<dyn Deliveries> {
    super::consumer(store, "all", 50_000).await
}

/// Every other message is answered as soon as it is queued, so that its publisher's next one finds it not staged yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_publisher_sends_stays_in_its_order_whoever_stages_it() {
    const EACH: u128 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = early(&store, "#").await;
    let publishers = (0..4).map(|number| {
        let store = store.clone();
        async move {
            for at in 0..EACH {
                store.ledger().received("web", 1);
                let ack = if at % 2 == 0 { AckPoint::Received } else { AckPoint::Durable };
                store.publish(batch(number * EACH + at + 1, &format!("p{number}"), ack)).await.unwrap();
            }
        }
    });
    let (_, shown) = tokio::join!(futures_util::future::join_all(publishers), take(&mut consumer, 4 * EACH as usize));
    assert!(shown.is_sorted_by(|one, next| one.position < next.position));
    let mut durable = consumer_of_all(&store).await;
    let stored = take(&mut durable, 4 * EACH as usize).await;
    assert_eq!(ids(&stored), ids(&shown), "what is shown early is what is stored");
    for number in 0..4 {
        let of_one: Vec<_> = ids(&shown).into_iter().filter(|id| (id - 1) / EACH == number).collect();
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
    assert_balanced(&store);
}

/// Publishes a message whose sender waits for nothing.
async fn put_unasked(store: &Embedded, id: u128) {
    store.ledger().received("web", 1);
    store.publish(batch(id, "a", AckPoint::Received)).await.unwrap();
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_with_what_comes_next_or_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = early(&store, "a").await;
    let before = store.report().store.groups;
    for id in 1..=10 {
        put_unasked(&store, id).await;
    }
    assert_eq!(ids(&take(&mut consumer, 10).await), (1..=10).collect::<Vec<_>>(), "they are shown at once");
    let receipt = put(&store, 11, "a").await;
    let position = receipt.position.expect("it is on disk");
    assert_eq!(store.shared().sequence(&position), Some(11), "in their order");
    // the timer may have run once where this thread was held up
    assert!(store.report().store.groups - before <= 2, "{}", store.report().store.groups - before);
    put_unasked(&store, 12).await;
    let is_stored = async {
        while store.report().store.stored < 12 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), is_stored).await.expect("it is written by itself");
    put_unasked(&store, 13).await;
    store.close().await.unwrap();
    drop((store, consumer));
    let store = open(folder.path());
    assert_eq!(store.report().store.stored, 13, "what is open is written before the store is closed");
    assert_balanced(&store);
}

#[tokio::test]
async fn who_waits_for_the_disk_does_not_wait_longer() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut first = early(&store, "a").await;
    let mut durable = consumer_of_all(&store).await;
    for id in 1..=40 {
        put_unasked(&store, id).await;
        let is_left_open =
            |writer: &crate::writer::Writer| writer.open.as_ref().is_some_and(|open| !open.group.is_awaited);
        assert!(!is_left_open(&store.queue.writer.lock().unwrap()));
        assert_eq!(ids(&take(&mut durable, 1).await), [id]);
        assert_eq!(ids(&take(&mut first, 1).await), [id]);
    }
    assert_balanced(&store);
}
