//! The gateway is killed with SIGKILL again and again while paho's clients publish and subscribe.
//!
//! Nothing that was acknowledged is lost, and at QoS 2 nothing comes twice, from the publisher through the mesh to the
//! subscriber, nor from one member of a shared subscription to another. No session is forgotten.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use integration::{Gateway, client, eventually};

use crate::{Floor, paho::Paho};

const KILLS: usize = 50;
const HARD_TIMEOUT: Duration = Duration::from_secs(120);

/// Versions and QoS.
const KINDS: [(&str, &str); 4] = [("4", "1"), ("4", "2"), ("5", "1"), ("5", "2")];

/// Who is to get all that a publisher sends, together.
struct Audience {
    kind: (&'static str, &'static str),
    members: Vec<Paho>,
}

// === impl Audience ===

impl Audience {
    fn start(floor: &Floor) -> Vec<Self> {
        let mut all = Vec::new();
        for kind @ (version, qos) in KINDS {
            let topic = format!("floor/{version}/{qos}");
            // one that takes two at a time, where a client can say so
            let one = Paho::start(floor, &["subscribe", version, qos, &topic, "subscriber", "2"]);
            all.push(Self { kind, members: vec![one] });
            let share = format!("$share/workers/{topic}");
            let member = |name: &str| Paho::start(floor, &["subscribe", version, qos, &share, name, "3"]);
            all.push(Self { kind, members: vec![member("first"), member("second")] });
        }
        all
    }

    fn is_ready(&self) -> bool {
        self.members.iter().all(|member| member.lines().contains(&"ready".to_owned()))
    }

    /// How often each message came.
    fn seen(&self) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        let lines = self.members.iter().flat_map(Paho::lines).filter(|line| line != "ready" && line != "lost");
        lines.for_each(|line| *seen.entry(line).or_default() += 1);
        seen
    }
}

#[test]
fn killed_under_load_nothing_acknowledged_is_lost_and_at_qos_2_nothing_comes_twice() {
    let floor = Floor::new();
    let mut gateway = Gateway::start(&floor.site);
    let audiences = Audience::start(&floor);
    eventually("all are subscribed", HARD_TIMEOUT, || audiences.iter().all(Audience::is_ready).then_some(()));
    let start = |(version, qos): (&str, &str)| Paho::start(&floor, &["publish", version, qos, "-"]);
    let mut publishers = KINDS.map(start);
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..KILLS {
        let acknowledged = || publishers.iter().map(|publisher| publisher.lines().len()).sum::<usize>();
        let (before, until) = (acknowledged(), Instant::now() + Duration::from_millis(random.u64(200..1_200)));
        let is_time = || Instant::now() >= until && acknowledged() > before;
        eventually("it is time to kill", HARD_TIMEOUT, || is_time().then_some(()));
        gateway.kill();
        gateway = Gateway::start(&floor.site);
        eventually("the ledger balances", HARD_TIMEOUT, || {
            (client::get(&floor.site.admin_url("/ledger")).body["balanced"] == true).then_some(())
        });
    }
    publishers.iter_mut().for_each(Paho::finish);
    let is_done = |publisher: &Paho| publisher.lines().last().is_some_and(|line| line == "done");
    eventually("everything is acknowledged", HARD_TIMEOUT, || publishers.iter().all(is_done).then_some(()));
    let numbers = |publisher: &Paho| publisher.lines().iter().filter(|line| line.parse::<u64>().is_ok()).count();
    for (kind @ (version, qos), publisher) in KINDS.into_iter().zip(&publishers) {
        let sent = numbers(publisher);
        println!("MQTT {version} at QoS {qos}: {sent} messages");
        for audience in audiences.iter().filter(|audience| audience.kind == kind) {
            eventually("everything is delivered", HARD_TIMEOUT, || (audience.seen().len() >= sent).then_some(()));
            assert_eq!(audience.seen().len(), sent, "and nothing that was not sent");
            if qos == "2" {
                let twice: Vec<_> = audience.seen().into_iter().filter(|(_, times)| *times > 1).collect();
                assert!(twice.is_empty(), "MQTT {version} at QoS 2: {twice:?}");
            }
        }
    }
    let members = audiences.iter().flat_map(|audience| &audience.members);
    let lost = publishers.iter().chain(members).filter(|client| client.lines().contains(&"lost".to_owned())).count();
    assert_eq!(lost, 0, "clients whose session was forgotten");
    floor.assert_balanced();
    drop(gateway);
}
