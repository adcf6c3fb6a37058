//! What every bridge that sends has to pass, against a peer that does what the test says.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{
    Batch, Disposition, EnvelopeId, Headers, Identity, IdentityParts, Lane, Outbound, Rejection, Sink, Taken, Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tower::ServiceExt;

use super::HARD_TIMEOUT;
use crate::BridgeConfig;

/// What a receiver does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Takes it.
    Take,
    /// Refuses it for good.
    Refuse,
    /// Can't take it now.
    Later,
    /// Leaves, or cuts the connection, before it has answered.
    Die,
}

/// The peer of the sink under test.
pub trait Receiver: Send + Sync {
    /// The address that messages are sent to.
    fn address(&self) -> Arc<str>;

    /// From now on does this with each message.
    fn does(&self, what: Does);

    /// The payloads of all messages that came, in order, taken or not.
    fn received(&self) -> BoxFuture<'_, Vec<Bytes>>;
}

/// A message with a lane and a text.
pub fn outbound(address: Arc<str>, lane: u64, text: &'static str) -> Outbound {
    let parts = IdentityParts { domain: "test", bridge: "test", principal: "anonymous", route: "test" };
    let id: EnvelopeId = Identity::fresh().envelope_id(parts);
    Outbound {
        address,
        headers: Headers::default(),
        payload: Bytes::from_static(text.as_bytes()),
        key: None,
        qos: None,
        retain: false,
        hops: Vec::new(),
        id,
        trace: None,
        lane: Lane(lane),
    }
}

/// Sends messages in one call.
///
/// # Panics
/// If the call takes too long, or ends in an error for all of them.
pub async fn send(sink: &Sink, messages: Vec<Outbound>) -> Verdicts<Taken> {
    let sent = messages.len();
    let Some(batch) = Batch::new(messages) else { return Vec::new() };
    let Ok(answer) = timeout(HARD_TIMEOUT, sink.clone().oneshot(batch)).await else { panic!("the sink hangs") };
    match answer {
        Ok(verdicts) => {
            assert_eq!(verdicts.len(), sent, "one verdict a message");
            verdicts
        }
        Err(rejection) => panic!("the sink refused all of it: {rejection}"),
    }
}

/// Runs the suite.
///
/// # Panics
/// With the rule that the sink breaks.
pub async fn run_sink(config: &dyn BridgeConfig, receiver: &dyn Receiver) {
    let Some(sink) = config.build("out").sink else { panic!("the bridge has no sink") };
    assert!(config.sends(), "what has a sink says how it is given messages");
    let to = receiver.address();

    receiver.does(Does::Take);
    let verdicts = send(&sink, vec![outbound(to.clone(), 1, "a"), outbound(to.clone(), 1, "b")]).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict.answer, Ok(Taken::ByPeer))), "{verdicts:?}");
    assert_eq!(receiver.received().await, ["a", "b"], "each once, in the lane's order");

    receiver.does(Does::Refuse);
    let verdicts = send(&sink, vec![outbound(to.clone(), 1, "c")]).await;
    assert_eq!(disposition(&verdicts[0].answer), Some(Disposition::Final), "a no of the peer is final");

    receiver.does(Does::Later);
    let verdicts = send(&sink, vec![outbound(to.clone(), 1, "d"), outbound(to.clone(), 1, "e")]).await;
    let said: Vec<_> = verdicts.iter().map(|verdict| disposition(&verdict.answer)).collect();
    assert_eq!(said, [Some(Disposition::Retry); 2], "what is behind a retry in its lane waits");
    assert_eq!(receiver.received().await, ["a", "b", "c", "d"], "and is not sent");

    receiver.does(Does::Die);
    let verdicts = send(&sink, vec![outbound(to.clone(), 1, "f")]).await;
    assert_eq!(disposition(&verdicts[0].answer), Some(Disposition::Retry), "no answer is no yes");

    receiver.does(Does::Take);
    let again = async {
        loop {
            let verdicts = send(&sink, vec![outbound(to.clone(), 1, "g")]).await;
            match &verdicts[0].answer {
                Ok(_) => return,
                Err(rejection) => {
                    assert_eq!(rejection.disposition(), Disposition::Retry, "{rejection}");
                    let wait = rejection.retry_after.unwrap_or(Duration::from_millis(10));
                    tokio::time::sleep(wait.min(Duration::from_millis(200))).await;
                }
            }
        }
    };
    assert!(timeout(HARD_TIMEOUT, again).await.is_ok(), "a peer that is back is found");
}

fn disposition(answer: &Result<Taken, Rejection>) -> Option<Disposition> {
    answer.as_ref().err().map(Rejection::disposition)
}
