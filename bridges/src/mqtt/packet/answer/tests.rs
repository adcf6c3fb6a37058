//! Against what the listener writes, and against bytes that nobody should send.

use super::*;
use crate::mqtt::packet::{Acked, ConnAck, Outgoing, ack, connack, disconnect, pingresp, publish, suback, unsuback};

const LIMIT: usize = 100;

/// A decoder behind CONNACK.
fn decoder(version: Version) -> AnswerDecoder {
    let mut decoder = AnswerDecoder::new(version, LIMIT);
    let mut out = BytesMut::new();
    connack(
        &mut out,
        version,
        Reason::SUCCESS,
        &ConnAck { maximum_packet: 9, receive_maximum: 7, ..ConnAck::default() },
    );
    assert!(matches!(decoder.next(&mut out), Ok(Read::Answer(Answer::Welcome(_)))));
    decoder
}

fn answers(version: Version, mut bytes: BytesMut) -> Result<Vec<Answer>, Broken> {
    let (mut decoder, mut found) = (decoder(version), Vec::new());
    while let Read::Answer(answer) = decoder.next(&mut bytes)? {
        found.push(answer);
    }
    Ok(found)
}

fn message(topic: &'static str, payload: &'static [u8]) -> Outgoing<'static> {
    Outgoing {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic,
        id: 300,
        alias: None,
        subscription_id: None,
        is_text: false,
        message_expiry: None,
        content_type: None,
        response_topic: None,
        correlation: None,
        user: &[],
        payload,
    }
}

#[test]
fn what_the_listener_says_is_read_as_it_was_meant() {
    for version in [Version::V3, Version::V5] {
        let mut out = BytesMut::new();
        publish(&mut out, version, &message("a/b", b"x"), None);
        ack(&mut out, version, Acked::Publish, 1, Reason::NOT_AUTHORIZED, Some("because"));
        ack(&mut out, version, Acked::Received, 2, Reason::SUCCESS, None);
        ack(&mut out, version, Acked::Release, 3, Reason::SUCCESS, None);
        ack(&mut out, version, Acked::Complete, 4, Reason::SUCCESS, None);
        suback(&mut out, version, 5, &[Reason(1), Reason::FILTER_INVALID], None);
        unsuback(&mut out, version, 6, &[Reason::SUCCESS]);
        pingresp(&mut out);
        disconnect(&mut out, version, Reason::SERVER_BUSY, Some("why"));
        let five = version == Version::V5;
        let found = answers(version, out).unwrap();
        let Answer::Publish(publish) = &found[0] else { panic!("{:?}", found[0]) };
        assert_eq!((&*publish.topic, publish.id, &publish.payload[..]), ("a/b", 300, &b"x"[..]));
        let (reason, detail) =
            if five { (Reason::NOT_AUTHORIZED, Some("because".into())) } else { (Reason::SUCCESS, None) };
        assert_eq!(found[1], Answer::PubAck(Answered { id: 1, reason, detail }));
        assert_eq!(found[2], Answer::PubRec(Answered { id: 2, reason: Reason::SUCCESS, detail: None }));
        assert_eq!(found[3], Answer::PubRel(Ack { id: 3, reason: Reason::SUCCESS }));
        assert_eq!(found[4], Answer::PubComp(Ack { id: 4, reason: Reason::SUCCESS }));
        let refused = if five { Reason::FILTER_INVALID } else { Reason::UNSPECIFIED };
        assert_eq!(found[5], Answer::SubAck { id: 5, reasons: vec![Reason(1), refused] });
        assert_eq!(found[6..8], [Answer::UnsubAck { id: 6 }, Answer::PingResp]);
        let last = Answer::Disconnect { reason: Reason::SERVER_BUSY, detail: Some("why".into()) };
        assert_eq!(found.get(8), five.then_some(&last));
    }
}

#[test]
fn a_welcome_says_what_the_broker_can_and_a_refusal_why() {
    let mut out = BytesMut::from(&[0x20, 11, 1, 0, 8, 0x21, 0, 20, 0x24, 1, 0x25, 0, 0x13][..]);
    out.extend_from_slice(&[0, 5]);
    out[1] = out.len() as u8 - 2;
    out[4] = out.len() as u8 - 5;
    let mut decoder = AnswerDecoder::new(Version::V5, LIMIT);
    let Ok(Read::Answer(Answer::Welcome(welcome))) = decoder.next(&mut out) else { panic!("a CONNACK") };
    assert!(welcome.session_present && !welcome.retains);
    assert_eq!((welcome.receive_maximum, welcome.maximum_qos, welcome.keep_alive), (20, Qos::AtLeastOnce, Some(5)));
    let mut decoder = AnswerDecoder::new(Version::V3, LIMIT);
    let Ok(Read::Answer(Answer::Welcome(no))) = decoder.next(&mut BytesMut::from(&[0x20, 2, 0, 4][..])) else {
        panic!()
    };
    assert_eq!(no.reason, Reason::BAD_CREDENTIALS);
}

#[test]
fn a_message_over_the_limit_is_skipped_as_it_comes_and_what_is_behind_it_is_read() {
    let (mut all, mut found, mut decoder) = (BytesMut::new(), Vec::new(), decoder(Version::V5));
    publish(&mut all, Version::V5, &message("a/b", &[b'x'; 5_000]), None);
    let bytes = all.len();
    publish(&mut all, Version::V5, &message("small", b"y"), None);
    let (mut buffer, mut most) = (BytesMut::new(), 0);
    for byte in all {
        buffer.extend_from_slice(&[byte]);
        most = most.max(buffer.len());
        while let Read::Answer(answer) = decoder.next(&mut buffer).unwrap() {
            found.push(answer);
        }
    }
    assert_eq!(found[0], Answer::TooLarge { topic: "a/b".into(), qos: Qos::AtLeastOnce, id: 300, bytes });
    assert!(matches!(&found[1], Answer::Publish(publish) if &*publish.topic == "small"));
    assert!(most < LIMIT, "{most}");
}

#[test]
fn what_no_broker_sends_ends_the_connection() {
    let read = |bytes: &[u8]| decoder(Version::V5).next(&mut BytesMut::from(bytes));
    for bytes in [&[0x20, 3, 0, 0, 0][..], &[0x10, 0], &[0xC0, 0], &[0x82, 0], &[0xF0, 0], &[0x00, 0], &[0x60, 2, 0, 1]]
    {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
    assert!(AnswerDecoder::new(Version::V5, LIMIT).next(&mut BytesMut::from(&[0x30, 3, 0, 1, b'a'][..])).is_err());
    // an alias that was not offered, a control packet without an end, a topic with a wildcard
    assert!(read(&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 1]).is_err());
    assert!(read(&[0x90, 0xFF, 0xFF, 0xFF, 0x7F]).is_err());
    assert!(read(&[0x30, 4, 0, 1, b'#', 0]).is_err());
}

#[test]
fn hostile_bytes_are_never_a_panic() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..100_000 {
        let mut decoder = decoder(if random.bool() { Version::V5 } else { Version::V3 });
        let mut bytes: Vec<u8> = (0..random.usize(0..40)).map(|_| random.u8(..)).collect();
        if let Some(first) = bytes.first_mut() {
            *first = *random.choice([0x30, 0x32, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0].iter()).unwrap();
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Read::Answer(_)) = decoder.next(&mut buffer) {}
    }
}
