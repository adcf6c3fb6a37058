//! Hostile input for the listener: what the fuzz target calls with any bytes. Each entry panics where a promise is broken.
//!
//! [`packets`] reads the bytes as packets, [`sequences`] as things that happen to a session, and [`connections`] as clients
//! that do whatever they like, well formed or not. [`answers`] reads them as a remote broker's, for the bridge that is its
//! client.

mod clients;
mod model;

use bytes::BytesMut;

use super::packet::{AnswerDecoder, Decoder, Next, Read, Version};

/// Bytes that say what happens, until they are used up.
struct Script<'b>(&'b [u8]);

// === impl Script ===

impl<'b> Script<'b> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// 0 where there is none.
    fn byte(&mut self) -> u8 {
        self.next().unwrap_or_default()
    }

    fn take(&mut self, most: usize) -> &'b [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Whatever comes, and however it is cut, packets are the same, or there is an error; never a panic.
///
/// # Panics
/// If they are not.
pub fn packets(bytes: &[u8]) {
    for level in [4, 5] {
        let whole = read(level, bytes.chunks(bytes.len().max(1)));
        let cut = read(level, bytes.chunks(3));
        assert_eq!(whole, cut, "level {level}");
    }
}

/// What there is to read behind a CONNECT of this level, and whether it ends with an error.
fn read<'b>(level: u8, chunks: impl Iterator<Item = &'b [u8]>) -> (Vec<String>, bool) {
    let mut decoder = Decoder::new(65_536);
    let first = [&[0x10, if level == 5 { 13 } else { 12 }, 0, 4][..], b"MQTT", &[level, 2, 0, 0]].concat();
    let first = [&first[..], if level == 5 { &[0, 0, 0][..] } else { &[0, 0] }].concat();
    let (mut buffer, mut packets) = (BytesMut::from(&first[..]), Vec::new());
    for chunk in [&[][..]].into_iter().chain(chunks) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Next::Packet(packet)) => packets.push(format!("{packet:?}")),
                Ok(Next::Incomplete(_)) => break,
                Err(_) => return (packets, true),
            }
        }
    }
    (packets, false)
}

/// Whatever a remote broker sends, and however it is cut, its packets are the same, or there is an error; never a panic. No
/// more is waited for than the limit lets a packet have.
///
/// # Panics
/// If it is not so.
pub fn answers(bytes: &[u8]) {
    for version in [Version::V3, Version::V5] {
        for with_welcome in [false, true] {
            let whole = heard(version, with_welcome, bytes.chunks(bytes.len().max(1)));
            let cut = heard(version, with_welcome, bytes.chunks(3));
            assert_eq!(whole, cut, "{version:?}");
        }
    }
}

/// What there is to read of a broker, behind a CONNACK or not, and whether it ends with an error.
fn heard<'b>(version: Version, with_welcome: bool, chunks: impl Iterator<Item = &'b [u8]>) -> (Vec<String>, bool) {
    const LIMIT: usize = 1_024;
    /// What a packet may have that is no message.
    const CONTROL_LIMIT: usize = 131_072;
    let mut decoder = AnswerDecoder::new(version, LIMIT);
    let welcome: &[u8] = match (with_welcome, version) {
        (false, _) => &[],
        (true, Version::V3) => &[0x20, 2, 0, 0],
        (true, Version::V5) => &[0x20, 3, 0, 0, 0],
    };
    let (mut buffer, mut read) = (BytesMut::from(welcome), Vec::new());
    for chunk in [&[][..]].into_iter().chain(chunks) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Read::Answer(answer)) => read.push(format!("{answer:?}")),
                Ok(Read::Incomplete(size)) => {
                    assert!(size.is_none_or(|size| size <= CONTROL_LIMIT), "{size:?} bytes are waited for");
                    break;
                }
                Err(_) => return (read, true),
            }
        }
    }
    (read, false)
}

/// What happens to a session, with crashes: exactly once stays that.
///
/// # Panics
/// If it does not.
pub fn sequences(bytes: &[u8]) {
    model::run(Script(bytes));
}

/// Clients of one listener: what they are sent is sound, and once they are gone nothing of them stays.
///
/// # Panics
/// If it is not, or something does.
pub fn connections(bytes: &[u8]) {
    clients::run(Script(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(runs: usize, of: fn(&[u8])) {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for run in 0..runs {
            let bytes: Vec<u8> = (0..random.usize(0..400)).map(|_| random.u8(..)).collect();
            let ran = std::panic::catch_unwind(|| of(&bytes));
            assert!(ran.is_ok(), "seed {seed}, run {run}: {bytes:?}");
        }
    }

    #[test]
    fn any_bytes_are_packets_or_an_error() {
        random(20_000, packets);
    }

    #[test]
    fn any_bytes_of_a_broker_are_packets_or_an_error() {
        random(20_000, answers);
    }

    /// Well formed but for a few bytes, so that what is behind the fixed header is reached as well.
    #[test]
    fn packets_of_a_broker_with_a_byte_that_is_another_are_packets_or_an_error() {
        const PACKETS: [&[u8]; 10] = [
            &[0x32, 11, 0, 3, b'a', b'/', b'b', 0, 1, 2, 1, 1, b'x'],
            &[0x34, 8, 0, 3, b'a', b'/', b'b', 0, 2, 0],
            &[0x40, 4, 0, 1, 0x10, 0],
            &[0x50, 2, 0, 2],
            &[0x62, 3, 0, 3, 0x92],
            &[0x70, 2, 0, 4],
            &[0x90, 5, 0, 5, 0, 1, 0x87],
            &[0xB0, 4, 0, 6, 0, 0],
            &[0xD0, 0],
            &[0xE0, 8, 0x8B, 6, 0x1F, 0, 3, b'b', b'y', b'e'],
        ];
        random(20_000, |bytes| {
            let packets: Vec<u8> = bytes.iter().take(8).flat_map(|n| PACKETS[usize::from(n % 10)]).copied().collect();
            let mut broken = packets;
            for change in bytes.chunks_exact(2).skip(4).take(3) {
                if let Some(byte) = broken.get_mut(usize::from(change[0]) % 100) {
                    *byte = change[1];
                }
            }
            answers(&broken);
        });
    }

    #[test]
    fn whatever_happens_to_a_session_exactly_once_stays_that() {
        random(20_000, sequences);
    }

    #[test]
    fn whatever_clients_do_the_listener_answers_as_the_standard_says_and_forgets_them() {
        random(400, connections);
    }
}
