//! An uncompressed layer: imported, it gives its bytes back, and its entries merge to a tree or are refused.
#![no_main]

use hull_fuzz::scratch;
use hull_oci::{Digest, layer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let store = scratch::store();
    let session = store.session().expect("nobody else uses the store");
    let Ok(imported) = layer::import(&session, &mut &bytes[..]) else {
        return;
    };
    let record = imported
        .commit(&session, &Digest::sha256(bytes))
        .expect("there is room");
    let mut back = Vec::new();
    layer::export(&store, &record, &mut back).expect("the record is whole");
    assert!(back == bytes, "a record gives the layer's bytes back");
    if let Ok(tree) = layer::merge(&store, &[record]) {
        drop(hull_erofs::image::write(&tree));
    }
});
