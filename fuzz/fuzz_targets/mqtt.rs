//! MQTT: any bytes as packets of a client or of a broker, as what happens to a session, and as what clients do.
#![no_main]

use bridges::mqtt::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 5 {
        0 => fuzz::packets(bytes),
        1 | 2 => fuzz::sequences(bytes),
        4 => fuzz::answers(bytes),
        _ => fuzz::connections(bytes),
    }
});
