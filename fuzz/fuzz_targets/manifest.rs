//! A manifest or an index from a registry.
#![no_main]

use hull_oci::manifest::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Option<&str>, &[u8])| {
    let (media_type, bytes) = input;
    if let Err(error) = Document::parse(bytes, media_type) {
        assert!(
            !error.to_string().contains('\u{1b}'),
            "a message must not reach the terminal's controls"
        );
    }
});
