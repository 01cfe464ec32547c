//! Parsers that are not public, for the fuzz targets.

pub use crate::components::fuzz_rpm_header as rpm_header;
