//! What a peer says it is: `Authorization`, tokens and their claims, key sets, certificates, hashes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::fuzz;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 4 {
        0 => fuzz::headers(bytes),
        1 => fuzz::tokens(&String::from_utf8_lossy(bytes)),
        2 => fuzz::claims(bytes),
        _ => fuzz::material(bytes),
    }
});
