//! An image: what is read is written as an image that reads the same.
#![no_main]

use hull_erofs::image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = image::read(bytes) else {
        return;
    };
    let Ok(written) = image::write(&tree) else {
        return;
    };
    let again = image::read(&written).expect("a written image can be read");
    assert!(hull_erofs::dump::write(&again) == hull_erofs::dump::write(&tree));
});
