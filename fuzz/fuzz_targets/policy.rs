//! A policy.json.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for name in [
        "registry.example:5000/team/os:1",
        "oci:/srv/images/os:1",
        "containers-storage:registry.example/os",
    ] {
        let reference = name.parse().expect("it is a reference");
        hull_oci::fuzzing::policy(bytes, &reference);
    }
});
