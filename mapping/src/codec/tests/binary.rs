use proptest::prelude::*;
use serde_json::{Number, Value};

use super::*;

const BOTH: [Codec; 2] = [Codec::Cbor, Codec::MsgPack];

/// Trees that JSON, CBOR and MessagePack all have.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |value| Number::from_f64(value).map(Value::from)),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(".{0,12}", inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn cbor_of(value: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_others_encode_is_read_as_it_was(tree in tree()) {
        prop_assert_eq!(value(Codec::Cbor, cbor_of(&tree)), tree.clone());
        prop_assert_eq!(value(Codec::MsgPack, rmp_serde::to_vec(&tree).unwrap()), tree);
    }

    #[test]
    fn no_part_of_a_message_passes_for_the_whole(tree in tree(), at in any::<proptest::sample::Index>()) {
        for (codec, whole) in BOTH.into_iter().zip([cbor_of(&tree), rmp_serde::to_vec(&tree).unwrap()]) {
            prop_assert!(decoded(codec, &whole[..at.index(whole.len())]).is_err());
            prop_assert!(decoded(codec, [&whole[..], b"\0"].concat()).unwrap_err().contains("1 bytes after the end"));
        }
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for codec in BOTH {
            let _ = decoded(codec, &bytes);
        }
    }

    #[test]
    fn an_f32_is_the_number_that_it_is(number in any::<f32>().prop_filter("finite", |number| number.is_finite())) {
        let msgpack = decoded(Codec::MsgPack, rmp_serde::to_vec(&number).unwrap()).unwrap();
        prop_assert_eq!(msgpack.parse::<f64>().unwrap(), f64::from(number));
        let cbor = decoded(Codec::Cbor, [&[0xfa][..], &number.to_be_bytes()].concat()).unwrap();
        prop_assert_eq!(cbor, msgpack);
    }

    #[test]
    fn a_bignum_keeps_all_digits(number in any::<i128>()) {
        let bytes = if number < 0 { -1 - number } else { number }.to_be_bytes();
        let head = [if number < 0 { 0xc3 } else { 0xc2 }, 0x50];
        prop_assert_eq!(decoded(Codec::Cbor, [&head[..], &bytes].concat()).unwrap(), number.to_string());
    }
}

#[test]
fn every_half_is_the_number_that_ciborium_reads() {
    for bits in 0..=u16::MAX {
        let bytes = [&[0xf9][..], &bits.to_be_bytes()].concat();
        let number: f64 = ciborium::from_reader(&bytes[..]).unwrap();
        match decoded(Codec::Cbor, &bytes) {
            Ok(text) => assert_eq!(text.parse::<f64>().unwrap(), number),
            Err(_) => assert!(!number.is_finite()),
        }
    }
}

/// The examples of RFC 8949, appendix A, that are JSON.
#[test]
fn the_examples_of_the_rfc_are_read() {
    for (hex, json) in [
        ("1bffffffffffffffff", "18446744073709551615"),
        ("c249010000000000000000", "18446744073709551616"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("c349010000000000000000", "-18446744073709551617"),
        ("fb3ff199999999999a", "1.1"),
        ("f97bff", "65504.0"),
        ("fadf800000", "-1.8446744073709552e19"),
        ("fb7e37e43c8800759c", "1e300"),
        ("f7", "null"),
        ("c11a514b67b0", "1363896240"),
        ("d74401020304", "\"AQIDBA==\""),
        ("40", "\"\""),
        ("62225c", "\"\\\"\\\\\""),
        ("5f42010243030405ff", "\"AQIDBAU=\""),
        ("7f657374726561646d696e67ff", "\"streaming\""),
        ("9f018202039f0405ffff", "[1,[2,3],[4,5]]"),
        ("bf61610161629f0203ffff", "{\"a\":1,\"b\":[2,3]}"),
        ("d9d9f780", "[]"),
    ] {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect();
        assert_eq!(decoded(Codec::Cbor, bytes).as_deref(), Ok(json), "{hex}");
    }
}

#[test]
fn what_json_does_not_have_is_refused_at_its_place() {
    for (payload, says) in [
        (&b"\xf9\x7c\x00"[..], "CBOR at byte 0: inf is not a number"),
        (b"\x81\xfa\x7f\xc0\x00\x00", "at byte 1: NaN is not a number"),
        (b"\xa1\x01\x02", "at byte 1: a key that is not text"),
        (b"\xa2\x61a\x01\x61a\x02", "at byte 4: duplicate key \"a\""),
        (b"\x81\xe0", "at byte 1: simple value 0"),
        (b"\xff", "at byte 0: a break"),
        (b"\x1c", "begins no item"),
        (b"\x1f", "major type 0 without a length"),
        (b"\x62\xc3\x28", "at byte 1: not UTF-8"),
        (b"\x7f\x61\xc3\x61\xa9\xff", "at byte 2: not UTF-8"),
        (b"\x7f\x41a\xff", "has a piece that is none"),
        (b"\x7f\x7f\x61a\xff\xff", "has a piece that is none"),
        (b"\xc2\x01", "a bignum that is no byte string"),
        (b"", "at byte 0: ends too early"),
    ] {
        refused(Codec::Cbor, payload, says);
    }
    for (payload, says) in [
        (&b"\xca\x7f\x80\x00\x00"[..], "MessagePack at byte 0: inf is not a number"),
        (b"\x81\x01\x02", "at byte 1: a key that is not text"),
        (b"\x82\xa1a\x01\xa1a\x02", "at byte 4: duplicate key \"a\""),
        (b"\x91\xd6\xff\0\0\0\0", "at byte 1: an extension type"),
        (b"\xc1", "begins no item"),
        (b"\xa2\xc3\x28", "at byte 1: not UTF-8"),
    ] {
        refused(Codec::MsgPack, payload, says);
    }
}

#[test]
fn a_length_that_lies_costs_nothing() {
    refused(
        Codec::Cbor,
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "says that 18446744073709551615 bytes follow, 1 do",
    );
    refused(Codec::Cbor, b"\x7a\xff\xff\xff\xff\x61\x61\x61", "says that 4294967295 bytes follow, 3 do");
    refused(Codec::Cbor, b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x01", "at byte 10: ends too early");
    refused(Codec::MsgPack, b"\xdb\xff\xff\xff\xff\x61", "says that 4294967295 bytes follow, 1 do");
    refused(Codec::MsgPack, b"\xc6\xff\xff\xff\xff", "says that 4294967295 bytes follow, 0 do");
    refused(Codec::MsgPack, b"\xdd\xff\xff\xff\xff\x01", "at byte 6: ends too early");
    refused(Codec::MsgPack, b"\xdf\xff\xff\xff\xff\xa1a\x01", "at byte 8: ends too early");
    let bignum = [&b"\xc2\x58\xc8"[..], &[1; 200]].concat();
    refused(Codec::Cbor, bignum, "a bignum of 200 bytes, limit is 128");
    refused(Codec::Cbor, [&b"\xc2\x58\x80"[..], &[255; 128]].concat(), "at byte 1: number out of range");
}

#[test]
fn nesting_ends_at_128_levels() {
    for (codec, open, leaf) in [(Codec::Cbor, 0x81, 0xf6), (Codec::MsgPack, 0x91, 0xc0), (Codec::Cbor, 0x9f, 0xff)] {
        let nested = |levels: usize| {
            let mut bytes = vec![open; levels];
            bytes.extend(vec![leaf; if leaf == 0xff { levels } else { 1 }]);
            decoded(codec, bytes)
        };
        assert!(nested(128).is_ok());
        let detail = nested(129).unwrap_err();
        assert!(detail.contains("at byte 128: nested deeper than 128 levels"), "{detail}");
        assert!(nested(1_000_000).unwrap_err().contains("nested deeper"));
    }
    assert_eq!(decoded(Codec::Cbor, [[0xc1; 100_000].as_slice(), b"\x01"].concat()).as_deref(), Ok("1"));
}
