//! A composefs dump: what is read is written so that it is read back as the same.
#![no_main]

use hull_erofs::dump;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = dump::parse(bytes) else {
        return;
    };
    let written = dump::write(&tree);
    let again = dump::parse(&written).expect("a written dump can be read");
    assert!(dump::write(&again) == written);
});
