//! Hostile input for the listener: what the fuzz target calls with any bytes. Each entry panics where a promise is broken.
//!
//! [`packets`] reads the bytes as packets, [`sequences`] as things that happen to a session, and [`connections`] as clients
//! that do whatever they like, well formed or not.

mod clients;
mod model;

use bytes::BytesMut;

use super::packet::{Decoder, Next};

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
    fn whatever_happens_to_a_session_exactly_once_stays_that() {
        random(20_000, sequences);
    }

    #[test]
    fn whatever_clients_do_the_listener_answers_as_the_standard_says_and_forgets_them() {
        random(400, connections);
    }
}
