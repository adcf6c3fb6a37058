use flate2::{Compression, write::GzEncoder};

use super::*;

const IN_FLIGHT: usize = 1 << 20;

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn both(bytes: &[u8]) -> [(Coding, Vec<u8>); 2] {
    [(Coding::Gzip, gzip_of(bytes)), (Coding::Zstd, zstd_of(bytes))]
}

/// What comes out, or the word for why nothing does; and that every permit is accounted for.
async fn open(coding: Coding, body: &[u8], max: usize) -> Result<Bytes, &'static str> {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    let opened = inflate(coding, body, max, in_flight.clone()).await;
    let held = opened.as_ref().map_or(0, |(bytes, _)| bytes.len());
    assert_eq!(in_flight.available_permits(), IN_FLIGHT - held);
    match opened {
        Ok((bytes, _held)) => Ok(bytes),
        Err(InflateError::TooLarge) => Err("too large"),
        Err(InflateError::Full) => Err("full"),
        Err(InflateError::Broken(_)) => Err("broken"),
    }
}

#[tokio::test]
async fn what_was_encoded_comes_out_again() {
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(200_000).collect();
    for bytes in [&b""[..], b"x", &[b'a'; 100_000], &noise] {
        for (coding, body) in both(bytes) {
            assert_eq!(open(coding, &body, bytes.len()).await.unwrap(), bytes, "{coding:?} {}", bytes.len());
        }
    }
}

#[tokio::test]
async fn a_bomb_stops_at_the_limit() {
    let bomb = vec![0; 64 << 20];
    for (coding, body) in both(&bomb) {
        assert!(body.len() < 100_000);
        assert_eq!(open(coding, &body, 65_536).await, Err("too large"), "{coding:?}");
    }
}

#[tokio::test]
async fn one_byte_over_the_limit_is_too_large() {
    for (coding, body) in both(&[b'a'; 1_001]) {
        assert_eq!(open(coding, &body, 1_000).await, Err("too large"), "{coding:?}");
        assert!(open(coding, &body, 1_001).await.is_ok(), "{coding:?}");
    }
}

#[tokio::test]
async fn what_the_bytes_in_flight_have_no_room_for_is_not_opened() {
    for (coding, body) in both(&vec![0; 2 * IN_FLIGHT]) {
        assert_eq!(open(coding, &body, 4 * IN_FLIGHT).await, Err("full"), "{coding:?}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_broken_wherever_it_ends() {
    let text: Vec<u8> = (0..4_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
    for (coding, body) in both(&text) {
        for end in (0..body.len()).step_by(7).chain(body.len() - 9..body.len()) {
            assert_eq!(open(coding, &body[..end], 1 << 20).await, Err("broken"), "{coding:?} {end}");
        }
    }
}

#[tokio::test]
async fn a_damaged_body_is_broken_and_so_is_what_follows_it() {
    for (coding, mut body) in both(b"{\"celsius\": 10.0}") {
        let trailed = [&body[..], b"garbage that is no frame"].concat();
        assert_eq!(open(coding, &trailed, 1 << 20).await, Err("broken"), "{coding:?}");
        assert_eq!(open(coding, &[b'x'; 100], 1 << 20).await, Err("broken"), "{coding:?}");
        // gzip's sum, which zstd leaves out unless it is asked
        if coding == Coding::Gzip {
            let at = body.len() - 5;
            body[at] ^= 1;
            assert_eq!(open(coding, &body, 1 << 20).await, Err("broken"));
        }
    }
}

#[tokio::test]
async fn members_and_frames_one_behind_the_other_are_one_body() {
    for (coding, mut body) in both(b"first ") {
        body.extend(both(b"second").into_iter().find(|(other, _)| *other == coding).unwrap().1);
        assert_eq!(open(coding, &body, 12).await.unwrap(), "first second", "{coding:?}");
        assert_eq!(open(coding, &body, 11).await, Err("too large"), "{coding:?}");
    }
}

#[tokio::test]
async fn what_is_encoded_twice_is_opened_once() {
    let inner = gzip_of(b"x");
    assert_eq!(open(Coding::Gzip, &gzip_of(&inner), 1 << 10).await.unwrap(), inner);
}

#[tokio::test]
async fn a_window_over_eight_mebibytes_is_refused_before_it_is_allocated() {
    // magic, a frame without its size, a window of 2^31, an empty last block
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    assert_eq!(open(Coding::Zstd, &frame, 1 << 20).await, Err("broken"));
    let small = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (23 - 10) << 3, 0x01, 0x00, 0x00];
    assert_eq!(open(Coding::Zstd, &small, 1 << 20).await.unwrap(), "");
}

#[tokio::test]
async fn no_bytes_make_a_decoder_panic() {
    let seeds = [gzip_of(&[7; 3_000]), zstd_of(&[7; 3_000]), gzip_of(b"abc"), zstd_of(b"abc")];
    for round in 0..4_000 {
        let mut body = seeds[round % seeds.len()].clone();
        for _ in 0..fastrand::usize(1..4) {
            let at = fastrand::usize(..body.len());
            body[at] = fastrand::u8(..);
        }
        for coding in [Coding::Gzip, Coding::Zstd] {
            if let Ok(bytes) = open(coding, &body, 10_000).await {
                assert!(bytes.len() <= 10_000);
            }
        }
    }
}
