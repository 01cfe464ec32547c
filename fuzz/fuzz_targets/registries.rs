//! A registries.conf.
#![no_main]

use hull_oci::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let digest = format!("registry.example/os@sha256:{}", "0".repeat(64));
    for name in ["registry.example:5000/team/os:1", &digest] {
        if let Ok(Reference::Registry(reference)) = name.parse() {
            hull_oci::fuzzing::registries(text, &reference);
        }
    }
});
