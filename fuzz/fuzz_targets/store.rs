//! The store: any bytes as a row of any kind, as somebody else might have written it.
#![no_main]

use backbone::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    fuzz::rows(*which, bytes);
});
