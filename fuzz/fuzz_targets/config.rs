//! An image's configuration, alone and against the manifest that leads to it.
#![no_main]

use hull_oci::ImageConfig;
use hull_oci::manifest::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (config, manifest) = input;
    let Ok(config) = ImageConfig::parse(config) else {
        return;
    };
    if let Ok(Document::Manifest(manifest)) = Document::parse(manifest, None) {
        drop(config.check_against(&manifest));
    }
});
