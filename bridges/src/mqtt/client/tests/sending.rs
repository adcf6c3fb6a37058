//! What it sends: what the broker says is the verdict, and a broker that is away is told.

use envelope::{Batch, Disposition, Outbound, Sink, Taken};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::*;
use crate::{
    BridgeConfig, LinkContext, Standings,
    conformance::{FakeKeys, outbound},
};

/// A sink that runs.
struct Sending {
    sink: Sink,
    stop: CancellationToken,
    tasks: TaskTracker,
    standings: Standings,
}

// === impl Sending ===

impl Sending {
    fn start(config: &MqttClientConfig) -> Self {
        let built = config.build("far");
        let (stop, tasks, standings) = (CancellationToken::new(), TaskTracker::new(), Standings::default());
        let cx = LinkContext {
            bridge: "far".into(),
            principal: Arc::new(Principal::new("$bridge:far", "plant-a")),
            keys: Arc::new(FakeKeys::default()),
            standings: standings.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(built.link.unwrap().run(cx));
        Self { sink: built.sink.unwrap(), stop, tasks, standings }
    }

    fn send(&self, messages: Vec<Outbound>) -> BoxFuture<'static, Vec<Result<Taken, Rejection>>> {
        let sent = self.sink.clone().oneshot(Batch::new(messages).unwrap());
        Box::pin(async move {
            let verdicts = timeout(PATIENCE, sent).await.expect("verdicts").unwrap();
            verdicts.into_iter().map(|verdict| verdict.answer).collect()
        })
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        timeout(PATIENCE, self.tasks.wait()).await.expect("its end");
    }
}

#[tokio::test]
async fn what_the_broker_says_of_a_message_is_its_verdict() {
    let broker = Broker::bind(Version::V5).await;
    let sending = Sending::start(&broker.config());
    let hops = vec!["far-away".into()];
    let first = Outbound { hops, retain: true, ..outbound("plants/7".into(), 1, "a") };
    let large = Outbound { payload: vec![b'x'; 500_000].into(), ..outbound("plants/7".into(), 2, "b") };
    let wild = outbound("plants/+".into(), 3, "c");
    let denied = outbound("%/d".into(), 4, "d");
    let later = Outbound { qos: Some(Qos::ExactlyOnce), ..outbound("e".into(), 5, "e") };
    let verdicts = sending.send(vec![first, large, wild, denied, later]);
    let serve = async {
        let mut client = broker.welcomed(false).await;
        assert!(client.clean, "nothing of an earlier process is to be there");
        let mut topics = Vec::new();
        for reason in [Reason(0x10), Reason::NOT_AUTHORIZED, Reason::QUOTA_EXCEEDED] {
            let Some(Packet::Publish(publish)) = client.next().await else { panic!("a PUBLISH") };
            let hops = publish.properties.as_ref().and_then(|all| all.user.iter().find(|(name, _)| &**name == "hops"));
            topics.push((publish.topic.to_string(), publish.retain, hops.map(|(_, value)| value.to_string())));
            let acked = if publish.qos == Qos::ExactlyOnce { Acked::Received } else { Acked::Publish };
            client.ack(acked, publish.id, reason).await;
        }
        (client, topics)
    };
    let (verdicts, (_client, topics)) = tokio::join!(verdicts, serve);
    let here = || Some("plant-a".to_owned());
    let expected = [
        ("plants/7".to_owned(), true, Some("far-away plant-a".to_owned())),
        ("/d".to_owned(), false, here()),
        ("e".to_owned(), false, here()),
    ];
    assert_eq!(topics, expected);
    let kinds: Vec<_> = verdicts.iter().map(|answer| answer.as_ref().err().map(|no| no.kind)).collect();
    let expected = [
        None,
        Some(RejectKind::TooLarge),
        Some(RejectKind::Malformed),
        Some(RejectKind::Denied),
        Some(RejectKind::RateLimited),
    ];
    assert_eq!(kinds, expected);
    sending.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_to_the_caller_and_what_it_has_is_not_sent_twice() {
    let broker = Broker::bind(Version::V3).await;
    let sending = Sending::start(&broker.config());
    let message = Outbound { qos: Some(Qos::ExactlyOnce), ..outbound("a".into(), 1, "a") };
    let first = sending.send(vec![message.clone()]);
    let refusing = async {
        // in MQTT 3.1.1 a clean session first, then the one that lasts
        let clean = broker.welcomed(false).await;
        assert!(clean.clean);
        let mut client = broker.welcomed(false).await;
        let Some(Packet::Publish(publish)) = client.next().await else { panic!("a PUBLISH") };
        client.ack(Acked::Received, publish.id, Reason::SUCCESS).await;
        assert!(matches!(client.next().await, Some(Packet::PubRel(_))));
        drop(client);
        let mut refused = broker.called().await;
        refused.send(|out| connack(out, Version::V3, Reason::NOT_AUTHORIZED, &ConnAck::default())).await;
        publish.id
    };
    let (verdicts, id) = tokio::join!(first, refusing);
    let no = verdicts[0].as_ref().unwrap_err();
    assert_eq!((no.kind, no.disposition()), (RejectKind::Unavailable, Disposition::Retry));
    assert!(no.detail.contains("not authorized"), "{}", no.detail);
    assert_eq!(sending.standings.all()[0].2.state.word(), "refused");
    let mut client = broker.welcomed(true).await;
    assert!(matches!(client.next().await, Some(Packet::PubRel(ack)) if ack.id == id), "no PUBLISH again");
    client.ack(Acked::Complete, id, Reason::SUCCESS).await;
    let again = sending.send(vec![message]).await;
    assert!(matches!(again[0], Ok(Taken::ByPeer)), "{again:?}");
    sending.stop().await;
    assert!(matches!(client.next().await, Some(Packet::Disconnect(_))), "a goodbye, and nothing more");
}

#[tokio::test]
async fn who_sends_all_the_time_notices_a_broker_that_says_nothing_any_more() {
    let broker = Broker::bind(Version::V5).await;
    let mut config = broker.config();
    config.keep_alive = Duration::from_secs(1);
    config.qos = Qos::AtMostOnce;
    let sending = Sending::start(&config);
    let silent = async {
        let mut client = broker.welcomed(false).await;
        // it reads all, and answers no ping
        while client.next().await.is_some() {}
        broker.welcomed(false).await
    };
    let sends = async {
        // oftener than it would ping
        let mut times = tokio::time::interval(Duration::from_millis(50));
        for n in 0_u64.. {
            times.tick().await;
            sending.send(vec![outbound("a".into(), n, "a")]).await;
        }
    };
    tokio::select! {
        () = sends => {}
        client = timeout(PATIENCE, silent) => drop(client.expect("another connection")),
    }
    sending.stop().await;
}
