//! The egress stack as the outlet sees it.

use std::sync::Arc;

use bytes::Bytes;
use envelope::{Batch, Delivery, Envelope, EnvelopeId, Lane, Outgoing, Position, Principal};
use futures_util::FutureExt;
use tower::{Service, ServiceExt};

use super::world::{DOMAIN, READING, Told, envelope, epoch, typed, words};
use crate::{Pass, Trail, egress, hand_over};

fn outgoing(position: u8, envelope: Envelope) -> Outgoing {
    let position = Position(Bytes::copy_from_slice(&[position]));
    let delivery = Delivery { position, redelivered: false, is_last: false, retained: false, envelope, lane: Lane(1) };
    Outgoing { to: Arc::new(Principal::anonymous(DOMAIN)), delivery }
}

#[test]
fn what_conforms_is_handed_over_in_order_and_the_rest_refused() {
    let id = EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap();
    let all = vec![
        outgoing(0, envelope(id, b"anything")),
        outgoing(1, typed(envelope(id, b"{}"), READING)),
        outgoing(2, typed(envelope(id, b"{\"celsius\": 1}"), READING)),
        outgoing(3, typed(envelope(id, b"{}"), "a/type@v1.0.0")),
    ];
    let mut stack = egress(hand_over(), Arc::new(Trail::egress("web".into(), None)), Arc::default());
    let pass = Pass { epoch: Arc::new(epoch(1, Told)), batch: Batch::new(all).unwrap() };
    let ready = stack.ready().now_or_never().unwrap().unwrap();
    let verdicts = ready.call(pass).now_or_never().unwrap().unwrap();
    let positions: Vec<_> = verdicts.iter().filter_map(|v| v.answer.as_ref().ok().map(|d| d.position.0[0])).collect();
    assert_eq!(positions, [0, 2]);
    assert_eq!(words(verdicts), ["delivered", "malformed", "delivered", "malformed"]);
}
