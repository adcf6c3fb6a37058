use envelope::{AckPoint, Group, Lane, Principal, Route};
use proptest::prelude::*;

use super::*;

/// Everything that an envelope can have.
fn full() -> Envelope {
    Envelope {
        id: EnvelopeId::new(Uuid::from_u128(0x0192_3f5a_7c7e_7000_8000_0000_0000_0001)).item(3),
        source: "mesh://plant-a/web/press-7".into(),
        kind: "market/rfp@v1.0.0".into(),
        subject: Topic::new("telemetry/räume/7").unwrap(),
        time: Timestamp::from_micros(1_700_000_000_123_456),
        expirytime: Some(Timestamp::from_micros(1_700_000_030_000_000)),
        datacontenttype: Some("application/json".into()),
        dataschema: Some("mesh://plant-a/schemas/market/rfp@v1.0.0".into()),
        data: Data::Opaque(Bytes::from_static(b"{\"celsius\":12.10}\0\xff")),
        performative: Some("propose".into()),
        partitionkey: Some("7".into()),
        residency: vec!["no".into(), "eu".into()],
        classification: Some("internal".into()),
        hops: vec!["plant-b".into()],
        trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("vendor=1")),
        conversation: Some(Box::new(Conversation {
            protocol: Some("mesh://protocols/contract-net@1".into()),
            id: Some("c1".into()),
            inreplyto: Some("m0".into()),
            replyto: Some("$mesh/inbox/a".into()),
            replyby: Some(Timestamp::from_micros(1_700_000_060_000_000)),
            recipients: vec!["a".into(), "b".into()],
        })),
        origin: Some(Box::new(Origin { id: Some("o1".into()), source: Some("urn:x".into()) })),
        priority: None,
    }
}

/// Nothing that an envelope can do without.
fn bare() -> Envelope {
    Envelope {
        expirytime: None,
        datacontenttype: None,
        dataschema: None,
        data: Data::Opaque(Bytes::new()),
        performative: None,
        partitionkey: None,
        residency: Vec::new(),
        classification: None,
        hops: Vec::new(),
        trace: None,
        conversation: None,
        origin: None,
        ..full()
    }
}

fn mapped(envelope: Envelope) -> Mapped {
    Mapped {
        route: Route::new("plant-temperature", "v3"),
        ack: AckPoint::Durable,
        terms: Arc::default(),
        bridge: "web".into(),
        lane: Lane(1),
        principal: Arc::new(Principal::anonymous("plant-a")),
        identity: Identity::Native(Bytes::from_static(b"key-1")),
        retain: true,
        group: Group::One(envelope),
    }
}

fn encoded(envelope: Envelope) -> Vec<u8> {
    let mapped = mapped(envelope);
    let mut record =
        encode("plant-a", Timestamp::from_micros(1_700_000_000_200_000), 42, &mapped, &mapped.group.as_slice()[0]);
    link(&mut record, &[9; 32]);
    record
}

fn expected() -> Header {
    Header {
        previous: [9; 32],
        domain: "plant-a".into(),
        admitted_at: Timestamp::from_micros(1_700_000_000_200_000),
        principal: "anonymous".into(),
        principal_domain: "plant-a".into(),
        bridge: "web".into(),
        mapping: "plant-temperature".into(),
        mapping_version: "v3".into(),
        epoch: 42,
        identity: Identity::Native(Bytes::from_static(b"key-1")),
        retained: true,
    }
}

#[test]
fn a_priority_reads_back_and_one_that_is_none_is_refused() {
    let domain = "plant-a";
    let encoded = |priority| {
        let envelope = Envelope { priority, ..full() };
        encode(domain, Timestamp::from_micros(1), 7, &mapped(envelope.clone()), &envelope)
    };
    for priority in Priority::ALL.into_iter().map(Some).chain([None]) {
        let (header, envelope) = decode(&Bytes::from(encoded(priority))).unwrap();
        assert_eq!((envelope.priority, header.retained), (priority, mapped(full()).retain));
        assert_eq!(envelope_id(&encoded(priority)), Ok(full().id));
    }
    for wrong in [5_u64, 6, 7] {
        assert_eq!(priority(wrong << PRIORITY_SHIFT), Err(DecodeError::Invalid("priority")));
    }
}

#[test]
fn a_record_reads_back_with_all_attributes_and_with_none() {
    for envelope in [full(), bare()] {
        assert_eq!(envelope_id(&encoded(envelope.clone())), Ok(envelope.id));
        assert_eq!(decode(&encoded(envelope.clone()).into()), Ok((expected(), envelope)));
    }
}

#[test]
fn a_fresh_identity_reads_back() {
    let mapped = Mapped { identity: Identity::Fresh(Uuid::from_u128(7)), ..mapped(bare()) };
    let record = encode("a", Timestamp::from_micros(1), 0, &mapped, &mapped.group.as_slice()[0]);
    assert_eq!(envelope_id(&record), Ok(bare().id));
    assert_eq!(decode(&record.into()).unwrap().0.identity, Identity::Fresh(Uuid::from_u128(7)));
}

#[test]
fn reading_copies_no_data() {
    let record = Bytes::from(encoded(full()));
    let (_, envelope) = decode(&record).unwrap();
    let data = envelope.data.bytes();
    assert!(record.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn the_stored_record_of_format_1_is_still_read() {
    let stored = include_bytes!("../../fixtures/record-1.bin");
    assert_eq!(decode(&Bytes::from_static(stored)), Ok((Header { retained: false, ..expected() }, full())));
    assert_eq!(envelope_id(stored), Ok(full().id));
    assert_eq!(admitted_at(stored), Ok(expected().admitted_at));
}

#[test]
fn the_stored_record_of_format_2_is_still_read_and_still_written() {
    let stored = include_bytes!("../../fixtures/record-2.bin");
    assert_eq!(decode(&Bytes::from_static(stored)), Ok((expected(), full())));
    assert_eq!(encoded(full()), stored);
}

#[test]
fn a_flag_that_is_not_known_is_refused() {
    let known = encoded(full());
    let mapped = Mapped { retain: false, ..mapped(full()) };
    let mut other = encode("plant-a", expected().admitted_at, 42, &mapped, &full());
    link(&mut other, &[9; 32]);
    let at = known.iter().zip(&other).position(|(a, b)| a != b).unwrap();
    other[at] = 0x40;
    assert_eq!(decode(&other.clone().into()), Err(DecodeError::Invalid("flags")));
    assert_eq!(envelope_id(&other), Err(DecodeError::Invalid("flags")));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut record = encoded(full());
    record[0] = FORMAT + 1;
    let error = decode(&record.into()).unwrap_err();
    assert_eq!(error.to_string(), "its format is 3, this gateway reads up to 2");
}

#[test]
fn every_cut_is_refused_but_those_in_the_data() {
    let record = encoded(full());
    let data = full().data.as_slice().len();
    for len in 0..record.len() - data {
        assert!(decode(&Bytes::copy_from_slice(&record[..len])).is_err(), "{len}");
    }
}

#[test]
fn a_flipped_bit_changes_the_hash() {
    let mut record = encoded(full());
    let before = hash(&record);
    *record.last_mut().unwrap() ^= 1;
    assert_ne!(hash(&record), before);
}

proptest! {
    #[test]
    fn mutated_records_never_panic(at in 0_usize..600, bits in 1_u8.., cut in 0_usize..600) {
        let mut record = encoded(full());
        let (at, cut) = (at % record.len(), cut % (record.len() + 1));
        record[at] ^= bits;
        record.truncate(cut);
        decode(&record.into()).ok();
    }

    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>) {
        decode(&bytes.clone().into()).ok();
        bytes.splice(0..0, [FORMAT; 33]);
        decode(&bytes.into()).ok();
    }
}
