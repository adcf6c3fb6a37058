//! A remote WebSocket feed: any bytes as its answer to the handshake, as frames, and as messages.
#![no_main]

use bridges::websocket_client::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((bits, bytes)) = bytes.split_first() else { return };
    fuzz::feeds(*bits, bytes);
});
