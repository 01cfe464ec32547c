//! What a person writes for an image: whatever is accepted is printed so that it is read back as the same.
#![no_main]

use hull_oci::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else {
        return;
    };
    let printed = reference.to_string();
    let again: Reference = printed.parse().expect("a printed reference is one");
    assert_eq!(reference, again, "{printed}");
});
