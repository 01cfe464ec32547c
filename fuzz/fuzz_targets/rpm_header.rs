//! The header of a package, as rpm's database has one for each.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|blob: &[u8]| hull_chunk::fuzzing::rpm_header(blob));
