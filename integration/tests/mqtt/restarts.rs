//! The gateway is killed with SIGKILL again and again while paho's clients publish and subscribe.
//!
//! Nothing that was acknowledged is lost, and at QoS 2 nothing comes twice, from the publisher through the mesh to the
//! subscriber. No session is forgotten.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use integration::{Gateway, eventually};

use crate::{Floor, paho::Paho};

const MESSAGES: usize = 1_500;
const KILLS: usize = 6;
const HARD_TIMEOUT: Duration = Duration::from_secs(120);

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_at_qos_2_nothing_comes_twice() {
    let floor = Floor::new();
    let mut gateway = Gateway::start(&floor.site);
    let kinds = [("4", "1"), ("4", "2"), ("5", "1"), ("5", "2")];
    let subscribers: Vec<_> = kinds
        .iter()
        .map(|(version, qos)| Paho::start(&floor, &["subscribe", version, qos, &format!("floor/{version}/{qos}")]))
        .collect();
    for subscriber in &subscribers {
        eventually("a subscription", HARD_TIMEOUT, || subscriber.lines().contains(&"ready".to_owned()).then_some(()));
    }
    let publishers: Vec<_> = kinds
        .iter()
        .map(|(version, qos)| Paho::start(&floor, &["publish", version, qos, &MESSAGES.to_string()]))
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..KILLS {
        let until = Instant::now() + Duration::from_millis(random.u64(300..1_500));
        eventually("it is time to kill", HARD_TIMEOUT, || (Instant::now() >= until).then_some(()));
        gateway.kill();
        gateway = Gateway::start(&floor.site);
    }
    for publisher in &publishers {
        eventually("everything is acknowledged", HARD_TIMEOUT, || (publisher.lines().len() >= MESSAGES).then_some(()));
    }
    for ((version, qos), subscriber) in kinds.iter().zip(&subscribers) {
        let seen = || {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            subscriber
                .lines()
                .into_iter()
                .filter(|line| line != "ready" && line != "lost")
                .for_each(|line| *seen.entry(line).or_default() += 1);
            seen
        };
        eventually("everything is delivered", HARD_TIMEOUT, || (seen().len() == MESSAGES).then_some(()));
        if *qos == "2" {
            let twice: Vec<_> = seen().into_iter().filter(|(_, times)| *times > 1).collect();
            assert!(twice.is_empty(), "MQTT {version} at QoS 2: {twice:?}");
        }
    }
    let lost =
        publishers.iter().chain(&subscribers).filter(|client| client.lines().contains(&"lost".to_owned())).count();
    assert_eq!(lost, 0, "clients whose session was forgotten");
    floor.assert_balanced();
    drop(gateway);
}
