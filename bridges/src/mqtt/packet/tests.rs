//! Against another implementation: what `mqtt-protocol-core` writes is read here as it was meant, what is written here it
//! reads so, and of hostile bytes nothing is taken that it reads in another way.

use bytes::{Bytes, BytesMut};
use mqtt_protocol_core::mqtt::{
    Arc,
    packet::{Properties as TheirProperties, Property, Qos as TheirQos, v3_1_1, v5_0},
};

use super::*;

const FIRST: &[u8] = &[0x10, 0x0D, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 0];
const FIRST_V3: &[u8] = &[0x10, 0x0C, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0];

/// A decoder behind CONNECT.
fn decoder(version: Version) -> Decoder {
    let mut decoder = Decoder::new(1 << 20);
    let mut first = BytesMut::from(if version == Version::V5 { FIRST } else { FIRST_V3 });
    assert!(matches!(decoder.next(&mut first), Ok(Next::Packet(Packet::Connect(_)))));
    decoder
}

fn read(version: Version, bytes: &[u8]) -> Result<Packet, Broken> {
    match decoder(version).next(&mut BytesMut::from(bytes))? {
        Next::Packet(packet) => Ok(packet),
        Next::Incomplete(_) => panic!("{bytes:?} is not whole"),
    }
}

#[test]
fn a_publish_of_theirs_is_read_as_it_was_meant() {
    let properties: Vec<Property> = vec![
        mqtt_protocol_core::mqtt::packet::ContentType::new("application/json").unwrap().into(),
        mqtt_protocol_core::mqtt::packet::MessageExpiryInterval::new(9).unwrap().into(),
        mqtt_protocol_core::mqtt::packet::UserProperty::new("a", "b").unwrap().into(),
    ];
    let theirs = v5_0::Publish::builder()
        .topic_name("a/é")
        .unwrap()
        .qos(TheirQos::ExactlyOnce)
        .retain(true)
        .packet_id(7_u16)
        .props(TheirProperties::from(properties))
        .payload("hello")
        .build()
        .unwrap();
    let Ok(Packet::Publish(ours)) = read(Version::V5, &theirs.to_continuous_buffer()) else { panic!("a PUBLISH") };
    assert_eq!((&*ours.topic, ours.id, ours.qos, ours.retain, ours.dup), ("a/é", 7, Qos::ExactlyOnce, true, false));
    assert_eq!(ours.payload, "hello");
    let properties = ours.properties.unwrap();
    assert_eq!((properties.content_type.as_deref(), properties.message_expiry), (Some("application/json"), Some(9)));
    assert_eq!(properties.user, [("a".into(), "b".into())]);
    let theirs = v3_1_1::Publish::builder().topic_name("a").unwrap().qos(TheirQos::AtMostOnce).payload("x").build();
    let Ok(Packet::Publish(ours)) = read(Version::V3, &theirs.unwrap().to_continuous_buffer()) else {
        panic!("a PUBLISH")
    };
    assert_eq!((&*ours.topic, &ours.payload[..]), ("a", &b"x"[..]));
}

#[test]
fn a_publish_of_ours_is_read_as_it_was_meant() {
    let mut user = Vec::new();
    user_property(&mut user, "a", "b");
    let message = Outgoing {
        dup: true,
        qos: Qos::AtLeastOnce,
        retain: true,
        topic: "a/b",
        id: 300,
        alias: Some(5),
        subscription_id: Some(200),
        is_text: true,
        message_expiry: Some(60),
        content_type: Some("text/plain"),
        response_topic: Some("answers"),
        correlation: Some(b"c1"),
        user: &user,
        payload: b"payload",
    };
    let mut out = BytesMut::new();
    assert!(publish(&mut out, Version::V5, &message, None));
    assert!(!publish(&mut BytesMut::new(), Version::V5, &message, Some(out.len() as u32 - 1)));
    assert!(publish(&mut BytesMut::new(), Version::V5, &message, Some(out.len() as u32)));
    let (theirs, _) = v5_0::Publish::parse(out[0] & 0x0F, Arc::from(&out[2..])).unwrap();
    assert_eq!(
        (theirs.topic_name(), theirs.packet_id(), theirs.dup(), theirs.retain()),
        ("a/b", Some(300), true, true)
    );
    assert_eq!((theirs.payload().as_slice(), theirs.props().len()), (&b"payload"[..], 8));
    let mut out = BytesMut::new();
    assert!(publish(&mut out, Version::V3, &message, None));
    let (theirs, _) = v3_1_1::Publish::parse(out[0] & 0x0F, Arc::from(&out[2..])).unwrap();
    assert_eq!((theirs.topic_name(), theirs.payload().as_slice()), ("a/b", &b"payload"[..]));
}

#[test]
fn the_answers_of_ours_are_read_as_they_were_meant() {
    let says = ConnAck {
        session_present: true,
        assigned_client_id: Some("c"),
        receive_maximum: 9,
        maximum_packet: 99,
        ..ConnAck::default()
    };
    let mut out = BytesMut::new();
    connack(&mut out, Version::V5, Reason::SUCCESS, &says);
    let (theirs, _) = v5_0::Connack::parse(&out[2..]).unwrap();
    assert!(theirs.session_present() && theirs.props().len() == 5, "{theirs:?}");
    let mut out = BytesMut::new();
    ack(&mut out, Version::V5, Acked::Publish, 7, Reason::NOT_AUTHORIZED, Some("because"));
    let (theirs, _) = v5_0::Puback::parse(&out[2..]).unwrap();
    assert_eq!((theirs.packet_id(), theirs.reason_code().map(|code| code as u8)), (7, Some(0x87)));
    let mut out = BytesMut::new();
    suback(&mut out, Version::V5, 7, &[Reason(1), Reason::FILTER_INVALID], Some("because"));
    let (theirs, _) = v5_0::Suback::parse(&out[2..]).unwrap();
    assert_eq!(theirs.props().len(), 1, "{theirs:?}");
    assert_eq!(theirs.reason_codes().iter().map(|code| *code as u8).collect::<Vec<_>>(), [1, 0x8F]);
    let mut out = BytesMut::new();
    disconnect(&mut out, Version::V5, Reason::SERVER_BUSY, Some("why"));
    let (theirs, _) = v5_0::Disconnect::parse(&out[2..]).unwrap();
    assert_eq!(theirs.reason_code().map(|code| code as u8), Some(0x89));
}

#[test]
fn of_hostile_bytes_nothing_is_taken_that_another_reads_in_another_way() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let whole = [
        &[0x32, 0x16, 0, 3, b'a', b'/', b'b', 0, 7, 11, 0x02, 0, 0, 0, 9, 0x26, 0, 1, b'k', 0, 0, b'x', b'y', b'z'][..],
        &[0x3D, 0x0A, 0, 1, b'a', 0, 1, 3, 0x23, 0, 1, b'p'],
    ];
    let mut taken = 0;
    for _ in 0..200_000 {
        let mut bytes = random.choice(whole.iter()).unwrap().to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(2..bytes.len());
            bytes[at] = random.u8(..);
        }
        let Ok(Packet::Publish(ours)) = read(Version::V5, &bytes) else { continue };
        taken += 1;
        let theirs = v5_0::Publish::parse(bytes[0] & 0x0F, Arc::from(&bytes[2..]));
        let (theirs, _) = theirs.unwrap_or_else(|error| panic!("seed {seed}: {bytes:02x?} {ours:?} {error:?}"));
        assert_eq!(theirs.topic_name(), &*ours.topic, "seed {seed}");
        assert_eq!(theirs.packet_id().unwrap_or(0), ours.id, "seed {seed}");
        assert_eq!(Bytes::copy_from_slice(theirs.payload().as_slice()), ours.payload, "seed {seed}");
    }
    assert!(taken > 1_000, "{taken}");
}

#[test]
fn every_byte_may_come_by_itself() {
    let mut decoder = Decoder::new(1 << 20);
    let mut buffer = BytesMut::new();
    let mut packets = 0;
    for byte in [FIRST, &[0x30, 4, 0, 1, b'a', 0][..], &[0xC0, 0], &[0xE0, 0]].concat() {
        buffer.extend_from_slice(&[byte]);
        packets += usize::from(matches!(decoder.next(&mut buffer).unwrap(), Next::Packet(_)));
    }
    assert_eq!((packets, buffer.len()), (4, 0));
}

#[test]
fn a_packet_at_the_limit_is_read_and_one_over_it_refused_before_it_is_there() {
    let mut decoder = decoder(Version::V5);
    decoder.limit(10);
    assert_eq!(decoder.next(&mut BytesMut::from(&[0x30, 8, 0, 1][..])), Ok(Next::Incomplete(Some(10))));
    let over = decoder.next(&mut BytesMut::from(&[0x30, 9][..])).unwrap_err();
    assert_eq!(over.reason, Reason::PACKET_TOO_LARGE);
}

#[test]
fn a_connect_shows_no_secret() {
    let mut bytes = BytesMut::from(&[0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 4, 0xC2, 0, 0, 0, 0, 0, 1, b'u', 0, 6][..]);
    bytes.extend_from_slice(b"s3cr3t");
    bytes[1] = bytes.len() as u8 - 2;
    let Ok(Next::Packet(packet)) = Decoder::new(1 << 20).next(&mut bytes) else { panic!("a CONNECT") };
    assert!(!format!("{packet:?}").contains("s3cr3t"));
}
