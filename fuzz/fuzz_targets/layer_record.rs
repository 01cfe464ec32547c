//! A layer record, as raw bytes of an object and as an archive in a well-formed one.
#![no_main]

use hull_fuzz::scratch;
use hull_oci::layer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (well_formed, bytes) = input;
    let store = scratch::store();
    let session = store.session().expect("nobody else uses the store");
    let record = if well_formed {
        let mut record = session.stream(layer::CONTENT_TYPE);
        record.inline(bytes).expect("it is kept in memory");
        session.put_stream("hull-layer-fuzzed", record)
    } else {
        session.put(bytes)
    };
    let record = record.expect("there is room");
    if let Ok(entries) = layer::entries(&store, &record) {
        for entry in entries {
            if entry.is_err() {
                break;
            }
        }
    }
    drop(layer::export(&store, &record, &mut std::io::sink()));
    drop(layer::merge(&store, &[record]));
});
