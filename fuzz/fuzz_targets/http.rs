//! What HTTP and WebSocket clients send, and what webhooks are told: any bytes as each of the parts that are read by hand.
#![no_main]

use bridges::{http::fuzz, webhook::fuzz as webhook};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    if let step @ 128.. = *which {
        return fuzz::wire(usize::from(step - 128), bytes);
    }
    let text = || String::from_utf8_lossy(bytes);
    match which % 10 {
        0 => fuzz::paths(&text()),
        1 => fuzz::queries(&text()),
        2 => fuzz::headers(bytes),
        3 => fuzz::bodies(bytes),
        4 => fuzz::batches(bytes),
        5 => fuzz::frames(false, bytes),
        6 => fuzz::frames(true, bytes),
        7 => webhook::addresses(&text()),
        8 => webhook::writings(&text()),
        _ => {
            let (status, value) = bytes.split_at(bytes.len().min(2));
            let status = status.iter().fold(0, |number, byte| number << 8 | u16::from(*byte));
            webhook::answers(100 + status % 900, value);
        }
    }
});
