//! What mappings show at addresses that clients subscribe to.

use bytes::Bytes;
use envelope::{Delivery, Filter, Outbound, Qos, RejectKind, Rejection, Route, Settlement, Shown};

use super::client::{Client, Hello, ack, config, packet, rig, subscribe, text};
use crate::conformance::{Rig, delivery};

/// A mapping of `telemetry/#` that shows it at `plant/<what the data says>`.
fn plant(qos: Option<Qos>) -> Shown {
    let topic = Filter::new("telemetry/#").unwrap();
    Shown { route: Route::new("plant", "1"), topic, address: vec![Some("plant".to_owned()), None], qos }
}

fn at(delivery: &Delivery) -> Result<Option<Outbound>, Rejection> {
    let data = String::from_utf8(delivery.envelope.data.as_slice().to_vec()).unwrap();
    if data == "broken" {
        return Err(Rejection::new(RejectKind::Malformed, "mapping", "it can't be"));
    }
    let headers = [("content-type".to_owned(), Bytes::from("text/csv")), ("x-line".to_owned(), Bytes::from("7"))];
    Ok((data != "nothing").then(|| Outbound {
        address: format!("plant/{data}").into(),
        headers: headers.into(),
        payload: Bytes::from("a,b"),
        key: None,
        qos: None,
        retain: false,
        hops: Vec::new(),
        id: delivery.envelope.id,
        trace: None,
        lane: delivery.lane,
    }))
}

fn give(rig: &Rig, data: &[&'static str]) {
    rig.outlet.give((1..).zip(data).map(|(n, data)| delivery(n, "telemetry/7", Bytes::from(*data))));
}

async fn subscribed(client: &mut Client, filters: &[(&str, u8)]) -> Vec<u8> {
    let suback = client.ask(&subscribe(true, 9, &[], filters)).await.unwrap();
    assert_eq!(suback.first, 0x90);
    suback.body[suback.body.len() - filters.len()..].to_vec()
}

#[tokio::test]
async fn who_subscribes_to_an_address_sees_there_what_a_mapping_makes() {
    let rig = rig().await;
    rig.outlet.show(vec![(plant(None), at)]);
    give(&rig, &["temp", "other", "nothing", "broken"]);
    let mut client = Client::five(&rig).await;
    assert_eq!(subscribed(&mut client, &[("plant/temp", 1)]).await, [1]);
    let seen = client.next().await.unwrap();
    let (topic, id, properties, payload) = seen.published(true);
    assert_eq!((seen.first, topic.as_str(), payload.as_str()), (0x32, "plant/temp", "a,b"));
    let has = |wanted: &[u8]| properties.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(&[&[0x03][..], &text("text/csv")].concat()), "content type");
    assert!(has(&[&[0x26][..], &text("x-line"), &text("7")].concat()), "headers");
    assert!(has(&[&[0x26][..], &text("type"), &text("mesh/opaque@v1.0.0")].concat()), "attributes");
    client.send(&ack(0x40, id)).await;
    rig.outlet.until(|state| state.settled.len() == 4).await;
    let mut settled = rig.outlet.state().settled;
    settled.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(settled[3].1, Settlement::DeadLettered(RejectKind::Malformed));
    assert!(settled[..3].iter().all(|(_, how)| *how == Settlement::Delivered));
    let opened: Vec<_> = rig.outlet.state().opened.into_iter().map(|(_, what)| what.filters[0].to_string()).collect();
    assert_eq!(opened, ["plant/temp", "telemetry/#"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_filter_that_selects_both_gets_topic_and_address() {
    let rig = rig().await;
    rig.outlet.show(vec![(plant(Some(Qos::AtMostOnce)), at)]);
    give(&rig, &["temp"]);
    let mut client = Client::five(&rig).await;
    assert_eq!(subscribed(&mut client, &[("#", 1)]).await, [1]);
    let mut seen =
        [client.next().await.unwrap(), client.next().await.unwrap()].map(|seen| (seen.published(true).0, seen.first));
    seen.sort_unstable();
    let [plant, telemetry] = seen;
    assert_eq!((plant.0.as_str(), plant.1), ("plant/temp", 0x30), "the mapping says how surely at most");
    assert_eq!((telemetry.0.as_str(), telemetry.1), ("telemetry/7", 0x32));
    assert_eq!(subscribed(&mut client, &[("other/#", 1)]).await, [1]);
    assert_eq!(rig.outlet.state().opened.len(), 3, "nothing is shown there");
    rig.stop().await;
}

#[tokio::test]
async fn what_is_shown_needs_the_right_to_its_topics_and_is_enough_for_an_address_by_itself() {
    let rig = rig().await;
    rig.outlet.show(vec![(plant(None), at)]);
    give(&rig, &["temp"]);
    let mut client = Client::five(&rig).await;
    rig.outlet.forbid("plant/temp");
    assert_eq!(subscribed(&mut client, &[("plant/temp", 1)]).await, [1], "there is no right to the address itself");
    assert_eq!(client.next().await.unwrap().published(true).0, "plant/temp");
    let mut other = Client::connect(rig.address(), &Hello::five("other")).await;
    rig.outlet.forbid("telemetry/#");
    assert_eq!(subscribed(&mut other, &[("plant/temp", 1)]).await, [1], "nothing is there for it");
    assert_eq!(other.until_pong().await, []);
    rig.stop().await;
}

#[tokio::test]
async fn last_values_are_shown_too_and_unsubscribing_ends_all_of_it() {
    let rig = rig().await;
    rig.outlet.show(vec![(plant(None), at)]);
    rig.outlet.give([Delivery { retained: true, ..delivery(1, "telemetry/7", Bytes::from("temp")) }]);
    let mut client = Client::connect(rig.address(), &Hello::five("same").staying()).await;
    subscribed(&mut client, &[("plant/+", 1)]).await;
    let value = client.next().await.unwrap();
    assert_eq!((value.first, value.published(true).0.as_str()), (0x33, "plant/temp"));
    let names: Vec<_> = rig.outlet.state().opened.into_iter().filter_map(|(_, what)| what.durable).collect();
    assert!(names.len() == 2 && names[0] != names[1], "each has a position of its own: {names:?}");
    client.ask(&packet(0xA2, &[&[0, 5, 0], &text("plant/+")])).await;
    let mut forgotten = rig.outlet.state().forgotten;
    forgotten.sort_unstable();
    assert_eq!(forgotten, names);
    rig.stop().await;
}

#[tokio::test]
async fn mappings_that_change_while_a_client_subscribes_are_followed() {
    let rig = rig().await;
    give(&rig, &["temp"]);
    rig.outlet.show_once_open("other/#", vec![(plant(None), at)]);
    let mut client = Client::five(&rig).await;
    assert_eq!(subscribed(&mut client, &[("plant/#", 1), ("other/#", 1)]).await, [1, 1]);
    assert_eq!(client.next().await.unwrap().published(true).0, "plant/temp");
    rig.stop().await;
}

#[tokio::test]
async fn a_subscription_that_is_only_shown_something_any_more_leaves_nothing_when_it_ends() {
    let rig = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, &[("plant/temp", 1)]).await;
    let own = rig.outlet.state().opened[0].1.durable.clone().unwrap();
    drop(client);
    rig.outlet.show(vec![(plant(None), at)]);
    rig.outlet.forbid("plant/temp");
    let mut client = Client::connect(rig.address(), &hello).await;
    client.ask(&packet(0xA2, &[&[0, 5, 0], &text("plant/temp")])).await;
    assert!(rig.outlet.state().forgotten.contains(&own), "{:?}", rig.outlet.state().forgotten);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_when_a_mapping_is_edited_is_not_sent_as_another_message() {
    let rig = rig().await;
    rig.outlet.show(vec![(plant(None), at)]);
    give(&rig, &["temp", "other"]);
    let mut client = Client::connect(rig.address(), &Hello::five("same").staying()).await;
    subscribed(&mut client, &[("plant/#", 2)]).await;
    let ids = [client.next().await.unwrap().published(true).1, client.next().await.unwrap().published(true).1];
    rig.outlet.show(vec![(Shown { route: Route::new("plant", "2"), ..plant(None) }, at)]);
    // another edit is followed after this one
    let everything = Filter::new("#").unwrap();
    rig.outlet.show(vec![(Shown { route: Route::new("plant", "3"), topic: everything, ..plant(None) }, at)]);
    // what the mapping takes is another subscription: it comes again, as what it was
    let again = [client.next().await.unwrap(), client.next().await.unwrap()];
    assert_eq!(again.each_ref().map(|packet| (packet.first, packet.published(true).1)), ids.map(|id| (0x3C, id)));
    for id in ids {
        client.send(&ack(0x50, id)).await;
    }
    rig.outlet.until(|state| state.settled.len() == 2).await;
    assert!(rig.outlet.state().opened.len() <= 3, "the first edit opens nothing");
    rig.stop().await;
}

#[tokio::test]
async fn an_edited_mapping_shows_what_it_makes_now_over_the_same_subscription() {
    let rig = rig().await;
    rig.outlet.show(vec![(plant(None), at)]);
    give(&rig, &["temp", "other"]);
    let hello = Hello { properties: vec![0x21, 0, 1, 0x11, 0, 0, 0xFF, 0xFF], clean: false, ..Hello::five("same") };
    let mut client = Client::connect(rig.address(), &hello).await;
    subscribed(&mut client, &[("plant/#", 2)]).await;
    let (_, id, _, payload) = client.next().await.unwrap().published(true);
    assert_eq!(payload, "a,b");
    let edited = |delivery: &Delivery| Ok(at(delivery)?.map(|made| Outbound { payload: Bytes::from("c"), ..made }));
    rig.outlet.show(vec![(Shown { route: Route::new("plant", "2"), ..plant(None) }, edited)]);
    assert_eq!(client.until_pong().await, []);
    assert_eq!(client.ask(&ack(0x50, id)).await.unwrap().first, 0x62);
    client.send(&ack(0x70, id)).await;
    assert_eq!(client.next().await.unwrap().published(true).3, "c");
    assert_eq!(rig.outlet.state().opened.len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn another_set_of_mappings_is_followed_by_who_is_connected_and_after_a_restart() {
    let first = rig().await;
    let hello = Hello::five("same").staying();
    let mut client = Client::connect(first.address(), &hello).await;
    subscribed(&mut client, &[("plant/#", 1)]).await;
    assert_eq!(client.until_pong().await, []);
    give(&first, &["temp"]);
    first.outlet.show(vec![(plant(None), at)]);
    let (topic, id, _, _) = client.next().await.unwrap().published(true);
    assert_eq!(topic, "plant/temp");
    let second = first.restart(&config()).await;
    second.outlet.show(vec![(plant(None), at)]);
    give(&second, &["temp"]);
    let mut again = Client::connect(second.address(), &hello).await;
    assert_eq!(again.next().await.unwrap().published(true).0, "plant/temp");
    let name = |rig: &Rig| rig.outlet.state().opened.last().unwrap().1.durable.clone().unwrap();
    assert_eq!(name(&first), name(&second));
    again.send(&ack(0x40, id)).await;
    second.outlet.show(Vec::new());
    second.outlet.until(|state| state.forgotten.len() == 1).await;
    assert_eq!(second.outlet.state().forgotten, [name(&second)], "it is shown no more");
    first.stop().await;
    second.stop().await;
}
