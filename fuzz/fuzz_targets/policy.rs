//! What an operator writes: the policy file, Cedar policies, the file of users.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::fuzz;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 3 {
        0 => fuzz::policy_file(&text),
        1 => fuzz::cedar(&text),
        _ => fuzz::users(&text),
    }
});
