//! What lies where a signature or a key is looked for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hull_oci::fuzzing::signature(bytes));
