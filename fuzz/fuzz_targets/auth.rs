//! A file with passwords: auth.json, or the older .dockercfg.
#![no_main]

use hull_oci::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (bare, bytes) = input;
    for name in ["registry.example:5000/team/os:1", "docker.io/library/debian"] {
        if let Ok(Reference::Registry(reference)) = name.parse() {
            hull_oci::fuzzing::auth(bytes, bare, &reference);
        }
    }
});
